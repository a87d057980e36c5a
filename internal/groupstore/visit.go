package groupstore

import (
	"iter"
	"runtime"
	"slices"
)

// fetchedAtOnce is how many parts are looked up together: enough to keep the processor waiting for many of them at a time,
// few enough to be still in its first cache when they are rendered.
const fetchedAtOnce = 64

// A visit is one part that is rendered.
type visit struct {
	*part
	group *group
	state int // index in View.states
}

// partsOf yields the parts of a run. That the labels of groups are wanted as text says withText.
//
// What is needed of a part stands in seven places in memory, most of them known only from the one before, and none of them near what
// the last part needed. Taking each step for many parts at once lets the processor wait for all of them together, where it
// would wait for one after the other.
func (v *View) partsOf(r *run, withText bool) iter.Seq[visit] {
	return func(yield func(visit) bool) {
		var visits [fetchedAtOnce]visit
		for refs := range slices.Chunk(r.refs, fetchedAtOnce) {
			for i, at := range refs {
				st := v.states[at.state]
				visits[i] = visit{&st.parts[at.part], st.group, int(at.state)}
			}
			touched := byte(0)
			for i := range refs {
				touched += touchPart(visits[i].part)
				if withText {
					touched += visits[i].group.labels.Touch()
				}
			}
			runtime.KeepAlive(touched) // or nobody would need the bytes, and they were not read
			for i := range refs {
				if !yield(visits[i]) {
					return
				}
			}
		}
	}
}

// shown yields the states of the groups that are exposed with their indexes, looked up in the same way.
func (v *View) shown(withText bool) iter.Seq2[int, *state] {
	return func(yield func(int, *state) bool) {
		for from := 0; from < len(v.states); from += fetchedAtOnce {
			states := v.states[from:min(from+fetchedAtOnce, len(v.states))]
			touched := byte(0)
			for _, st := range states {
				touched += byte(st.pushed)
				if withText {
					touched += st.group.labels.Touch()
				}
			}
			runtime.KeepAlive(touched)
			for i, st := range states {
				if st.hidden() == "" && !yield(from+i, st) {
					return
				}
			}
		}
	}
}

// touchPart reads one byte of each piece of memory from which a part is rendered.
func touchPart(p *part) (touched byte) {
	if p.values != "" {
		touched += p.values[0]
	}
	return touched + p.set.Touch()
}
