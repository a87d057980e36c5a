package groupstore

import (
	"context"
	"errors"
	"fmt"

	"pushrelay/internal/grouping"
)

// Fail notes in the group that a push to it was rejected, by somebody who saw more of it than the store does. Where the
// group does not fit with others, only the origin is kept (S10). The push has no body; At is when it was rejected.
//
// Without an origin the note is not waited for, and a log that refuses it refuses it silently: the one who pushed has the
// answer. With one Fail returns as [Store.Push] does.
func (s *Store) Fail(ctx context.Context, p Push, reason string) (Verdict, error) {
	if p.Key.IsZero() {
		return Verdict{}, &InconsistentError{reason: "the push names no group"}
	}
	if reason == "" {
		reason = "the push was rejected"
	}
	p.Operation, p.Body = Fail, nil
	d := s.draft(p)
	d.fault = reason
	v, err := s.take(ctx, d)
	if _, noted := errors.AsType[*InconsistentError](err); noted {
		return v, nil
	}
	return v, err
}

// Mark notes that a push was decided which the store is not to judge, and keeps nothing of it but the origin. It returns as
// [Store.Push] does. Without an origin it does nothing.
func (s *Store) Mark(ctx context.Context, p Push) (Verdict, error) {
	if p.Origin == nil {
		return Verdict{}, nil
	}
	if p.Key.IsZero() {
		return Verdict{}, &InconsistentError{reason: "the push names no group"}
	}
	return s.take(ctx, &draft{operation: Mark, key: p.Key, origin: p.Origin, current: p.Current})
}

// take decides a draft, logs what follows and applies it, in one critical section, and waits until that is durable.
func (s *Store) take(ctx context.Context, d *draft) (Verdict, error) {
	s.mu.Lock()
	if d.current != nil && !d.current() {
		s.mu.Unlock()
		return Verdict{}, ErrNotCurrent
	}
	c, g, verdict, rejection := s.decideOnce(d)
	wait, err := s.enact(&c, g, decision{origin: d.origin, at: d.at, rejected: rejection != nil || d.operation == Mark})
	if c.Operation != 0 {
		verdict.Position = s.position
	}
	s.mu.Unlock()
	if rejection != nil && d.origin == nil {
		return Verdict{}, rejection // the failure time is logged but not waited for
	}
	if err != nil {
		return Verdict{}, fmt.Errorf("logging the push: %w", err)
	}
	if err := await(ctx, wait); err != nil {
		return verdict, err
	}
	return verdict, rejection
}

// decideOnce decides a draft with regard to its origin. What is decided for good moves the mark in any case, in the same record
// (T12, T13); what may be taken later moves nothing.
func (s *Store) decideOnce(d *draft) (c Change, g *group, v Verdict, rejection error) {
	rejected, duplicate, sequence := s.covering(d.key.Canonical(), d.origin)
	switch {
	case duplicate && rejected && s.isSuperseded(d):
		v, rejection = Verdict{Duplicate: true}, ErrSuperseded
	case duplicate:
		c, g = s.marking(d.key)
		if rejected && sequence == d.origin.Sequence {
			v.Rejected = rejectedBefore(g)
		}
		v.Duplicate = true
		return c, g, v, nil
	case s.isSuperseded(d):
		rejection = ErrSuperseded
	case d.operation != Mark:
		c, g, v, rejection = s.decide(d)
	}
	_, later := errors.AsType[*FullError](rejection)
	if c.Operation == 0 && d.origin != nil && !later {
		c, g = s.marking(d.key)
	}
	if full := s.leavesTooMany(&c, g, d.origin); full != nil {
		return Change{}, nil, Verdict{}, full
	}
	return c, g, v, rejection
}

// marking returns a change of nothing but marks. For a duplicate it does not even change those, and yet it is logged: once
// it is durable, so is all that came before.
func (s *Store) marking(key grouping.Key) (Change, *group) {
	g := s.groups[key.Canonical()]
	return Change{Operation: Mark, Key: key, Seen: versionOf(g)}, g
}

// rejectedBefore returns why the last push to the group was rejected, as far as that is known.
func rejectedBefore(g *group) string {
	if g != nil && g.state.noted().reason != "" {
		return g.state.noted().reason
	}
	return "it was rejected when it came first"
}

// A decision is what a change says of its origin. The zero decision has none.
type decision struct {
	origin   *Origin
	at       int64 // the time of the push
	rejected bool
}

// enact logs a decided change and applies it. The zero Change is none.
func (s *Store) enact(c *Change, g *group, by decision) (wait func(context.Context) error, err error) {
	if c.Operation == 0 {
		return nil, nil
	}
	if wait, err = s.record(c, by); err != nil {
		return nil, err
	}
	s.position++
	s.commit(c, g)
	return wait, nil
}

// record completes a change with the marks that follow from it, and hands it to the log.
func (s *Store) record(c *Change, by decision) (wait func(context.Context) error, err error) {
	if !c.Key.IsZero() {
		c.marks = s.marksAt(c.Key.Canonical())
	}
	if by.origin != nil && !c.Key.IsZero() {
		c.marks = s.moved(c.marks, c.Key.Canonical(), by)
	}
	if s.log == nil {
		return nil, nil
	}
	return s.log.Append(s.position+1, *c)
}

func await(ctx context.Context, wait func(context.Context) error) error {
	if wait == nil {
		return nil
	}
	if err := wait(ctx); err != nil {
		return &InDoubtError{Err: err}
	}
	return nil
}
