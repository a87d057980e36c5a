package groupstore

import (
	"runtime"
	"slices"
	"strings"
	"sync"

	"pushrelay/internal/series"
)

// View is the store at one moment. It is immutable, safe for concurrent use, and costs the store nothing while it is used.
type View struct {
	states []*state // in the order of S16, none nil; without what is not exposed any more
	ids    int      // more than any family id
	// renumbered are the family ids of sets that are not those of the sets, nil for none: that of a set that has left the table may be another's.
	renumbered map[*series.Set]uint32
	moment     *moment
	fates      []*fate // of each state; nil if nothing is known of the life of any group

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

// Snapshot returns the present state of the store, without what has expired by the clock, which is read once (L5). Only pointers are copied
// under the lock.
func (s *Store) Snapshot() *View {
	now := s.lives.shownAt()
	s.mu.RLock()
	states := s.shown()
	v := &View{ids: states.ids, renumbered: states.renumbered, moment: s.moment(now)}
	live, seen := s.lives.areAny(), StateCounts{StateFailed: s.lives.failed, StateOK: len(s.groups.byKey) - s.lives.failed}
	s.mu.RUnlock()
	v.states = states.states
	if states.sorted < len(v.states) || states.gaps {
		v.states = inOrder(v.states, states.sorted, 0)
	}
	if live {
		seen = v.settle()
	}
	s.lives.seen.Store(&seen)
	return v
}

// settle finds the fates of all groups, and leaves out what is not exposed any more at the moment of the view. It counts the others.
func (v *View) settle() (seen StateCounts) {
	kept := v.states[:0]
	v.fates = make([]*fate, 0, len(v.states))
	for from := 0; from < len(v.states); from += fetchedAtOnce {
		batch := v.states[from:min(from+fetchedAtOnce, len(v.states))]
		touchFates(batch)
		for _, st := range batch {
			f := v.moment.regime.fateOf(st)
			if !f.isForgotten(v.moment.now) {
				seen[v.moment.stateOf(st, f)]++
			}
			if st = v.moment.exposed(st, f); st != nil {
				kept, v.fates = append(kept, st), append(v.fates, f)
			}
		}
	}
	clear(v.states[len(kept):])
	v.states = kept
	return seen
}

// touchFates reads what fates are looked up by, for many groups at once, see partsOf.
func touchFates(states []*state) {
	touched := byte(0)
	for _, st := range states {
		touched += byte(st.pushed)
	}
	for _, st := range states {
		if f := st.group.fate.Load(); f != nil {
			touched += byte(f.since)
		}
	}
	runtime.KeepAlive(touched)
}

// fate returns the fate of the group with that index.
func (v *View) fate(i int) *fate {
	if v.fates == nil {
		return &v.moment.regime.none
	}
	return v.fates[i]
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
					r := &byID[v.familyID(p.set)]
					r.refs = append(r.refs, ref{uint32(i), uint32(j)})
				}
			}
		}
		v.runs = slices.DeleteFunc(byID, func(r run) bool { return len(r.refs) == 0 })
		slices.SortFunc(v.runs, func(a, b run) int { return strings.Compare(a.name, b.name) })
	})
	return v.runs
}

// familyID returns the number of the set's family in the view.
func (v *View) familyID(k *series.Set) uint32 {
	if v.renumbered != nil {
		if id, ok := v.renumbered[k]; ok {
			return id
		}
	}
	return k.FamilyID()
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
			id := v.familyID(p.set)
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
