package groupstore

import (
	"context"
	"fmt"
	"runtime"

	"pushrelay/internal/grouping"
)

// Select returns the view of those groups for which keep is true, as if the store held no others; what is exposed and what is in
// quarantine stays as the whole store has it; what has expired is left out as in a [Store.Snapshot]. Keep is called once for each group, in no order, outside every lock. The context may end it: the
// error is why then.
//
// It looks at every group, and all else costs what is selected: only that is put in order.
func (s *Store) Select(ctx context.Context, keep func(Group) bool) (*View, error) {
	now := s.lives.shownAt()
	s.mu.RLock()
	slots := s.shown()
	v, live := &View{ids: slots.ids, renumbered: slots.renumbered, moment: s.moment(now)}, s.lives.areAny()
	s.mu.RUnlock()
	states, sorted := slots.states, slots.sorted
	selected, inOrderTo := states[:0], 0
	for from := 0; from < len(states); from += fetchedAtOnce {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("selecting groups: %w", context.Cause(ctx))
		}
		batch := states[from:min(from+fetchedAtOnce, len(states))]
		touchKeys(batch)
		for i, st := range batch {
			if st != nil && keep(Group{st: st, moment: v.moment}) {
				selected = append(selected, st)
				if from+i < sorted {
					inOrderTo = len(selected)
				}
			}
		}
	}
	v.states = inOrder(selected, inOrderTo, 0)
	if live {
		v.settle()
	}
	return v, nil
}

// Group returns the group of that key, as the view of [Store.Select] has it; found is false if there is none. It looks at no other group.
func (s *Store) Group(key grouping.Key) (g Group, found bool) {
	now := s.lives.shownAt()
	s.mu.RLock()
	st, moment := s.shownOf(key.Canonical()), s.moment(now)
	s.mu.RUnlock()
	if st == nil {
		return Group{}, false
	}
	f := moment.regime.fateOf(st)
	if st = moment.exposed(st, f); st == nil {
		return Group{}, false
	}
	return Group{st, moment, f}, true
}

// touchKeys reads the first and the last byte of each key, for many groups at once, see partsOf: most keys lie in two lines of the cache.
func touchKeys(states []*state) {
	touched := byte(0)
	for _, st := range states {
		if st != nil {
			canonical := st.group.key.Canonical()
			touched += canonical[0] + canonical[len(canonical)-1]
		}
	}
	runtime.KeepAlive(touched)
}
