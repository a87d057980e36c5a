package groupstore

import (
	"context"
	"fmt"
	"time"

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

// Import takes over a group in place of what the store has of it. Nothing is refused for not fitting: what does not fit is
// kept and not exposed (S9), as the verdict says. Limits do not apply. An error means that nothing has changed.
//
// The function that is returned waits until the group is durable; it may be left uncalled, and it is nil if there is no log.
func (s *Store) Import(in Import) (v Verdict, wait func(context.Context) error, err error) {
	d := s.draft(Push{Operation: Replace, Key: in.Key, Body: in.Body, At: in.PushedAt})
	if d.fault != "" {
		return Verdict{}, nil, fmt.Errorf("importing group %v: %s", in.Key, d.fault)
	}
	for i := range d.parts {
		if at, ok := in.FamilyPushedAt[d.parts[i].skeleton.name()]; ok {
			d.parts[i].pushed = nanoseconds(at)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.groups[in.Key.Canonical()]
	c := Change{
		Operation: Replace, Key: in.Key, Seen: versionOf(g), PushedAt: d.at, FailedAt: nanoseconds(in.FailedAt),
		parts: d.parts, lines: d.lines, valueSize: d.valueSize,
	}
	if g == nil {
		g = s.draftedGroup(d)
	}
	s.adopt(&c, g)
	if wait, err = s.enact(&c, g, decision{}); err != nil {
		return Verdict{}, nil, fmt.Errorf("logging the import: %w", err)
	}
	return verdictOf(&c, g), wait, nil
}
