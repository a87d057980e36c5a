package groupstore

import (
	"container/heap"
	"slices"
	"sync/atomic"
	"time"

	"pushrelay/internal/grouping"
	"pushrelay/internal/lifetime"
)

// lives are what the store knows of how long its groups live. They are guarded by Store.mu where nothing else is said.
type lives struct {
	now      func() time.Time // static
	shownAt  func() time.Time // static
	presence Presence         // static; nil if no agent is ever gone

	// seen are the groups by their state at the last snapshot; nil before there was one. Anybody may read it.
	seen atomic.Pointer[StateCounts]

	regime   *regime
	declared int // groups of whose life pushes have declared something
	failed   int // groups whose last push was refused, or was that of a job that failed
	expiring expiring
	madeRoom time.Time // when it was last looked for what is expired, since a limit was reached
	isQueued bool      // expiring is kept up: there is a regime
}

// Presence tells of the agents that groups come through (L7).
type Presence interface {
	// Present says whether the agent is connected; if not, gone is since when. It is called outside every lock, and must not call the store.
	Present(agent string) (present bool, gone time.Time)
}

// areAny says whether anything is known of any group's life. As long as not, the store is one without lives.
func (ls *lives) areAny() bool { return ls.declared > 0 || len(ls.regime.Rules) > 0 }

// count counts the groups of which something holds, one of which has another state now; nil for none.
func (ls *lives) count(before, after *state) {
	ls.add(before, -1)
	ls.add(after, +1)
}

func (ls *lives) add(st *state, n int) {
	if st == nil || st.notes == nil {
		return
	}
	if st.notes.life != nil {
		ls.declared += n
	}
	if st.hasFailed() {
		ls.failed += n
	}
}

// Expiring are the groups of which something is to be removed one day, the next one first. A group that is pushed to keeps its place and is put back
// when that comes up, so that a push costs nothing. It implements heap.Interface; a group knows when it is queued for, and its index.
type expiring []*group

func (x expiring) Len() int           { return len(x) }
func (x expiring) Less(i, j int) bool { return x[i].queued < x[j].queued }
func (x expiring) Swap(i, j int) {
	x[i], x[j] = x[j], x[i]
	x[i].place, x[j].place = i, j
}

// Push implements heap.Interface.
func (x *expiring) Push(g any) {
	last := g.(*group)
	last.place = len(*x)
	*x = append(*x, last)
}

// Pop implements heap.Interface.
func (x *expiring) Pop() any {
	last := (*x)[len(*x)-1]
	(*x)[len(*x)-1] = nil
	*x = (*x)[:len(*x)-1]
	return last
}

// queue sees to it that the group is removed when its time has come, or forgets one that is gone.
func (ls *lives) queue(g *group) {
	if g.state == nil {
		ls.drop(g)
		return
	}
	if !ls.isQueued || g.state.notes == nil && len(ls.regime.Rules) == 0 {
		return
	}
	switch end := ls.regime.fateOf(g.state).end(g.state); {
	case end == lifetime.Never, g.queued != 0 && g.queued <= end:
	case g.queued == 0:
		g.queued = end
		heap.Push(&ls.expiring, g)
	default:
		g.queued = end
		heap.Fix(&ls.expiring, g.place)
	}
}

// drop takes the group off the list.
func (ls *lives) drop(g *group) {
	if g.queued != 0 {
		heap.Remove(&ls.expiring, g.place)
		g.queued = 0
	}
}

// next takes the first group off the list if its time has come; nil if there is none.
func (ls *lives) next(now int64) *group {
	for len(ls.expiring) > 0 && ls.expiring[0].queued <= now {
		g := ls.expiring[0]
		ls.drop(g)
		if ls.regime.fateOf(g.state).end(g.state) <= now {
			return g
		}
		ls.queue(g)
	}
	return nil
}

// Reform is what comes of another regime.
type Reform struct {
	// Groups is how many there are, and Expired how many of them are expired by it that were not before.
	Groups, Expired int
}

// SetRegime puts another regime in the place of the present one, for all groups at once (L2). One that is set for the first time lets
// [Store.Expired] begin.
func (s *Store) SetRegime(r lifetime.Regime) Reform {
	s.mu.RLock()
	states, before := slices.Clone(s.slots.states), s.lives.regime
	s.mu.RUnlock()
	now, next := s.lives.now().UnixNano(), newRegime(r)
	var reform Reform
	for _, st := range states { // outside the lock: each rule is asked of each group
		if st == nil {
			continue
		}
		reform.Groups++
		if !before.fateOf(st).hasExpired(now) && next.fateOf(st).hasExpired(now) {
			reform.Expired++
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ls := &s.lives
	ls.regime, ls.isQueued, ls.expiring = next, true, nil
	for _, g := range s.groups.byKey {
		g.queued = 0
	}
	for _, g := range s.groups.byKey {
		ls.queue(g)
	}
	return reform
}

// Expired is a group of which something is to be removed, as it was seen.
type Expired struct {
	Key grouping.Key
	// Version is that of [Content].
	Version uint64
}

// Expired takes at most n groups off the list of those that expire: what was pushed to them is expired, or nothing is left of them. Each is
// there again after its next change, and after the next [Store.SetRegime]; until then it is the caller's to see to it, by [change.Expire].
func (s *Store) Expired(n int) []Expired {
	now := s.lives.now().UnixNano()
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []Expired
	for len(found) < n {
		g := s.lives.next(now)
		if g == nil {
			break
		}
		found = append(found, Expired{Key: g.key, Version: g.state.version})
	}
	return found
}
