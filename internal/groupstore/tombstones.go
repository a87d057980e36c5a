package groupstore

import (
	"container/heap"
	"slices"
	"strings"
)

// maxTombstones bounds the tombstones, so that nobody can fill the memory with groups that are not there. Whoever numbers
// pushes passes its own within seconds, so that the bound is for those who do not, and for a wipe of more groups than that;
// beyond it any one is dropped, and a push to that group which comes a second time may then take effect a second time.
const maxTombstones = 1 << 20

// A tombstone is what is left of a group that is not in the store: its marks (T12). It goes when they are forgotten, or
// when the group comes back and takes them along.
type tombstone struct {
	// Static after construction.
	key   string // canonical
	marks []mark // not empty

	// Guarded by Store.mu.
	slot   int   // index in Store.tombs
	places []int // for each mark, the index in the graves of its source
}

// graves are the tombstones of one source: a heap by the sequence of its marks in them.
type graves []grave

type grave struct {
	sequence uint64
	t        *tombstone
	mark     int // index in t.marks
}

func (g graves) Len() int           { return len(g) }
func (g graves) Less(i, j int) bool { return g[i].sequence < g[j].sequence }
func (g graves) Swap(i, j int) {
	g[i], g[j] = g[j], g[i]
	g[i].settle(i)
	g[j].settle(j)
}

// Push is for package heap.
func (g *graves) Push(x any) {
	x.(grave).settle(len(*g))
	*g = append(*g, x.(grave))
}

// Pop is for package heap.
func (g *graves) Pop() any {
	last := (*g)[len(*g)-1]
	(*g)[len(*g)-1] = grave{}
	*g = (*g)[:len(*g)-1]
	return last
}

func (g grave) settle(place int) { g.t.places[g.mark] = place }

// Forget drops the marks of the source up to that sequence from all tombstones: it will never send those pushes again. What
// groups have stays, and so does the time of each deletion, for a copy of the author that does not know of it. It does not wait until that is durable: what is forgotten in vain is forgotten again.
func (s *Store) Forget(name string, through uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	src := s.sources[name]
	if src == nil || len(src.graves) == 0 || src.graves[0].sequence > through {
		return
	}
	c := Change{Operation: Forget, marks: []mark{{source: src, sequence: through}}}
	s.enact(c, nil, decision{}) //nolint:errcheck // A log that cannot be written forgets nothing; the next call does.
}

// forget applies the change. It costs what is forgotten.
func (s *Store) forget(src *source, through uint64) {
	for len(src.graves) > 0 && src.graves[0].sequence <= through {
		t := src.graves[0].t
		i := markOf(t.marks, src)
		s.noteDeletion(t.key, t.marks[i])
		rest := slices.Delete(slices.Clone(t.marks), i, i+1)
		s.unbury(t)
		s.remark(t.marks, rest)
		s.bury(t.key, rest)
	}
}

// bury leaves the marks of a group behind that is not in the store. They were accounted for by remark.
func (s *Store) bury(canonical string, marks []mark) {
	if len(marks) == 0 {
		return
	}
	if len(s.tombs) >= s.maxTombstones {
		// Any will do, as long as it is the same one whenever the change is applied.
		victim := s.tombs[s.position%uint64(len(s.tombs))]
		s.unbury(victim)
		s.remark(victim.marks, nil)
	}
	t := &tombstone{key: canonical, marks: marks, slot: len(s.tombs), places: make([]int, len(marks))}
	s.tombstones[canonical] = t
	s.tombs = append(s.tombs, t)
	s.tombBytes += len(canonical)
	for i, m := range marks {
		heap.Push(&m.source.graves, grave{sequence: m.sequence, t: t, mark: i})
	}
}

// unbury removes a tombstone. Its marks are still accounted for.
func (s *Store) unbury(t *tombstone) {
	delete(s.tombstones, t.key)
	last := s.tombs[len(s.tombs)-1]
	s.tombs[t.slot], last.slot = last, t.slot
	s.tombs[len(s.tombs)-1] = nil
	s.tombs = s.tombs[:len(s.tombs)-1]
	s.tombBytes -= len(t.key)
	for i, m := range t.marks {
		heap.Remove(&m.source.graves, t.places[i])
	}
}

// takeMarks returns the marks of a group that is about to change, and removes its tombstone if that has them.
func (s *Store) takeMarks(canonical string) []mark {
	marks := s.marksAt(canonical)
	if t := s.tombstones[canonical]; t != nil {
		s.unbury(t)
	}
	return marks
}

// DropMarks forgets what was decided, and how far: for a store that has lost changes, of which the marks that are left may
// say that they were decided. It must be called before anything is changed, and it is not logged: a snapshot has to follow.
func (s *Store) DropMarks() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.groups {
		if g.state.notes != nil && len(g.state.notes.marks) > 0 {
			s.replace(g, markedState(Change{}, g))
		}
	}
	s.sources, s.tombstones, s.tombs = make(map[string]*source), make(map[string]*tombstone), nil
	s.marks, s.tombBytes = 0, 0
	s.deletions, s.deleted = make(map[string]*deletions), 0
}

// wipe removes all groups and leaves their marks behind.
func (s *Store) wipe() {
	var marked []*group
	for _, g := range s.groups {
		if g.state.notes != nil && len(g.state.notes.marks) > 0 {
			marked = append(marked, g)
		}
	}
	slices.SortFunc(marked, func(a, b *group) int { return strings.Compare(a.key.Canonical(), b.key.Canonical()) })
	s.reset()
	for _, g := range marked {
		s.bury(g.key.Canonical(), g.state.notes.marks)
	}
}
