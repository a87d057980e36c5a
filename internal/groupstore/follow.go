package groupstore

import (
	"cmp"
	"encoding/binary"
	"iter"
	"slices"
	"strings"

	storagev1 "pushrelay/internal/gen/storage/v1"
)

// A store can be followed by others that hold the same, and judge nothing (C2, C3). What it holds is a set of records, each with a name of its own,
// and a change leaves some of them as others: those of the group that it is about, and of what waited for that.

// A RecordKind is what a record is about.
type RecordKind uint8

const (
	// FamiliesRecord is a storage.v1.Group with what was pushed to it, and since when it is there. Its name is the canonical key.
	FamiliesRecord RecordKind = 1 + iota
	// NotesRecord is a storage.v1.Group with all else, which is small and changes more often. Its name is the canonical key.
	NotesRecord
	// TraceRecord is a storage.v1.Trace. Its name is that of the source, and eight bytes that stand for the group.
	TraceRecord
	// AnswerRecord is a storage.v1.Answer. Its name is its position in eight bytes.
	AnswerRecord
	// SourceRecord is a storage.v1.Source. Its name is the source's.
	SourceRecord
	// WipeRecord is a storage.v1.Wipe, the last one. It has no name.
	WipeRecord
)

// A RecordID names a record.
type RecordID struct {
	Kind RecordKind
	Name string
}

// feeds are all who follow the store. They are guarded by Store.mu.
type feeds struct {
	settledAtOnce int // static: the constant of this name, except in tests

	all []*Feed
	wiped
}

// note notes that a record is, or is about to be, another one.
func (fs *feeds) note(kind RecordKind, name string) {
	for _, f := range fs.all {
		if !f.whole {
			f.changed[RecordID{kind, name}] = struct{}{}
		}
	}
}

// noteGroup notes which records of a group another state is about to change. Either may be nil.
func (fs *feeds) noteGroup(g *group, before, after *state) {
	if len(fs.all) == 0 && len(fs.left) == 0 {
		return
	}
	key := g.key.Canonical()
	if len(fs.left) > 0 {
		fs.settle(keyOfTrace(key))
	}
	whole := before == nil || after == nil || before.group != after.group
	if whole || !sameParts(before.parts, after.parts) { // which another time of the push always is
		fs.note(FamiliesRecord, key)
	}
	if whole || before.version != after.version || before.notes != after.notes {
		fs.note(NotesRecord, key)
	}
}

// sameParts says whether two lists are one and the same; parts are immutable.
func sameParts(a, b []part) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

func (fs *feeds) noteTrace(src *source, key traceKey) {
	fs.settle(key)
	if len(fs.all) > 0 {
		fs.note(TraceRecord, nameOfTrace(src.name, key))
	}
}

func nameOfTrace(source string, key traceKey) string {
	return source + nameOfNumber(uint64(key))
}

func (fs *feeds) noteAnswer(position uint64) {
	if len(fs.all) > 0 {
		fs.note(AnswerRecord, nameOfNumber(position))
	}
}

func nameOfNumber(n uint64) string { return string(binary.BigEndian.AppendUint64(nil, n)) }

// tailNumber returns the number that a name ends with, and what is before it.
func tailNumber(name string) (rest string, n uint64, ok bool) {
	if len(name) < 8 {
		return "", 0, false
	}
	cut := len(name) - 8
	return name[:cut], binary.BigEndian.Uint64([]byte(name[cut:])), true
}

// A Feed collects which records of a store change. It is made by [Store.Follow] and safe for concurrent use.
type Feed struct {
	store *Store // static

	// Guarded by Store.mu.
	whole   bool // all is to be told
	changed map[RecordID]struct{}
}

// Follow returns a feed that tells of the whole store first, and after that of what has changed. It is to be closed.
func (s *Store) Follow() *Feed {
	f := &Feed{store: s, whole: true, changed: make(map[RecordID]struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.feeds.all = append(s.feeds.all, f)
	return f
}

// FollowOn returns a feed that tells of what changes from now on, and of those records first. It is to be closed.
func (s *Store) FollowOn(first []RecordID) *Feed {
	f := &Feed{store: s, changed: make(map[RecordID]struct{}, len(first))}
	for _, id := range first {
		f.changed[id] = struct{}{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.feeds.all = append(s.feeds.all, f)
	for _, id := range first {
		s.feeds.settleRecord(id)
	}
	return f
}

// Close ends the feed. From then on it collects nothing.
func (f *Feed) Close() {
	s := f.store
	s.mu.Lock()
	defer s.mu.Unlock()
	s.feeds.all = slices.DeleteFunc(s.feeds.all, func(other *Feed) bool { return other == f })
}

// A Delta is what one store has to another that had what the delta before told. It is immutable.
type Delta struct {
	// Position is that of the store when the delta was taken.
	Position uint64
	// Whole says that it is everything, and for [Store.StartFrom].
	Whole bool

	records []toldRecord
}

// A toldRecord is one that has changed.
type toldRecord struct {
	id RecordID
	of recorded // nil if it is gone
}

// recorded is what a record can be made of. It does not change.
type recorded interface{ encode() []byte }

// familiesOf and notesOf are the two records of a group.
type familiesOf struct {
	state *state
	born  uint64
}

type notesOf struct{ state *state }

func (o familiesOf) encode() []byte {
	f := familiesRecord{parts: o.state.parts, pushed: o.state.pushed, later: o.state.noted().later.ofFamilies()}
	return appendGroupFields(appendVarintField(nil, groupBorn, o.born), nil, &f)
}

func (o notesOf) encode() []byte {
	n := newNotesRecord(o.state.noted(), o.state.pushed)
	return appendGroupFields(appendVarintField(nil, groupVersion, o.state.version), &n, nil)
}

func (t tracedMark) encode() []byte  { return encodeMessage(t.record()) }
func (d decided) encode() []byte     { return encodeMessage(d.record()) }
func (a keyedAnswer) encode() []byte { return encodeMessage(a.record()) }

// wipeThrough is the position of a wipe.
type wipeThrough uint64

func (t wipeThrough) encode() []byte { return encodeMessage(&storagev1.Wipe{Position: uint64(t)}) }

// Take returns what has changed since it was called before, as it is now: what has changed twice is told once. It costs what has changed; under
// the lock only pointers are copied.
func (f *Feed) Take() *Delta {
	s := f.store
	s.mu.Lock()
	d := &Delta{Position: s.position, Whole: f.whole}
	if f.whole {
		d.records = s.allRecords()
	} else {
		s.feeds.settleSome()
		d.records = make([]toldRecord, 0, len(f.changed))
		for id := range f.changed {
			d.records = append(d.records, toldRecord{id, s.recorded(id)})
		}
	}
	f.whole, f.changed = false, make(map[RecordID]struct{})
	s.mu.Unlock()
	slices.SortFunc(d.records, func(a, b toldRecord) int {
		return cmp.Or(cmp.Compare(a.id.Kind, b.id.Kind), strings.Compare(a.id.Name, b.id.Name))
	})
	return d
}

// Len returns the number of records.
func (d *Delta) Len() int { return len(d.records) }

// Records yields the records in the order of their names, each nil if there is none any more. They are made when they are asked for.
func (d *Delta) Records() iter.Seq2[RecordID, []byte] {
	return func(yield func(RecordID, []byte) bool) {
		for _, r := range d.records {
			var encoded []byte
			if r.of != nil {
				encoded = r.of.encode()
			}
			if !yield(r.id, encoded) {
				return
			}
		}
	}
}

// allRecords returns everything that records are made of.
func (s *Store) allRecords() []toldRecord {
	all := make([]toldRecord, 0, 2*len(s.groups.byKey)+len(s.origins.sources)+s.origins.fresh+s.origins.passed+len(s.answers.oldest))
	for key, g := range s.groups.byKey {
		all = append(all, toldRecord{RecordID{FamiliesRecord, key}, familiesOf{g.state, g.born}}, toldRecord{RecordID{NotesRecord, key}, notesOf{g.state}})
	}
	for _, t := range s.origins.allTraces() {
		all = append(all, toldRecord{RecordID{TraceRecord, nameOfTrace(t.source, t.key)}, t})
	}
	for _, a := range s.answers.oldest {
		all = append(all, toldRecord{RecordID{AnswerRecord, nameOfNumber(a.position)}, a})
	}
	for name, src := range s.origins.sources {
		all = append(all, toldRecord{RecordID{SourceRecord, name}, src.decided()})
	}
	return all
}

// recorded returns what a record is made of; nil if there is none.
func (s *Store) recorded(id RecordID) recorded {
	switch id.Kind {
	case FamiliesRecord, NotesRecord:
		g := s.groups.byKey[id.Name]
		switch {
		case g == nil:
			return nil
		case id.Kind == NotesRecord:
			return notesOf{g.state}
		default:
			return familiesOf{g.state, g.born}
		}
	case TraceRecord:
		name, key, _ := tailNumber(id.Name)
		if src := s.origins.sources[name]; src != nil {
			if t, found := src.traced(traceKey(key)); found {
				return t
			}
		}
	case AnswerRecord:
		_, position, _ := tailNumber(id.Name)
		if a, found := s.answers.at(position); found {
			return a
		}
	case SourceRecord:
		if src := s.origins.sources[id.Name]; src != nil {
			return src.decided()
		}
	case WipeRecord:
		if through := s.feeds.through; through > 0 {
			return wipeThrough(through)
		}
	}
	return nil
}

// traced returns the trace of the source under that key.
func (src *source) traced(key traceKey) (t tracedMark, found bool) {
	ts := &src.traces
	if i, fresh := ts.places[key]; fresh {
		return tracedMark{source: src.name, unknown: ts.unknown[key], keyedTrace: ts.fresh[i]}, true
	}
	p, found := ts.passed[key]
	return tracedMark{src.name, p.order, ts.unknown[key], keyedTrace{key, p.trace}}, found
}

func (src *source) decided() decided { return decided{src.name, src.sequence, src.digest, src.unknown} }
