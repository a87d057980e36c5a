package groupstore

import (
	"slices"
	"strings"
)

// Origin says where a push comes from, so that it takes effect once although it may come twice (T12). Whoever sends it
// numbers what it sends; the store does not know who that is.
//
// Each group keeps, per source, a mark: the number of the last push that was decided, in the same record as the change that
// came of it. A push at or below the mark is a duplicate. Sources must send what concerns one group in the order of the
// numbers; between groups there is no order.
type Origin struct {
	// Source is a numbering: who numbers, a zero byte, and which of the author's numberings it is. The store compares it and the
	// author before the byte, and knows nothing else of either.
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
	// at is the time of the last push of the source that took effect in the group, in nanoseconds since the epoch; 0 if there
	// was none, or if that was before marks had times.
	at int64
}

// covers says whether the origin, which is of the mark's source, was decided already. The same number with another digest is
// another push: nothing is called a duplicate on a number alone.
func (m mark) covers(o *Origin) bool {
	return m.sequence > o.Sequence || m.sequence == o.Sequence && m.digest == o.Digest
}

// author returns who numbers a source.
func author(source string) string {
	name, _, _ := strings.Cut(source, "\x00")
	return name
}

// isSuperseded says whether a push that waited is older than what another numbering of its author did to the group since: a copy of
// the author that was put back, or one that comes back after a newer one, undoes nothing. Within a numbering the sequence decides,
// whatever clocks do; and what did not wait is always the newest.
func (s *Store) isSuperseded(d *draft) bool {
	if !d.waited || d.origin == nil {
		return false
	}
	for _, m := range s.marksAt(d.key.Canonical()) {
		if m.at > d.at && m.source.name != d.origin.Source && author(m.source.name) == author(d.origin.Source) {
			return true
		}
	}
	return s.deletedAfter(d) || d.operation == Delete && s.pushedAfter(d)
}

// pushedAfter says whether somebody else has pushed to the group after the time of a deletion: an agent sends its deletions also to stores
// that it has not met, where the group may be another's.
func (s *Store) pushedAfter(d *draft) bool {
	g := s.groups[d.key.Canonical()]
	if g == nil || g.state.pushed <= d.at {
		return false
	}
	marks := g.state.noted().marks
	i := markOf(marks, s.sources[d.origin.Source])
	return i < 0 || marks[i].at < g.state.pushed
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
	next := mark{source: src, sequence: o.Sequence, digest: o.Digest, rejected: by.rejected}
	switch {
	case !by.rejected:
		next.at = by.at
	case i >= 0:
		next.at = marks[i].at
	}
	size := len(marks)
	switch {
	case i < 0 && size < maxMarks:
		size++
	case i < 0:
		i = 0 // moved longest ago
	}
	after := make([]mark, 0, size)
	for j, m := range marks {
		if j != i {
			after = append(after, m)
		}
	}
	return append(after, next)
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
