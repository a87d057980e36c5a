package groupstore

import (
	"slices"
	"strings"
	"sync"

	"pushrelay/internal/series"
)

// View is the store at one moment. It is immutable, safe for concurrent use, and costs the store nothing while it is used.
type View struct {
	states []*state // in the order of S16, none nil
	ids    int      // more than any family id

	once sync.Once
	runs []run // made when first asked for, see families
}

// A run is one family with all parts that expose it, in the order of their groups.
type run struct {
	name  string
	first *series.Set // of the first group
	help  *series.Set // of the first group that has a help text; nil if none has
	refs  []ref
}

// A ref names one part of a view.
type ref struct{ state, part uint32 }

// Snapshot returns the present state of the store. Only pointers are copied under the lock.
func (s *Store) Snapshot() *View {
	s.mu.RLock()
	states, sorted, ids := slices.Clone(s.slots.states), s.slots.sorted, s.sets.Families()
	gaps := s.slots.gaps
	s.mu.RUnlock()
	if sorted < len(states) || gaps > 0 {
		states = inOrder(states, sorted, 0)
	}
	return &View{states: states, ids: ids}
}

// families returns the exposed families in the order of their names.
//
// Parts are sorted by family by counting: families have small dense numbers, and a part is looked at twice.
func (v *View) families() []run {
	v.once.Do(func() {
		byID, counts := v.count()
		for id, refs := 0, make([]ref, total(counts)); id < len(byID); id++ {
			byID[id].refs, refs = refs[:0:counts[id]], refs[counts[id]:]
		}
		for i, st := range v.states {
			for j := range st.parts {
				if p := &st.parts[j]; p.hidden == nil {
					r := &byID[p.set.FamilyID()]
					r.refs = append(r.refs, ref{uint32(i), uint32(j)})
				}
			}
		}
		v.runs = slices.DeleteFunc(byID, func(r run) bool { return len(r.refs) == 0 })
		slices.SortFunc(v.runs, func(a, b run) int { return strings.Compare(a.name, b.name) })
	})
	return v.runs
}

// count returns, by family id, runs without their parts, and the number of parts that each will have.
func (v *View) count() (byID []run, counts []int) {
	byID, counts = make([]run, v.ids), make([]int, v.ids)
	for _, st := range v.states {
		for j := range st.parts {
			p := &st.parts[j]
			if p.hidden != nil {
				continue
			}
			id := p.set.FamilyID()
			counts[id]++
			r := &byID[id]
			if r.first == nil {
				r.name, r.first = p.set.Name(), p.set
			}
			if r.help == nil && p.set.HasHelp() {
				r.help = p.set
			}
		}
	}
	return byID, counts
}

func total(counts []int) int {
	sum := 0
	for _, n := range counts {
		sum += n
	}
	return sum
}
