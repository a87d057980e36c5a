package groupstore

import (
	"container/heap"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"time"

	"pushrelay/internal/change"
)

// The bounds of traces. Those that are not passed are bounded for each author and for all: beyond that, changes that would leave another
// one come later, so that nobody fills the memory with groups that are not there. Those that are passed are remembered as long as there is
// room; the oldest go first.
const (
	maxTraces        = 1 << 16
	maxAllTraces     = 1 << 20
	maxRemembered    = 4096
	maxAllRemembered = 1 << 18
)

// A trace is what is left of a source's mark in a group that is not there: whatever the length of the grouping key, it costs less than 100
// bytes. While the source may still send earlier pushes it makes them duplicates. When the source is past it, it is remembered for a copy
// of the author that does not know of the deletion, and shall not undo it. It is immutable.
type trace struct {
	sequence uint64
	digest   uint64 // the beginning of the mark's
	stamp    uint64 // the mark's time in microseconds, and in the lowest bit whether the push was rejected
}

func traceOf(m mark) trace {
	t := trace{sequence: m.sequence, digest: binary.BigEndian.Uint64(m.digest[:]), stamp: uint64(max(0, m.at)/int64(time.Microsecond)) << 1}
	if m.rejected {
		t.stamp |= 1
	}
	return t
}

func (t trace) rejected() bool { return t.stamp&1 != 0 }

// at is the time of the mark in nanoseconds since the epoch; 0 if it had none.
func (t trace) at() int64 { return int64(t.stamp>>1) * int64(time.Microsecond) }

// covers says whether the origin, which is of the trace's source, was decided already.
func (t trace) covers(o *change.Origin) bool {
	return t.sequence > o.Sequence || t.sequence == o.Sequence && t.digest == binary.BigEndian.Uint64(o.Digest[:])
}

// A traceKey stands for a grouping key: the beginning of the SHA-256 of its canonical form. Whoever finds two that are alike harms itself
// alone: keys are compared within a source.
type traceKey uint64

func keyOfTrace(canonical string) traceKey {
	sum := sha256.Sum256([]byte(canonical))
	return traceKey(binary.BigEndian.Uint64(sum[:]))
}

// A keyedTrace is a trace and where it was left.
type keyedTrace struct {
	key traceKey
	trace
}

// A passedTrace is a trace that its source is past.
type passedTrace struct {
	trace
	order uint64 // rises in the order in which traces were passed
}

// traces are those of one source. They are guarded by Store.mu. A key is in one of the two maps at most.
type traces struct {
	fresh  []keyedTrace        // a heap by sequence: those that the source is not past
	places map[traceKey]uint32 // where they are in it
	passed map[traceKey]passedTrace
	// unknown are fields of a later release; nil for none.
	unknown map[traceKey]string
}

// traceAt returns the trace that the source left in a group, and whether the source is past it.
func (src *source) traceAt(canonical string) (t trace, passed, found bool) {
	ts := &src.traces
	if len(ts.fresh) == 0 && len(ts.passed) == 0 {
		return t, false, false
	}
	key := keyOfTrace(canonical)
	if i, fresh := ts.places[key]; fresh {
		return ts.fresh[i].trace, false, true
	}
	p, found := ts.passed[key]
	return p.trace, found, found
}

// keepUnknown keeps fields of a later release of a trace that is about to enter.
func (ts *traces) keepUnknown(key traceKey, fields string) {
	if fields == "" {
		return
	}
	if ts.unknown == nil {
		ts.unknown = make(map[traceKey]string)
	}
	ts.unknown[key] = fields
}

func (ts *traces) isEmpty() bool { return len(ts.fresh) == 0 && len(ts.passed) == 0 }

// Len is for package heap, as the next four.
func (ts *traces) Len() int { return len(ts.fresh) }

// Less orders them by their numbers. Only a source that was copied has a number twice.
func (ts *traces) Less(i, j int) bool {
	a, b := &ts.fresh[i], &ts.fresh[j]
	return a.sequence < b.sequence || a.sequence == b.sequence && a.key < b.key
}

// Swap keeps the places.
func (ts *traces) Swap(i, j int) {
	ts.fresh[i], ts.fresh[j] = ts.fresh[j], ts.fresh[i]
	ts.places[ts.fresh[i].key], ts.places[ts.fresh[j].key] = uint32(i), uint32(j)
}

// Push keeps the place.
func (ts *traces) Push(x any) {
	t := x.(keyedTrace)
	if ts.places == nil {
		ts.places = make(map[traceKey]uint32)
	}
	ts.places[t.key] = uint32(len(ts.fresh))
	ts.fresh = append(ts.fresh, t)
}

// Pop forgets the place.
func (ts *traces) Pop() any {
	last := ts.fresh[len(ts.fresh)-1]
	ts.fresh = ts.fresh[:len(ts.fresh)-1]
	delete(ts.places, last.key)
	if len(ts.fresh) == 0 {
		ts.fresh, ts.places = nil, nil // they may have been many
	}
	return last
}

// addTrace puts a trace in the place of the one that the source has there, which is older.
func (in *origins) addTrace(src *source, t keyedTrace) {
	in.dropTrace(t.key, src)
	in.feeds.noteTrace(src, t.key)
	in.enterTrace(src, t)
}

// enterTrace puts a trace where the source has none.
func (in *origins) enterTrace(src *source, t keyedTrace) {
	heap.Push(&src.traces, t)
	src.author.fresh++
	in.fresh++
}

// dropTrace takes a trace out, if it is there.
func (in *origins) dropTrace(key traceKey, src *source) {
	ts := &src.traces
	delete(ts.unknown, key)
	if i, fresh := ts.places[key]; fresh {
		in.feeds.noteTrace(src, key)
		heap.Remove(ts, int(i))
		src.author.fresh--
		in.fresh--
		return
	}
	if _, passed := ts.passed[key]; passed {
		in.feeds.noteTrace(src, key)
		delete(ts.passed, key)
		src.author.passed--
		in.passed--
	}
}

// forgetTraces decides that the source will never send again what is numbered up to there: the traces up to there make nothing a duplicate any
// more. The marks of groups stay.
func (x *decision) forgetTraces() {
	src, through := x.source, x.change.Origin.Sequence
	if len(src.traces.fresh) == 0 || src.traces.fresh[0].sequence > through {
		return
	}
	x.effect.Operation, x.effect.marks = change.Forget, []mark{{source: src, sequence: through}}
}

// forget applies the change. It costs what is forgotten.
func (in *origins) forget(src *source, through uint64) {
	ts := &src.traces
	for len(ts.fresh) > 0 && ts.fresh[0].sequence <= through {
		t, unknown := ts.fresh[0], ts.unknown[ts.fresh[0].key]
		in.dropTrace(t.key, src)
		if t.at() > 0 && src.author.name != "" { // a relay never comes back as a copy
			src.traces.keepUnknown(t.key, unknown)
			in.remember(src, t)
		}
	}
	in.dropUnused(src)
}

// A memory is a trace that its source is past.
type memory struct {
	src   *source
	key   traceKey
	order uint64
}

// isThere says whether the trace is there as it was passed.
func (m memory) isThere() bool {
	t, found := m.src.traces.passed[m.key]
	return found && t.order == m.order
}

// pass enters a trace that its source is past, in the place that its order gives it.
func (in *origins) pass(src *source, key traceKey, t passedTrace) {
	if src.traces.passed == nil {
		src.traces.passed = make(map[traceKey]passedTrace)
	}
	in.feeds.noteTrace(src, key)
	a := src.author
	src.traces.passed[key] = t
	at := len(a.remembered)
	for at > 0 && a.remembered[at-1].order > t.order { // never, but for what comes from elsewhere
		at--
	}
	a.remembered = slices.Insert(a.remembered, at, memory{src, key, t.order})
	a.passed++
	in.passed++
	in.passes = max(in.passes, t.order)
}

// remember keeps a trace that its source is past, as long as there is room for it.
func (in *origins) remember(src *source, t keyedTrace) {
	a := src.author
	in.pass(src, t.key, passedTrace{t.trace, in.passes + 1})
	for a.passed > in.maxRemembered || a.passed > 0 && in.passed > in.maxAllRemembered {
		oldest := a.remembered[0]
		a.remembered = a.remembered[1:]
		if !oldest.isThere() {
			continue
		}
		in.dropTrace(oldest.key, oldest.src)
		if oldest.src != src { // the caller looks after its own
			in.dropUnused(oldest.src)
		}
	}
	if len(a.remembered) > 2*a.passed+16 {
		a.remembered = slices.DeleteFunc(a.remembered, func(m memory) bool { return !m.isThere() })
	}
}

// leavesTooMany refuses, for now, a change that would leave one trace too many.
func (x *decision) leavesTooMany() *change.Outcome {
	leaves := x.effect.Operation == change.Delete || x.effect.Operation == change.Mark && x.group == nil
	if x.change.Origin == nil || !leaves {
		return nil
	}
	if x.origins.fresh >= x.origins.maxAllTraces {
		return noRoom(x.origins.maxAllTraces, tracesLimit)
	}
	if a := x.origins.authors[authorOf(x.source.name)]; a != nil && a.name != "" && a.fresh >= x.origins.maxTraces {
		return noRoomFor(a.name, x.origins.maxTraces, tracesLimit.what, "")
	}
	return nil
}

// DropMarks forgets what was decided, and how far: for a store that has lost changes, of which the marks that are left may
// say that they were decided. It must be called before anything is changed, and it is not logged: a snapshot has to follow.
func (s *Store) DropMarks() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.groups.byKey {
		if len(g.state.noted().marks) > 0 {
			s.replace(g, markedState(&Effect{}, g))
		}
	}
	s.origins.clear()
}
