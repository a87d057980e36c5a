package groupstore

import (
	"slices"
	"strings"

	"pushrelay/internal/change"
)

// A push may come twice, and takes effect once (T12). Whoever sends it numbers what it sends. A source is such a numbering: its name is who
// numbers, the author, a zero byte, and which of the author's numberings it is. The store compares those, and knows nothing else of them.
//
// Each group keeps, per source, a mark: the number of the last push that was decided, in the same record as the change that
// came of it. A push at or below the mark is a duplicate. Sources must send what concerns one group in the order of the
// numbers; between groups there is no order.
//
// The author without a name is the relays of a cluster: each process of one numbers the direct pushes that it hands on to the one that decides
// (C11). Such a source ends with its process, and then its marks go when their group's record is written next.

// maxMarks bounds the marks of one group. A group has one source, or a few if its source was given up for another; beyond
// that the mark that was moved longest ago is dropped.
const maxMarks = 16

// A mark is how far one source was decided in one group. It is immutable, and a list of marks is replaced whole; the mark
// that was moved last stands last. Of a group that is not there it becomes a trace.
type mark struct {
	source   *source
	sequence uint64
	digest   [16]byte
	rejected bool // that push was
	// at is the latest time of a push of the source that took effect in the group, in nanoseconds since the epoch; 0 if there
	// was none, or if that was before marks had times.
	at int64
}

// covers says whether the origin, which is of the mark's source, was decided already. The same number with another digest is
// another push: nothing is called a duplicate on a number alone.
func (m mark) covers(o *change.Origin) bool {
	return m.sequence > o.Sequence || m.sequence == o.Sequence && m.digest == o.Digest
}

// A source is in the table for as long as any group has a mark of it, or it has left a trace.
type source struct {
	// Static.
	name   string
	author *author

	// Guarded by Store.mu.
	sequence uint64   // the highest that was decided, in whatever group
	digest   [16]byte // of the push with that number
	marks    int      // how many groups have one
	traces   traces
	unknown  string // fields of a later release
}

// An author is who numbers. It is in the table for as long as any of its sources is. It is guarded by Store.mu.
type author struct {
	name    string // static
	sources []*source

	fresh      int      // traces of all its sources that are not passed
	remembered []memory // those that are, as they were passed; some may be gone
	passed     int      // how many are not
}

// origins are all sources and their authors, and what they left where no group is. They are guarded by Store.mu.
type origins struct {
	// Static: the constants of these names, except in tests.
	maxTraces, maxAllTraces, maxRemembered, maxAllRemembered int

	sources map[string]*source // by name
	authors map[string]*author // by name
	marks   int                // in all groups
	fresh   int                // traces that are not passed
	passed  int                // traces that are
	passes  uint64             // how many were ever passed
	feeds   *feeds             // static: who follows
	// gone is [Config.Gone]; static.
	gone func(journal [16]byte) bool
}

func newOrigins(f *feeds, gone func(journal [16]byte) bool) origins {
	in := origins{maxTraces: maxTraces, maxAllTraces: maxAllTraces, maxRemembered: maxRemembered, maxAllRemembered: maxAllRemembered, feeds: f, gone: gone}
	in.clear()
	return in
}

// clear forgets all sources, and what they left.
func (in *origins) clear() {
	in.sources, in.authors = make(map[string]*source), make(map[string]*author)
	in.marks, in.fresh, in.passed, in.passes = 0, 0, 0, 0
}

// Decided returns the highest sequence of the agent's journal that was decided, in whatever group, and the digest of that push. It
// is known for as long as any group has a mark or any trace is left of the journal, also over a restart.
func (s *Store) Decided(agent string, journal [16]byte) (sequence uint64, digest change.Digest, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	src := s.origins.sourceOfJournal(agent, journal)
	return src.sequence, src.digest, src.author != nil
}

// Journals returns the journals of an agent, or with an empty name those of relays, of which any group has a mark or any trace is left.
func (s *Store) Journals(agent string) [][16]byte {
	s.mu.RLock()
	defer s.mu.RUnlock()
	a := s.origins.authors[agent]
	if a == nil {
		return nil
	}
	var all [][16]byte
	for _, src := range a.sources {
		if journal, ok := journalOf(agent, src.name); ok {
			all = append(all, journal)
		}
	}
	return all
}

// journalOf returns which journal of that agent a source is.
func journalOf(agent, source string) (journal [16]byte, ok bool) {
	rest, ok := strings.CutPrefix(source, agent+"\x00")
	if !ok || len(rest) != len(journal) {
		return journal, false
	}
	return [16]byte([]byte(rest)), true
}

// living returns marks without those of relays' processes that are gone.
func (in *origins) living(marks []mark) []mark {
	if in.gone == nil || !slices.ContainsFunc(marks, in.isGone) {
		return marks
	}
	return slices.DeleteFunc(slices.Clone(marks), in.isGone)
}

func (in *origins) isGone(m mark) bool {
	journal, ok := journalOf("", m.source.name)
	return ok && in.gone(journal)
}

// covering says whether the push was decided before, and whether it was rejected then; never for one without an origin.
func (x *decision) covering() (rejected, duplicate bool, sequence uint64) {
	o, canonical := x.change.Origin, x.key.Canonical()
	if o == nil {
		return false, false, 0
	}
	src := x.source
	marks := x.groups.marksAt(canonical)
	if i := markOf(marks, src); i >= 0 {
		return marks[i].rejected, marks[i].covers(o), marks[i].sequence
	}
	t, passed, found := src.traceAt(canonical)
	return t.rejected(), found && !passed && t.covers(o), t.sequence
}

// isSuperseded says whether a push that waited is older than what another numbering of its author did to the group since: a copy of
// the author that was put back, or one that comes back after a newer one, undoes nothing. Within a numbering the sequence decides,
// whatever clocks do; and what did not wait is always the newest.
func (x *decision) isSuperseded() bool {
	if !x.change.Waited || x.change.Origin == nil || x.operation == change.Mark {
		return false
	}
	canonical := x.key.Canonical()
	if a := x.origins.authors[authorOf(x.source.name)]; a != nil {
		marks := x.groups.marksAt(canonical)
		for _, src := range a.sources {
			t, passed, _ := src.traceAt(canonical)
			at := t.at()
			if i := markOf(marks, src); i >= 0 {
				at = max(at, marks[i].at)
			}
			if at <= x.at {
				continue
			}
			// A trace that is passed is of a number that this numbering will never send again, unless it is a copy.
			if src != x.source || passed && t.sequence >= x.change.Origin.Sequence {
				return true
			}
		}
	}
	return x.operation == change.Delete && x.isPushedAfter()
}

// isPushedAfter says whether somebody else has pushed to the group after the time of a deletion: an agent sends its deletions also to stores
// that it has not met, where the group may be another's.
func (x *decision) isPushedAfter() bool {
	g := x.group
	if g == nil || g.state.pushed <= x.at {
		return false
	}
	marks := g.state.noted().marks
	i := markOf(marks, x.source)
	return i < 0 || marks[i].at < g.state.pushed
}

// markOf returns the index of the source's mark, -1 if there is none.
func markOf(marks []mark, src *source) int {
	return slices.IndexFunc(marks, func(m mark) bool { return m.source == src })
}

// moved returns the marks after a draft that has an origin was decided: the same ones if it was before.
func (x *decision) moved(marks []mark, rejected bool) []mark {
	o, src := x.change.Origin, x.source
	i := markOf(marks, src)
	if i >= 0 && marks[i].covers(o) {
		return marks
	}
	next := mark{source: src, sequence: o.Sequence, digest: o.Digest, rejected: rejected}
	if i >= 0 {
		next.at = marks[i].at
	} else if t, passed, found := src.traceAt(x.key.Canonical()); found {
		if !passed && t.covers(o) || passed && t.sequence >= o.Sequence && rejected {
			return marks // What a copy sends that has nothing new does not take the place of what is remembered.
		}
		next.at = t.at()
	}
	if !rejected {
		next.at = max(next.at, x.at)
	}
	if i < 0 && len(marks) == maxMarks {
		i = 0 // moved longest ago
	}
	after := make([]mark, 0, len(marks)+1)
	for j, m := range marks {
		if j != i {
			after = append(after, m)
		}
	}
	return append(after, next)
}

// authorOf returns who numbers a source.
func authorOf(source string) string {
	name, _, _ := strings.Cut(source, "\x00")
	return name
}

// sourceOfJournal returns the source of that agent and journal: the one of the table, or one that fits to enter it. Journals of different
// agents are different sources, whatever their ids are: no agent can speak for another's. No identity contains the byte between the two.
//
// Its room must not be in the frame of [Store.take]: the way down would pass 8 KiB, and each garbage collection would halve the stacks of
// connections that push (0061).
//
//go:noinline
func (in *origins) sourceOfJournal(agent string, journal [16]byte) *source {
	var room [128]byte // so that nothing is allocated for a source that the table has
	name := append(append(append(room[:0], agent...), 0), journal[:]...)
	if src := in.sources[string(name)]; src != nil {
		return src
	}
	return &source{name: string(name)}
}

// sourceOf returns the source of that name: the one of the table, or one that fits to enter it.
func (in *origins) sourceOf(name string) *source {
	if src := in.sources[name]; src != nil {
		return src
	}
	return &source{name: name}
}

// addSource puts a source into the tables, unless it is there.
func (in *origins) addSource(src *source) {
	if src.author != nil {
		return
	}
	name := authorOf(src.name)
	if in.authors[name] == nil {
		in.authors[name] = &author{name: name}
	}
	src.author = in.authors[name]
	src.author.sources = append(src.author.sources, src)
	in.sources[src.name] = src
	in.feeds.note(SourceRecord, src.name)
}

// dropUnused takes a source out of the tables that nothing is left of.
func (in *origins) dropUnused(src *source) {
	if src.author == nil || src.marks > 0 || !src.traces.isEmpty() {
		return
	}
	a := src.author
	in.feeds.note(SourceRecord, src.name)
	delete(in.sources, src.name)
	a.sources = slices.DeleteFunc(a.sources, func(other *source) bool { return other == src })
	if len(a.sources) == 0 {
		delete(in.authors, a.name)
	}
	src.author = nil
}

// adoptMarks returns marks that may come from elsewhere as marks of this store.
func (in *origins) adoptMarks(marks []mark) []mark {
	marks = slices.Clone(marks)
	for i := range marks {
		marks[i].source = in.sourceOf(marks[i].source.name)
	}
	return marks
}

// advance takes note of how far a mark says that its source was decided.
func (in *origins) advance(m mark) {
	if m.sequence >= m.source.sequence {
		in.feeds.note(SourceRecord, m.source.name)
		m.source.sequence, m.source.digest = m.sequence, m.digest
	}
}

// remark keeps the sources when marks take the place of others in a group. What the sources left there before is in the marks.
func (in *origins) remark(canonical string, before, after []mark) {
	if len(before) == len(after) && (len(after) == 0 || &before[0] == &after[0]) {
		return
	}
	in.marks += len(after) - len(before)
	for _, m := range after {
		in.addSource(m.source)
		i := markOf(before, m.source)
		if i < 0 {
			m.source.marks++
			if !m.source.traces.isEmpty() {
				in.dropTrace(keyOfTrace(canonical), m.source)
			}
		}
		if i < 0 || before[i] != m {
			in.advance(m)
		}
	}
	for _, m := range before {
		if markOf(after, m.source) < 0 {
			m.source.marks--
			in.dropUnused(m.source)
		}
	}
}

// leaveTraces turns the marks of a group that is not there, or not any more, into traces. had are those that it had while it was there.
func (in *origins) leaveTraces(canonical string, had, marks []mark) {
	in.marks -= len(had)
	for _, m := range marks {
		in.addSource(m.source)
		if !slices.Contains(had, m) {
			in.advance(m)
		}
		in.addTrace(m.source, keyedTrace{keyOfTrace(canonical), traceOf(m)})
	}
	for _, m := range had {
		m.source.marks--
		in.dropUnused(m.source)
	}
}
