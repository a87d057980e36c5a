package groupstore

import (
	"encoding/binary"
	"iter"
	"slices"

	"pushrelay/internal/fields"
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
		if !yield(w.head(c.position)) {
			return
		}
		for _, st := range c.states {
			if st != nil && !w.group(st, yield) {
				return
			}
		}
		for i := range c.traces {
			if !yield(w.trace(&c.traces[i])) {
				return
			}
		}
		for _, a := range c.answers {
			if !yield(w.answerOf(a)) {
				return
			}
		}
		for i := range c.sources { // after all marks, by which they are found
			if !yield(w.source(&c.sources[i])) {
				return
			}
		}
	}
}

// The ways in which a trace can be kept.
const (
	traceFresh = iota
	tracePassed
)

// A cutWriter writes records. Skeletons are numbered in the order in which they are first needed.
type cutWriter struct {
	numbers map[*series.Set]uint64
	buf     []byte
}

func (w *cutWriter) begin(kind byte) { w.buf = append(w.buf[:0], plainFormat, kind) }

func (w *cutWriter) head(position uint64) []byte {
	w.begin(cutRecord)
	w.buf = binary.AppendUvarint(w.buf, position)
	return w.buf
}

func (w *cutWriter) trace(t *tracedMark) []byte {
	w.begin(traceRecord)
	w.buf = fields.AppendText(w.buf, t.source)
	w.buf = binary.BigEndian.AppendUint64(w.buf, uint64(t.key))
	w.buf = binary.AppendUvarint(w.buf, t.sequence)
	w.buf = binary.BigEndian.AppendUint64(w.buf, t.digest)
	w.buf = binary.AppendUvarint(w.buf, t.stamp)
	if t.passed > 0 {
		return append(w.buf, tracePassed)
	}
	return append(w.buf, traceFresh)
}

func (w *cutWriter) source(d *decided) []byte {
	w.begin(sourceRecord)
	w.buf = fields.AppendText(w.buf, d.name)
	w.buf = binary.AppendUvarint(w.buf, d.sequence)
	w.buf = append(w.buf, d.digest[:]...)
	return w.buf
}

// group writes a group, and before it the sets that no group before it had.
func (w *cutWriter) group(st *state, yield func([]byte) bool) bool {
	for i := range st.parts {
		k := st.parts[i].set
		if _, ok := w.numbers[k]; ok {
			continue
		}
		w.numbers[k] = uint64(len(w.numbers))
		w.begin(setRecord)
		w.buf = k.AppendEncoding(w.buf)
		if !yield(w.buf) {
			return false
		}
	}
	noted := st.noted()
	life := st.declared()
	format := formatFor(life, noted.broken)
	w.buf = append(w.buf[:0], format, groupRecord)
	w.buf = fields.AppendText(w.buf, st.group.key.Canonical())
	w.buf = binary.AppendUvarint(w.buf, st.version)
	w.buf = binary.AppendUvarint(w.buf, st.group.born)
	w.buf = binary.AppendVarint(w.buf, st.pushed)
	w.buf = binary.AppendVarint(w.buf, noted.failed)
	w.buf = fields.AppendText(w.buf, noted.reason)
	w.buf = appendMarks(w.buf, noted.marks)
	w.buf = fields.AppendText(w.buf, noted.hidden)
	w.buf = appendLife(w.buf, format, life, noted.broken)
	w.buf = binary.AppendUvarint(w.buf, uint64(len(st.parts)))
	for i := range st.parts {
		w.part(&st.parts[i], st.pushed)
	}
	for i := range st.parts {
		w.buf = append(w.buf, st.parts[i].values...)
	}
	return yield(w.buf)
}

// The ways in which a part of a group record can be kept.
const (
	partExposed = iota
	partHidden
)

func (w *cutWriter) part(p *part, pushed int64) {
	w.buf = binary.AppendUvarint(w.buf, w.numbers[p.set])
	w.buf = binary.AppendVarint(w.buf, p.pushed-pushed)
	w.buf = binary.AppendUvarint(w.buf, uint64(len(p.values)))
	if p.hidden == nil {
		w.buf = append(w.buf, partExposed)
		return
	}
	w.buf = append(w.buf, partHidden)
	w.buf = binary.AppendUvarint(w.buf, p.hidden.order)
	w.buf = fields.AppendText(w.buf, p.hidden.reason)
	w.buf = fields.AppendText(w.buf, p.hidden.name)
	by := ""
	if p.hidden.by != nil {
		by = p.hidden.by.key.Canonical()
	}
	w.buf = fields.AppendText(w.buf, by)
}
