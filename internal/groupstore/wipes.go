package groupstore

// A wipe removes all groups at once. Those who follow are told of it by one record, however many groups there were: a group that was born by then is
// gone, and its marks are traces (C4). Their records are told one by one later, a bounded number with each delta, or as soon as something else becomes of the
// group or of one of its traces. So whoever reads all records at any time finds what the store holds.

// wiped is what those who follow were told of wipes. It is guarded by Store.mu.
type wiped struct {
	through uint64               // the position of the last one that was told by one record; 0 for none
	left    map[traceKey]remnant // by what stands for their keys
}

// A remnant is a group that was wiped, of which those who follow may still have the records.
type remnant struct {
	canonical string
	marks     []mark // which are traces by now
}

// wipe removes all groups and leaves traces of their marks behind.
func (s *Store) wipe() {
	if len(s.feeds.all) == 0 || !s.shortWipes() {
		s.removeAll(s.leaveTold)
		return
	}
	told := s.feeds.changedKeys() // their followers do not have what the store had until now
	s.feeds.note(WipeRecord, "")
	s.wipeThrough(s.position, told)
}

// wipeThrough is a wipe that is told by one record, but for groups whose keys those stand for: they are told one by one.
func (s *Store) wipeThrough(position uint64, told map[traceKey]bool) {
	s.feeds.through = position
	s.removeAll(func(canonical string, g *group) {
		key, marks := keyOfTrace(canonical), g.state.noted().marks
		if told[key] || !s.feeds.leave(key, remnant{canonical, marks}) {
			s.leaveTold(canonical, g)
			return
		}
		s.origins.turnIntoTraces(key, marks)
	})
}

// removeAll removes all groups. Each is handed on, so that of it is left what is to be.
func (s *Store) removeAll(leave func(canonical string, g *group)) {
	groups := s.groups.byKey
	for _, g := range groups {
		s.held.hold(s.position, g, g.state)
	}
	s.reset()
	for canonical, g := range groups {
		leave(canonical, g)
	}
}

// leaveTold leaves traces of the marks of a group that is not there any more, and tells all that.
func (s *Store) leaveTold(canonical string, g *group) {
	marks := g.state.noted().marks
	s.feeds.noteGroup(g, g.state, nil)
	s.origins.leaveTraces(canonical, marks, marks)
}

// turnIntoTraces is leaveTraces for the marks of a remnant, of which nothing is told. No source has left another trace there: a mark takes its place.
func (in *origins) turnIntoTraces(key traceKey, marks []mark) {
	in.marks -= len(marks)
	for _, m := range marks {
		m.source.marks--
		in.enterTrace(m.source, keyedTrace{key, traceOf(m)})
	}
}

// leave remembers a remnant. It returns false where another one is that is taken for the same.
func (w *wiped) leave(key traceKey, r remnant) bool {
	if _, taken := w.left[key]; taken {
		return false
	}
	if w.left == nil {
		w.left = make(map[traceKey]remnant)
	}
	w.left[key] = r
	return true
}

// settle tells the records of a remnant, if there is one under that key.
func (fs *feeds) settle(key traceKey) {
	r, found := fs.left[key]
	if !found {
		return
	}
	delete(fs.left, key)
	if len(fs.left) == 0 {
		fs.left = nil // they may have been many
	}
	fs.note(FamiliesRecord, r.canonical)
	fs.note(NotesRecord, r.canonical)
	for _, m := range r.marks {
		fs.note(TraceRecord, nameOfTrace(m.source.name, key))
	}
}

// settledAtOnce is how many remnants are told with each delta.
const settledAtOnce = 512

// settleSome tells some remnants.
func (fs *feeds) settleSome() {
	n := 0
	for key := range fs.left {
		if n == fs.settledAtOnce {
			return
		}
		fs.settle(key)
		n++
	}
}

// settleRecord tells the remnant that a record is of, if it is of one.
func (fs *feeds) settleRecord(id RecordID) {
	if key, ok := keyOfRecord(id); ok && len(fs.left) > 0 {
		fs.settle(key)
	}
}

// changedKeys returns what stands for the keys of which any record is to be told.
func (fs *feeds) changedKeys() map[traceKey]bool {
	keys := map[traceKey]bool{}
	for _, f := range fs.all {
		for id := range f.changed {
			if key, ok := keyOfRecord(id); ok {
				keys[key] = true
			}
		}
	}
	return keys
}

// keyOfRecord returns what stands for the key that a record is about; false if it is about none.
func keyOfRecord(id RecordID) (traceKey, bool) {
	switch id.Kind {
	case FamiliesRecord, NotesRecord:
		return keyOfTrace(id.Name), true
	case TraceRecord:
		_, key, ok := tailNumber(id.Name)
		return traceKey(key), ok
	default:
		return 0, false
	}
}

// wiping says whether the records are of a wipe that the store does not know of.
func (in *installation) wiping() bool { return in.wiped > in.store.feeds.through }

// bury takes the groups out that a wipe has removed, and of which the records are still there.
func (in *installation) bury() {
	for canonical, ig := range in.groups {
		if ig.families != nil && ig.notes != nil && ig.born <= in.wiped {
			in.remnants = append(in.remnants, remnant{canonical, ig.notes.marks})
			delete(in.groups, canonical)
		}
	}
}

// buriedTraces leaves the traces of the remnants.
func (in *installation) buriedTraces() {
	o := &in.store.origins
	for i := range in.remnants {
		r := &in.remnants[i]
		r.marks = o.adoptMarks(r.marks)
		o.leaveTraces(r.canonical, nil, r.marks)
	}
}

// rememberBuried remembers what is still to be told of the remnants, once all other records are there.
func (in *installation) rememberBuried() {
	for _, r := range in.remnants {
		in.store.feeds.leave(keyOfTrace(r.canonical), r)
	}
}
