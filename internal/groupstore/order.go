package groupstore

import (
	"slices"
	"strings"
)

// The states of all groups stand in one slice, so that a scrape copies them at the speed of memory. Up to Store.sorted they
// are in the order of S16; what came since stands behind, and what is deleted leaves a gap. A scrape sorts the rest in its
// own copy; once the rest or the gaps are a good part of the whole, the slice is put in order.

// unsettledMin is how many new groups or gaps are always put up with.
const unsettledMin = 1024

// addSlot gives a new group a slot. Its state is set by setSlot.
func (s *Store) addSlot(g *group) {
	s.settle()
	g.slot = len(s.slots)
	s.slots = append(s.slots, nil)
	s.gaps++ // until setSlot
}

// setSlot puts the group's state into its slot.
func (s *Store) setSlot(g *group) {
	switch had, has := s.slots[g.slot] != nil, g.state != nil; {
	case had && !has:
		s.gaps++
	case !had && has:
		s.gaps--
	}
	s.slots[g.slot] = g.state
}

// dropSlot leaves the gap of a removed group behind.
func (s *Store) dropSlot(g *group) {
	g.slot = -1
	s.settle()
}

// settle sorts the slots if that is worth while. Its cost, spread over the changes that made it so, is constant.
func (s *Store) settle() {
	unsettled := max(len(s.slots)-s.sorted, s.gaps)
	if unsettled < unsettledMin || unsettled < len(s.slots)/8 {
		return
	}
	s.slots = inOrder(s.slots, s.sorted, len(s.slots)/8)
	s.sorted, s.gaps = len(s.slots), 0
	for i, st := range s.slots {
		st.group.slot = i
	}
}

// inOrder returns the states that are not nil, ordered by canonical key, in a new slice with room for more. The first
// sorted of them are in order.
func inOrder(states []*state, sorted, room int) []*state {
	rest := slices.DeleteFunc(slices.Clone(states[sorted:]), func(st *state) bool { return st == nil })
	slices.SortFunc(rest, func(a, b *state) int { return strings.Compare(a.group.key.Canonical(), b.group.key.Canonical()) })
	merged := make([]*state, 0, len(states)+room)
	for _, st := range states[:sorted] {
		if st == nil {
			continue
		}
		for len(rest) > 0 && rest[0].group.key.Canonical() < st.group.key.Canonical() {
			merged, rest = append(merged, rest[0]), rest[1:]
		}
		merged = append(merged, st)
	}
	return append(merged, rest...)
}
