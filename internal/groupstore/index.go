package groupstore

import (
	"slices"

	"pushrelay/internal/series"
)

// moveBudget is how many metrics one push moves into an index that is being filled, and moveGroups how many groups it
// looks at for that.
const (
	moveBudget = 4096
	moveGroups = 1024
)

// An index knows, for one family, which group exposes a series, by the sum of the series' label hashes. A family gets one
// when it has too many shapes to try each.
//
// It is filled step by step, so that no single push pays for all series of the family: what was there before stands in
// pending until it is moved, and belongs to the few shapes in unmoved, which are tried meanwhile. All of it is guarded by
// Store.mu.
type index struct {
	name    string
	owner   map[uint64]*group
	more    map[uint64][]*group // further owners of equal sums: collisions of hashes
	pending []*group
	unmoved []shapeCount
}

func newIndex(all *slots, family string, unmoved []shapeCount) *index {
	x := &index{name: family, owner: make(map[uint64]*group), unmoved: unmoved}
	x.pending = make([]*group, 0, len(all.states))
	for _, st := range all.states {
		if st != nil {
			x.pending = append(x.pending, st.group)
		}
	}
	return x
}

// owners returns the groups that may expose the series with that sum.
func (x *index) owners(sum uint64) []*group {
	g := x.owner[sum]
	if g == nil {
		return nil
	}
	return append([]*group{g}, x.more[sum]...)
}

// insert adds the series of a group. What is there already stays.
func (x *index) insert(g *group, k *series.Set) {
	for _, sum := range k.Sums() {
		sum += g.sum
		switch x.owner[sum] {
		case nil:
			x.owner[sum] = g
		case g:
		default:
			x.insertMore(sum, g)
		}
	}
}

func (x *index) insertMore(sum uint64, g *group) {
	if slices.Contains(x.more[sum], g) {
		return
	}
	if x.more == nil {
		x.more = make(map[uint64][]*group)
	}
	x.more[sum] = append(x.more[sum], g)
}

// remove takes the series of a group out. What is not there was not moved yet.
func (x *index) remove(g *group, k *series.Set) {
	for _, sum := range k.Sums() {
		sum += g.sum
		if x.owner[sum] == g {
			x.promote(sum)
			continue
		}
		x.removeMore(sum, g)
	}
}

func (x *index) promote(sum uint64) {
	more := x.more[sum]
	if len(more) == 0 {
		delete(x.owner, sum)
		return
	}
	x.owner[sum] = more[0]
	x.removeMore(sum, more[0])
}

func (x *index) removeMore(sum uint64, g *group) {
	more := x.more[sum]
	for i, o := range more {
		if o == g {
			x.more[sum] = append(more[:i:i], more[i+1:]...)
			break
		}
	}
	if len(x.more[sum]) == 0 {
		delete(x.more, sum)
	}
}

// advance moves some of what is pending.
func (x *index) advance() {
	for moved, looked := 0, 0; len(x.pending) > 0 && moved < moveBudget && looked < moveGroups; looked++ {
		last := len(x.pending) - 1
		g := x.pending[last]
		x.pending[last] = nil
		x.pending = x.pending[:last]
		p := g.state.find(x.name)
		if p == nil || p.hidden != nil {
			continue
		}
		x.insert(g, p.set)
		moved += p.set.Metrics()
	}
	if len(x.pending) == 0 {
		x.pending, x.unmoved = nil, nil
	}
}
