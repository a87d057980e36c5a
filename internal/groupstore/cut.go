package groupstore

import (
	"iter"
	"slices"

	"google.golang.org/protobuf/proto"

	storagev1 "pushrelay/internal/gen/storage/v1"
	"pushrelay/internal/series"
)

// Cut is the whole store at one position: what a snapshot or a backup holds. It is immutable, and may be read while the
// store goes on.
type Cut struct {
	position uint64
	states   []*state // some may be nil; in no order
	sources  []decided
	traces   []tracedMark
	answers  []keyedAnswer // the oldest first
}

// decided is how far a source was decided.
type decided struct {
	name     string
	sequence uint64
	digest   [16]byte
	unknown  string // fields of a later release
}

// A tracedMark is a trace with its place.
type tracedMark struct {
	source string
	passed uint64 // its order; 0 for one that is not passed
	// unknown are fields of a later release.
	unknown string
	keyedTrace
}

// Cut calls mark and returns the state at just that position: nothing is appended to the log meanwhile. So mark can begin a
// part of the log that continues the cut; it must not block. If it fails there is no cut. Only pointers are
// copied, and how far each source was decided.
func (s *Store) Cut(mark func() error) (*Cut, error) {
	s.mu.RLock() // changes need the lock whole
	defer s.mu.RUnlock()
	if err := mark(); err != nil {
		return nil, err
	}
	c := &Cut{position: s.position, states: slices.Clone(s.slots.states), traces: s.origins.allTraces(), answers: slices.Clone(s.answers.oldest), sources: make([]decided, 0, len(s.origins.sources))}
	for _, src := range s.origins.sources {
		c.sources = append(c.sources, src.decided())
	}
	return c, nil
}

// allTraces returns all traces, those that are passed in the order in which they were.
func (in *origins) allTraces() []tracedMark {
	all := make([]tracedMark, 0, in.fresh+in.passed)
	for _, src := range in.sources {
		for _, t := range src.traces.fresh {
			all = append(all, tracedMark{source: src.name, unknown: src.traces.unknown[t.key], keyedTrace: t})
		}
	}
	for _, a := range in.authors {
		for _, m := range a.remembered {
			if m.isThere() {
				t := m.src.traces.passed[m.key]
				all = append(all, tracedMark{m.src.name, t.order, m.src.traces.unknown[m.key], keyedTrace{m.key, t.trace}})
			}
		}
	}
	return all
}

// Position returns the position of the last change, 0 for a store that has never had one.
func (s *Store) Position() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.position
}

// CutBytes estimates the size of a cut's records if one was made now.
func (s *Store) CutBytes() int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return int64(s.totals.valueBytes) + int64(s.sets.Counts().Bytes) + int64(s.groups.bytes) +
		int64(s.totals.parts)*partRecordBytes + int64(len(s.groups.byKey))*groupRecordBytes +
		int64(s.origins.marks+len(s.origins.sources)+s.origins.fresh+s.origins.passed)*markRecordBytes
}

// What a part, a group and a mark take in the records beside the texts of the groups, for Store.CutBytes.
const (
	partRecordBytes  = 10
	groupRecordBytes = 32
	markRecordBytes  = 64
)

// Records returns the records that a [Loader] makes a store of. They are to be kept in order and whole, and each is valid
// until the next one.
func (c *Cut) Records() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		w := cutWriter{numbers: make(map[*series.Set]uint64)}
		if !yield(w.message(headKind, &storagev1.Head{Position: c.position})) {
			return
		}
		for _, st := range c.states {
			if st != nil && !yield(w.group(st)) {
				return
			}
		}
		for i := range c.traces {
			if !yield(w.message(traceKind, c.traces[i].record())) {
				return
			}
		}
		for _, a := range c.answers {
			if !yield(w.message(answerKind, a.record())) {
				return
			}
		}
		for i := range c.sources { // after all marks, by which they are found
			if !yield(w.message(sourceKind, c.sources[i].record())) {
				return
			}
		}
	}
}

// A cutWriter writes records. Sets are numbered in the order in which they are first needed.
type cutWriter struct {
	numbers map[*series.Set]uint64
	buf     []byte

	// Of the group that is written.
	sets    []uint64
	defined []*series.Set
}

// message makes a record of a message.
func (w *cutWriter) message(kind byte, m proto.Message) []byte {
	w.buf = append(append(w.buf[:0], kind), encodeMessage(m)...)
	return w.buf
}

// The numbers of the fields of storage.v1.Group.
const (
	groupKey      = 1
	groupVersion  = 2
	groupBorn     = 3
	groupNotes    = 4
	groupFamilies = 5
)

// group writes a group, and in it the sets that no group before it had.
func (w *cutWriter) group(st *state) []byte {
	first := uint64(len(w.numbers))
	w.sets, w.defined = w.sets[:0], w.defined[:0]
	for i := range st.parts {
		k := st.parts[i].set
		number, ok := w.numbers[k]
		if !ok {
			number = uint64(len(w.numbers))
			w.numbers[k] = number
			w.defined = append(w.defined, k)
		}
		w.sets = append(w.sets, number)
	}
	noted := st.noted()
	n := newNotesRecord(noted, st.pushed)
	f := familiesRecord{parts: st.parts, pushed: st.pushed, later: noted.later.ofFamilies(), numbers: w.sets, defined: w.defined, first: first}
	w.buf = append(w.buf[:0], groupKind)
	w.buf = appendBytesField(w.buf, groupKey, st.group.key.Canonical())
	w.buf = appendVarintField(w.buf, groupVersion, st.version)
	if st.group.born != st.version {
		w.buf = appendVarintField(w.buf, groupBorn, st.group.born)
	}
	w.buf = appendGroupFields(w.buf, &n, &f)
	return w.buf
}

// appendGroupFields appends the fields of a group that are messages, unless they are nil or say nothing.
func appendGroupFields(dst []byte, n *notesRecord, f *familiesRecord) []byte {
	if n != nil {
		if size := n.size(); size > 0 {
			dst = n.append(appendLength(dst, groupNotes, size))
		}
	}
	if f != nil {
		if size := f.size(); size > 0 {
			dst = f.append(appendLength(dst, groupFamilies, size))
		}
	}
	return dst
}
