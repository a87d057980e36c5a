package groupstore

import "pushrelay/internal/series"

// held is what groups held at the committed position that hold something else by now, for a store whose changes may vanish before they are committed:
// nobody sees what can (C8). It is guarded by Store.mu.
type held struct {
	on        bool // static
	committed uint64
	byKey     map[string][]heldState // by canonical key, the oldest first
}

// A heldState is what a group held until a change that is not committed.
type heldState struct {
	until uint64 // the position of the change
	state *state // nil for a group that was not there
}

// hold keeps what the group holds, which a change at that position is about to replace. Of one change that replaces it twice the first counts.
func (h *held) hold(position uint64, g *group, st *state) {
	if !h.on {
		return
	}
	key := g.key.Canonical()
	list := h.byKey[key]
	if n := len(list); n > 0 && list[n-1].until == position {
		return
	}
	if h.byKey == nil {
		h.byKey = make(map[string][]heldState)
	}
	h.byKey[key] = append(list, heldState{position, st})
}

// commit lets go what was held until changes up to that position.
func (h *held) commit(through uint64) {
	h.committed = max(h.committed, through)
	for key, list := range h.byKey {
		n := 0
		for n < len(list) && list[n].until <= through {
			n++
		}
		if n == len(list) {
			delete(h.byKey, key)
		} else {
			h.byKey[key] = list[n:]
		}
	}
}

// Commit tells a store with [Config].ShowCommitted that all changes up to that position are committed. It costs what is not.
func (s *Store) Commit(through uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held.commit(min(through, s.position))
}

// Committed returns the position up to which changes are committed; of a store without [Config].ShowCommitted, of the last one that was applied.
func (s *Store) Committed() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if !s.held.on {
		return s.position
	}
	return s.held.committed
}

// A shown is what views show, as the slots have it: which states, up to where they are in order, whether some are nil, and a number above those of all
// families, with the numbers of those that are another's by now.
type shown struct {
	states     []*state
	sorted     int
	gaps       bool
	ids        int
	renumbered map[*series.Set]uint32 // nil for none
}

// shown returns what views show at this moment. The caller holds the lock.
func (s *Store) shown() shown {
	v := shown{states: make([]*state, len(s.slots.states), len(s.slots.states)+len(s.held.byKey)), sorted: s.slots.sorted, gaps: s.slots.gaps > 0, ids: s.sets.Families()}
	copy(v.states, s.slots.states)
	for key, list := range s.held.byKey {
		v.gaps = true
		st := list[0].state
		if g := s.groups.byKey[key]; g != nil {
			v.states[g.slot] = st
		} else if st != nil {
			v.states = append(v.states, st)
		}
		if st != nil {
			v.renumber(&s.sets, st)
		}
	}
	return v
}

// shownOf returns what views show of one group; nil for nothing. The caller holds the lock.
func (s *Store) shownOf(key string) *state {
	if list := s.held.byKey[key]; len(list) > 0 {
		return list[0].state
	}
	if g := s.groups.byKey[key]; g != nil {
		return s.slots.states[g.slot]
	}
	return nil
}

// renumber sees to it that the families of a state that is not applied any more have the numbers that they have now.
func (v *shown) renumber(sets *series.Table, st *state) {
	for i := range st.parts {
		k := st.parts[i].set
		id, there := sets.Family(k.Name())
		if there && id == k.FamilyID() {
			continue
		}
		if !there {
			id = v.numberOf(k.Name())
		}
		if v.renumbered == nil {
			v.renumbered = make(map[*series.Set]uint32)
		}
		v.renumbered[k] = id
	}
}

// numberOf returns the number of a family that the table does not have.
func (v *shown) numberOf(name string) uint32 {
	for k, id := range v.renumbered {
		if k.Name() == name {
			return id
		}
	}
	v.ids++
	return uint32(v.ids - 1)
}
