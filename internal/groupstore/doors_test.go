package groupstore_test

import (
	"context"
	"strings"
	"time"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/lifetime"
)

// A pushing is a change as these tests write it: with its body, and an origin of a source that has a name.
type pushing struct {
	Operation change.Operation
	Key       grouping.Key
	Body      *exposition.Body
	At        time.Time
	Origin    *origin
	Waited    bool
	Current   func() bool
	// Agent is that of a push without an origin.
	Agent       string
	MayBeHidden bool
	Life        lifetime.Declaration
	Failed      string
}

// An origin is of a source that is named as author, zero byte and journal, or by the author alone.
type origin struct {
	Source   string
	Sequence uint64
	Digest   [16]byte
}

// source returns the two parts of the name of a source.
func source(name string) (agent string, journal [16]byte) {
	agent, rest, _ := strings.Cut(name, "\x00")
	copy(journal[:], rest)
	return agent, journal
}

func (p pushing) change() *change.Change {
	c := &change.Change{Operation: p.Operation, Key: p.Key, At: p.At, Waited: p.Waited, Current: p.Current, Agent: p.Agent, MayBeHidden: p.MayBeHidden, Life: p.Life, Failed: p.Failed}
	if o := p.Origin; o != nil {
		c.Origin = &change.Origin{Sequence: o.Sequence, Digest: o.Digest}
		c.Agent, c.Origin.Journal = source(o.Source)
	}
	return c
}

// apply pushes, and returns the outcome, also as an error.
func apply(ctx context.Context, s *groupstore.Store, p pushing) (change.Outcome, error) {
	o, _ := s.Apply(ctx, p.change(), groupstore.Content{Body: p.Body})
	return o, o.Err()
}

// pushValues pushes a body that has just the series of the sets. That the group does not have them says taken.
func pushValues(ctx context.Context, s *groupstore.Store, p pushing, sets *groupstore.Sets, values string) (taken bool, err error) {
	o, found := s.Apply(ctx, p.change(), groupstore.Content{Sets: sets, Values: values})
	if found == groupstore.Unmet {
		return false, nil
	}
	return true, o.Err()
}

// fail notes that an agent rejected a push.
func fail(ctx context.Context, s *groupstore.Store, p pushing, reason string) (change.Outcome, error) {
	p.Operation = change.Fail
	o, _ := s.Apply(ctx, p.change(), groupstore.Content{Fault: reason})
	return o, o.Err()
}

// mark lets a push be decided that is refused. The error is another one than that.
func mark(ctx context.Context, s *groupstore.Store, p pushing) (change.Outcome, error) {
	c := p.change()
	c.Refused = change.Refuse(change.TooLarge, "refused on its way")
	o, _ := s.Apply(ctx, c, groupstore.Content{})
	if o.Kind == change.TooLarge && o.Detail == "refused on its way" {
		return o, nil
	}
	return o, o.Err()
}

func wipe(ctx context.Context, s *groupstore.Store) error {
	_, err := apply(ctx, s, pushing{Operation: change.Wipe})
	return err
}

func forget(s *groupstore.Store, source string, through uint64) {
	apply(context.Background(), s, pushing{Operation: change.Forget, Origin: &origin{Source: source, Sequence: through}})
}

func decided(s *groupstore.Store, name string) (sequence uint64, digest [16]byte, ok bool) {
	return s.Decided(source(name))
}

// isInDoubt says that a change was applied and may not outlive a crash, as its waiting ended with that error.
func isInDoubt(o change.Outcome, err error) bool {
	return o.Kind == change.NotWritable && o.Decided.Position > 0 && strings.HasSuffix(o.Detail, "in doubt: waiting until it is durable: "+err.Error())
}

// isRefused says that the log refused a change with that error, and that nothing has happened.
func isRefused(o change.Outcome, err error) bool {
	return o.Kind == change.NotWritable && o.Decided.Position == 0 && strings.HasSuffix(o.Detail, ": "+err.Error())
}
