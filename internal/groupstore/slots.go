package groupstore

import (
	"slices"
	"strings"
)

// The states of all groups stand in slots, so that a scrape copies them at the speed of memory. Up to sorted they are in the order of S16; what
// came since stands behind, and what is deleted leaves a gap. A scrape sorts the rest in its own copy; once the rest or the gaps are a good part of
// the whole, the slots are put in order. They are guarded by Store.mu.
type slots struct {
	states []*state // nil for deleted ones
	sorted int
	gaps   int // how many are nil
}

// unsortedMin is how many new groups or gaps are always put up with.
const unsortedMin = 1024

// add gives a new group a slot. Its state is set by put.
func (s *slots) add(g *group) {
	s.compact()
	g.slot = len(s.states)
	s.states = append(s.states, nil)
	s.gaps++ // until put
}

// put puts the group's state into its slot.
func (s *slots) put(g *group) {
	switch had, has := s.states[g.slot] != nil, g.state != nil; {
	case had && !has:
		s.gaps++
	case !had && has:
		s.gaps--
	}
	s.states[g.slot] = g.state
}

// drop leaves the gap of a removed group behind.
func (s *slots) drop(g *group) {
	g.slot = -1
	s.compact()
}

// compact sorts the slots if that is worth while. Its cost, spread over the changes that made it so, is constant.
func (s *slots) compact() {
	unsorted := max(len(s.states)-s.sorted, s.gaps)
	if unsorted < unsortedMin || unsorted < len(s.states)/8 {
		return
	}
	s.states = inOrder(s.states, s.sorted, len(s.states)/8)
	s.sorted, s.gaps = len(s.states), 0
	for i, st := range s.states {
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

// maxLooks is how many groups are looked at for the error messages of one push.
const maxLooks = 1024

// first returns the first group of which that is true, and nil if there is none among as many as there are looks left, which it counts down.
func (s *slots) first(looks *int, is func(*state) bool) *group {
	for _, st := range s.states {
		if *looks == 0 {
			return nil
		}
		*looks--
		if st != nil && is(st) {
			return st.group
		}
	}
	return nil
}
