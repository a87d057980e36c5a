package groupstore

import "slices"

// Origin says where a push comes from, so that it takes effect once although it may come twice (T12). Whoever sends it
// numbers what it sends; the store does not know who that is.
//
// Each group keeps, per source, a mark: the number of the last push that was decided, in the same record as the change that
// came of it. A push at or below the mark is a duplicate. Sources must send what concerns one group in the order of the
// numbers; between groups there is no order.
type Origin struct {
	// Source is who numbers. It is opaque to the store and not empty.
	Source string
	// Sequence rises within the source, from 1, with gaps.
	Sequence uint64
	// Digest tells two pushes apart that have the same number, because whoever numbers was copied or restored.
	Digest [16]byte
}

// maxMarks bounds the marks of one group. A group has one source, or a few if its source was given up for another; beyond
// that the mark that was moved longest ago is dropped.
const maxMarks = 16

// A mark is how far one source was decided in one group. It is immutable, and a list of marks is replaced whole; the mark
// that was moved last stands last.
type mark struct {
	source   *source
	sequence uint64
	digest   [16]byte
	rejected bool // that push was
}

// covers says whether the origin, which is of the mark's source, was decided already. The same number with another digest is
// another push: nothing is called a duplicate on a number alone.
func (m mark) covers(o *Origin) bool {
	return m.sequence > o.Sequence || m.sequence == o.Sequence && m.digest == o.Digest
}

// A source is in the table for as long as any group or tombstone has a mark of it.
type source struct {
	name string // static

	// Guarded by Store.mu.
	sequence uint64   // the highest that was decided, in whatever group
	digest   [16]byte // of the push with that number
	marks    int      // how many groups and tombstones have one
	graves   graves   // the tombstones among them
}

// Decided returns the highest sequence of the source that was decided, in whatever group, and the digest of that push. It
// is known for as long as any group or tombstone has a mark of the source, also over a restart.
func (s *Store) Decided(name string) (sequence uint64, digest [16]byte, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	src := s.sources[name]
	if src == nil {
		return 0, digest, false
	}
	return src.sequence, src.digest, true
}

// marksAt returns the marks of the group, or those that it left behind.
func (s *Store) marksAt(canonical string) []mark {
	if g := s.groups[canonical]; g != nil && g.state.notes != nil {
		return g.state.notes.marks
	}
	if t := s.tombstones[canonical]; t != nil {
		return t.marks
	}
	return nil
}

// covering returns the mark that says that the push was decided before; never for one without an origin.
func (s *Store) covering(canonical string, o *Origin) (m mark, duplicate bool) {
	if o == nil {
		return mark{}, false
	}
	marks := s.marksAt(canonical)
	i := markOf(marks, s.sources[o.Source])
	if i < 0 || !marks[i].covers(o) {
		return mark{}, false
	}
	return marks[i], true
}

// markOf returns the index of the source's mark, -1 if there is none.
func markOf(marks []mark, src *source) int {
	return slices.IndexFunc(marks, func(m mark) bool { return m.source == src })
}

// moved returns the marks after the decision: the same ones if it has no origin, or if that was decided before.
func (s *Store) moved(marks []mark, by decision) []mark {
	o := by.origin
	if o == nil {
		return marks
	}
	src := s.sourceOf(o.Source)
	i := markOf(marks, src)
	if i >= 0 && marks[i].covers(o) {
		return marks
	}
	size := len(marks)
	switch {
	case i < 0 && size < maxMarks:
		size++
	case i < 0:
		i = 0 // moved longest ago
	}
	next := make([]mark, 0, size)
	for j, m := range marks {
		if j != i {
			next = append(next, m)
		}
	}
	return append(next, mark{source: src, sequence: o.Sequence, digest: o.Digest, rejected: by.rejected})
}

// sourceOf returns the source of the table, or one that fits to enter it.
func (s *Store) sourceOf(name string) *source {
	if src := s.sources[name]; src != nil {
		return src
	}
	return &source{name: name}
}

// adoptMarks returns marks that may come from elsewhere as marks of this store.
func (s *Store) adoptMarks(marks []mark) []mark {
	marks = slices.Clone(marks)
	for i := range marks {
		marks[i].source = s.sourceOf(marks[i].source.name)
	}
	return marks
}

// remark keeps the sources when marks take the place of others in a group or a tombstone.
func (s *Store) remark(before, after []mark) {
	if len(before) == len(after) && (len(after) == 0 || &before[0] == &after[0]) {
		return
	}
	s.marks += len(after) - len(before)
	for _, m := range after {
		i := markOf(before, m.source)
		if i < 0 {
			s.sources[m.source.name] = m.source
			m.source.marks++
		}
		if (i < 0 || before[i] != m) && m.sequence >= m.source.sequence {
			m.source.sequence, m.source.digest = m.sequence, m.digest
		}
	}
	for _, m := range before {
		if markOf(after, m.source) >= 0 {
			continue
		}
		if m.source.marks--; m.source.marks == 0 {
			delete(s.sources, m.source.name)
		}
	}
}
