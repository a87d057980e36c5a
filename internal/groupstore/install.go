package groupstore

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	storagev1 "pushrelay/internal/gen/storage/v1"
	"pushrelay/internal/grouping"
)

// Install makes the store hold what another one held at that position: all records, or none if there is an error. It was told everything that this one
// had before, see [Feed]. Nothing is judged, and no limit applies. An error means that a record is not understood, or that records are missing.
func (s *Store) Install(position uint64, records iter.Seq2[RecordID, []byte]) error {
	return s.install(&installation{store: s, position: position}, records)
}

// StartFrom is [Store.Install] for records that are everything: nothing of what the store held before is left. Views of it stay as they are.
func (s *Store) StartFrom(position uint64, records iter.Seq2[RecordID, []byte]) error {
	return s.install(&installation{store: s, position: position, whole: true}, records)
}

// An installation is a set of records on their way into a store.
type installation struct {
	store    *Store
	position uint64
	whole    bool

	groups   map[string]*installedGroup // by canonical key
	traces   map[string]*installedTrace // by name
	answers  map[uint64]*keyedAnswer    // by position; nil for those that are gone
	sources  []decided
	wiped    uint64    // through which all groups were; 0 for nothing that is said
	remnants []remnant // that such a wipe has left among the records

	hidings []*loadedHiding
	pinned  []*source // that must not go before the end
}

// An installedGroup is what the two records of a group say, of which one may not be there.
type installedGroup struct {
	key  grouping.Key
	gone bool
	born uint64

	families *readFamilies // nil for those that the group has; pushed times are relative to the group's
	notes    *notes        // nil for those that the group has
	pushed   int64         // with notes
	version  uint64        // with notes

	group *group // the one that is there, or is to be
}

// An installedTrace is one whose source may not be there.
type installedTrace struct {
	source string
	key    traceKey
	trace  tracedMark
	gone   bool
}

func (s *Store) install(in *installation, records iter.Seq2[RecordID, []byte]) error {
	in.groups, in.traces, in.answers = map[string]*installedGroup{}, map[string]*installedTrace{}, map[uint64]*keyedAnswer{}
	for id, record := range records {
		if err := in.read(id, record); err != nil {
			return fmt.Errorf("installing a record of the store: %w", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if in.whole {
		in.bury()
	}
	if err := in.check(); err != nil {
		return fmt.Errorf("installing records of the store: %w", err)
	}
	in.apply()
	return nil
}

// read reads one record.
func (in *installation) read(id RecordID, record []byte) error {
	switch id.Kind {
	case FamiliesRecord, NotesRecord:
		return in.readGroup(id, record)
	case TraceRecord:
		return in.readTrace(id.Name, record)
	case AnswerRecord:
		return in.readAnswer(id.Name, record)
	case SourceRecord:
		if record == nil {
			return nil // it goes with the last of its marks and traces
		}
		m := &storagev1.Source{}
		if err := proto.Unmarshal(record, m); err != nil {
			return err
		}
		d, err := readSource(m)
		if err == nil && d.name != id.Name {
			err = errRecord
		}
		in.sources = append(in.sources, d)
		return err
	case WipeRecord:
		return in.readWipe(id.Name, record)
	default:
		return fmt.Errorf("records of kind %d are not understood", id.Kind)
	}
}

func (in *installation) readGroup(id RecordID, record []byte) error {
	ig := in.groups[id.Name]
	if ig == nil {
		key, err := grouping.FromCanonical(id.Name)
		if err != nil {
			return err
		}
		if key.IsZero() {
			return errRecord
		}
		ig = &installedGroup{key: key}
		in.groups[id.Name] = ig
	}
	if record == nil {
		ig.gone = true
		return nil
	}
	var gf groupFields
	if err := readMessage(record, &storagev1.Group{}, gf.read); err != nil {
		return fmt.Errorf("group %v: %w", ig.key, err)
	}
	if id.Kind == NotesRecord {
		ig.notes, ig.pushed, ig.version = &gf.notes, gf.pushed, gf.version
		return nil
	}
	s := in.store
	s.mu.RLock()
	f, err := gf.families.decode(0, ig.key.Labels(), &s.sets, nil)
	s.mu.RUnlock()
	if err != nil {
		return fmt.Errorf("group %v: %w", ig.key, err)
	}
	for _, h := range f.hidings {
		h.h.order = h.order
	}
	ig.families, ig.born = &f, gf.born
	return nil
}

func (in *installation) readTrace(name string, record []byte) error {
	src, key, ok := tailNumber(name)
	if !ok || src == "" {
		return errRecord
	}
	t := &installedTrace{source: src, key: traceKey(key), gone: record == nil}
	in.traces[name] = t
	if t.gone {
		return nil
	}
	m := &storagev1.Trace{}
	if err := proto.Unmarshal(record, m); err != nil {
		return err
	}
	var err error
	t.trace, err = readTrace(m)
	if err == nil && (t.trace.source != src || t.trace.key != t.key) {
		err = errRecord
	}
	return err
}

func (in *installation) readAnswer(name string, record []byte) error {
	rest, position, ok := tailNumber(name)
	if !ok || rest != "" {
		return errRecord
	}
	if record == nil {
		in.answers[position] = nil
		return nil
	}
	m := &storagev1.Answer{}
	if err := proto.Unmarshal(record, m); err != nil {
		return err
	}
	a, err := readAnswer(m)
	if err == nil && m.GetPosition() != position {
		err = errRecord
	}
	in.answers[position] = &keyedAnswer{string(m.GetGroup()), position, a}
	return err
}

func (in *installation) readWipe(name string, record []byte) error {
	m := &storagev1.Wipe{}
	if err := proto.Unmarshal(record, m); err != nil {
		return err
	}
	if in.wiped = m.GetPosition(); name != "" || in.wiped > in.position {
		return errRecord
	}
	return nil
}

// present returns the group of that key that is there, unless everything is to go.
func (in *installation) present(canonical string) *group {
	if in.whole || in.wiping() {
		return nil
	}
	return in.store.groups.byKey[canonical]
}

// check refuses records of which some are missing, before anything is changed.
func (in *installation) check() error {
	if !in.whole && in.position < in.store.position {
		return fmt.Errorf("the store is at position %d already, and they are of %d", in.store.position, in.position)
	}
	for canonical, ig := range in.groups {
		if err := in.checkGroup(ig, in.present(canonical)); err != nil {
			return fmt.Errorf("group %v: %w", ig.key, err)
		}
	}
	return nil
}

func (in *installation) checkGroup(ig *installedGroup, g *group) error {
	if ig.gone {
		return nil
	}
	version, hidden := ig.version, ""
	if ig.notes != nil {
		hidden = ig.notes.hidden
	} else if g != nil {
		version, hidden = g.state.version, g.state.hidden()
	}
	if ig.families != nil && (g == nil || g.born != ig.born) {
		g = nil
	}
	switch {
	case g == nil && (ig.families == nil || ig.notes == nil):
		return errRecord
	case ig.families == nil:
		ig.born = g.born
	}
	if version > in.position || ig.born > version || ig.born <= in.wiped {
		return errRecord
	}
	if ig.families == nil {
		return nil
	}
	if hidden != "" && len(ig.families.hidings) != len(ig.families.parts) {
		return errRecord
	}
	for _, h := range ig.families.hidings {
		if h.by == "" {
			continue
		}
		other := in.groups[h.by]
		if other != nil && other.gone || other == nil && in.present(h.by) == nil {
			return fmt.Errorf("it waits for a group that is not there: %w", errRecord)
		}
	}
	return nil
}

// apply changes the store. What goes is taken out before anything comes in, so that the tables hold at each moment what fits together.
func (in *installation) apply() {
	s := in.store
	if in.whole {
		s.forgetAll()
	}
	s.position = in.position
	keys := slices.Sorted(maps.Keys(in.groups))
	in.pinSources(keys)
	for _, canonical := range keys {
		s.feeds.settleRecord(RecordID{FamiliesRecord, canonical})
		in.takeOut(in.groups[canonical], s.groups.byKey[canonical])
	}
	if in.wiping() {
		s.wipeThrough(in.wiped, nil)
	}
	for _, canonical := range keys {
		if ig := in.groups[canonical]; !ig.gone {
			in.putIn(ig)
		}
	}
	in.order()
	in.buriedTraces()
	in.applyTraces()
	in.rememberBuried()
	in.applyAnswers()
	for _, d := range in.sources {
		if src := s.origins.sources[d.name]; src != nil {
			src.sequence, src.digest, src.unknown = d.sequence, d.digest, d.unknown
			s.feeds.note(SourceRecord, d.name)
		}
	}
	for _, src := range in.pinned {
		src.marks--
		s.origins.dropUnused(src)
	}
	s.held.commit(in.position)
}

// pinSources keeps the sources that may lose their last mark or trace before they get another one.
func (in *installation) pinSources(keys []string) {
	pin := func(src *source) {
		if src != nil {
			src.marks++
			in.pinned = append(in.pinned, src)
		}
	}
	s := in.store
	for _, canonical := range keys {
		for _, m := range s.groups.marksAt(canonical) {
			pin(m.source)
		}
	}
	for _, t := range in.traces {
		pin(s.origins.sources[t.source])
	}
}

// takeOut takes a group out that goes, or of which another one comes, and from where it is found if that changes.
func (in *installation) takeOut(ig *installedGroup, g *group) {
	s := in.store
	switch {
	case g == nil:
		return
	case ig.gone || g.born != ig.born:
		hidden := g.state.hidden() != ""
		s.origins.remark(g.key.Canonical(), g.state.noted().marks, nil)
		s.hold(g, nil)
		s.exchange(g, nil)
		s.accounts.close(g)
		s.slots.drop(g)
		s.groups.remove(g, hidden)
	default:
		ig.group = g
		if ig.rehides() {
			s.groups.remove(g, g.state.hidden() != "")
		}
	}
}

// rehides says whether a group that stays is hidden as a whole from now on, or not any more.
func (ig *installedGroup) rehides() bool {
	return ig.notes != nil && (ig.notes.hidden != "") != (ig.group.state.hidden() != "")
}

// putIn puts what the records say into a group, which may be a new one.
func (in *installation) putIn(ig *installedGroup) {
	s, g := in.store, ig.group
	switch {
	case g == nil:
		g = s.groups.newGroup(nil, ig.key, ig.key.Labels())
		ig.group = g
		s.admit(g, ig.born, ig.notes.hidden)
	case ig.rehides():
		s.groups.add(g, ig.notes.hidden != "")
	}
	next := state{group: g}
	if g.state != nil {
		next = *g.state
	}
	noted := next.noted()
	if ig.notes != nil {
		families := noted.later.ofFamilies()
		noted = *ig.notes
		noted.marks, noted.later = s.origins.adoptMarks(noted.marks), newLater(noted.later.ofNotes(), families)
		if noted.life != nil {
			noted.life = keptLife(*noted.life, g.state)
		}
		s.origins.remark(ig.key.Canonical(), g.state.noted().marks, noted.marks)
		next.version, next.pushed = ig.version, ig.pushed
	}
	if f := ig.families; f != nil {
		next.parts, next.lines, next.pinned = f.parts, f.lines, f.valueSize
		noted.later = newLater(noted.later.ofNotes(), f.later)
		for i := range f.parts {
			f.parts[i].pushed += next.pushed
			f.parts[i].set = s.sets.Adopt(f.parts[i].set)
		}
		for i := range f.hidings {
			in.hidings = append(in.hidings, &f.hidings[i])
		}
	}
	if next.notes = nil; !noted.isZero() {
		next.notes = &noted
	}
	s.hold(g, &next)
	s.exchange(g, &next)
}

// order finds for whom hidden families wait, now that all groups are there, and puts those who wait in the order in which they came.
func (in *installation) order() {
	s := in.store
	names := map[string]bool{}
	for _, h := range in.hidings {
		if h.by != "" {
			h.h.by = s.groups.byKey[h.by]
		}
		names[h.h.name] = true
	}
	for name := range names {
		s.waiting.sort(name)
	}
	for _, ig := range in.groups {
		if ig.group != nil {
			s.groups.sortShadowed(ig.group.normal)
		}
	}
}

func (in *installation) applyTraces() {
	o := &in.store.origins
	for _, t := range in.traces {
		if t.gone {
			if src := o.sources[t.source]; src != nil {
				o.dropTrace(t.key, src)
			}
			continue
		}
		src := o.sourceOf(t.source)
		o.addSource(src)
		o.dropTrace(t.key, src)
		if t.trace.passed > 0 {
			o.pass(src, t.key, passedTrace{t.trace.trace, t.trace.passed})
		} else {
			o.addTrace(src, t.trace.keyedTrace)
		}
		src.traces.keepUnknown(t.key, t.trace.unknown)
	}
}

// applyAnswers forgets and remembers answers. Those that are gone are the oldest.
func (in *installation) applyAnswers() {
	as := &in.store.answers
	for len(as.oldest) > 0 {
		a, told := in.answers[as.oldest[0].position]
		if !told || a != nil {
			break
		}
		as.dropOldest()
	}
	for _, position := range slices.Sorted(maps.Keys(in.answers)) {
		if a := in.answers[position]; a != nil {
			as.enter(*a)
		}
	}
}

// sort puts those who wait for that name in the order in which they came.
func (ws *waiting) sort(name string) {
	order := func(w waiter) uint64 { return w.group.state.find(w.family).hidden.order }
	slices.SortFunc(ws.byName[name], func(a, b waiter) int { return cmp.Compare(order(a), order(b)) })
}

// sortShadowed puts the groups that are hidden because of a normal key in the order in which they came.
func (dir *directory) sortShadowed(normal string) {
	slices.SortFunc(dir.shadowed[normal], func(a, b *group) int { return cmp.Compare(a.born, b.born) })
}
