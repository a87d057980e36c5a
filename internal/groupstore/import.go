package groupstore

import (
	"context"
	"fmt"
	"time"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
)

// Import is a group as another program kept it.
type Import struct {
	Key grouping.Key
	// Body holds all families of the group. The store keeps nothing of it, and does not look at its timestamps: they are
	// refused like those of a push.
	Body *exposition.Body
	// PushedAt and FailedAt are the group's two times; zero for never.
	PushedAt, FailedAt time.Time
	// FamilyPushedAt says when each family was pushed, by name; PushedAt for those it does not have.
	FamilyPushedAt map[string]time.Time
}

// Import takes over a group in place of what the store has of it, by the way of [Store.Apply]. Nothing is refused for not fitting: what does not
// fit is kept and not exposed (S9), and returned. Limits do not apply. An error means that nothing has changed.
//
// The function that is returned waits until the group is durable; it may be left uncalled, and it is nil if there is no log. So many groups
// can be waited for together.
func (s *Store) Import(in *Import) (quarantined []Quarantined, wait func(context.Context) error, err error) {
	x := s.newDecision(draft{
		change: &change.Change{}, operation: change.Replace, key: in.Key, labels: in.Key.Labels(), at: nanoseconds(in.PushedAt), imported: in,
	})
	defer x.release(&s.decisions)
	d := &x.draft
	if in.Body != nil {
		s.draftBody(d, in.Body)
	}
	if d.fault != "" {
		return nil, nil, fmt.Errorf("importing group %v: %s", in.Key, d.fault)
	}
	s.prepareGroup(d)
	if wait, err = s.take(x); err != nil {
		return nil, nil, fmt.Errorf("logging the import: %w", err)
	}
	return x.quarantined, wait, nil
}

// adoptImport decides an import: everything is kept.
func (x *decision) adoptImport() {
	d, e, g := &x.draft, &x.effect, x.group
	for i := range e.parts {
		if at, ok := d.imported.FamilyPushedAt[e.parts[i].set.Name()]; ok {
			e.parts[i].pushed = nanoseconds(at)
		}
	}
	e.FailedAt, e.Reason = nanoseconds(d.imported.FailedAt), ""
	x.adopt(e, g)
	x.look(e, g)
}
