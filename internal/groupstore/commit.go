package groupstore

import (
	"fmt"
	"slices"
	"strings"
)

// commit applies a decided change. It is a function of the store and the change alone. The group is the one that the
// change is about, new or present, and nil for Delete and Mark if it is not there; its parts' skeletons are those of the
// table or fit to enter it.
func (s *Store) commit(c *Change, g *group) {
	switch c.Operation {
	case Wipe:
		s.wipe()
	case Forget:
		s.forget(c.marks[0].source, c.marks[0].sequence)
	default:
		s.commitGroup(c, g)
	}
}

// commitGroup applies a change of one group.
func (s *Store) commitGroup(c *Change, g *group) {
	canonical := c.Key.Canonical()
	had := s.marksAt(canonical)
	switch {
	case g == nil:
		s.leaveTraces(canonical, nil, c.marks)
	case c.Operation == Delete:
		s.remove(g)
		s.leaveTraces(canonical, had, c.marks)
	default:
		s.remark(canonical, had, c.marks)
		if g.state == nil {
			s.admit(g, c.hidden)
		}
		next := nextState(c, g)
		next.version = s.position
		s.replace(g, next)
	}
}

// admit enters a new group into the tables.
func (s *Store) admit(g *group, hidden string) {
	if same := s.layouts[g.layout.id]; same != nil {
		g.layout = same
		g.layout.refs++
	} else {
		g.layout.refs = 1
		s.layouts[g.layout.id] = g.layout
	}
	g.born = s.position
	s.openAccount(g)
	s.groups[g.key.Canonical()] = g
	s.totals.groupsBytes += 2*len(g.key.Canonical()) + len(g.text)
	switch {
	case hidden != "":
		s.twins[g.normal] = append(s.twins[g.normal], g)
	case g.normal != g.key.Canonical():
		s.aliases[g.normal] = g
	}
	s.addSlot(g)
}

// remove takes a group out of the store.
func (s *Store) remove(g *group) {
	hidden := g.state.hidden() != ""
	s.replace(g, nil)
	s.closeAccount(g)
	s.dropSlot(g)
	delete(s.groups, g.key.Canonical())
	s.totals.groupsBytes -= 2*len(g.key.Canonical()) + len(g.text)
	g.layout.refs--
	if g.layout.refs == 0 {
		delete(s.layouts, g.layout.id)
	}
	if hidden {
		s.dropTwin(g)
		return
	}
	if s.aliases[g.normal] == g {
		delete(s.aliases, g.normal)
	}
	s.promoteTwin(g.normal)
}

// nextState returns what the group holds after the change. Parts of the change become parts of the state.
func nextState(c *Change, g *group) *state {
	if c.Operation == Mark {
		return markedState(c, g)
	}
	next := &state{group: g, parts: c.parts, pushed: c.PushedAt, lines: c.lines, pinned: c.valueSize}
	if c.FailedAt != 0 || c.Reason != "" || c.hidden != "" || len(c.marks) > 0 {
		next.notes = &notes{failed: c.FailedAt, reason: c.Reason, hidden: c.hidden, marks: c.marks}
	}
	if g.state == nil || c.Operation == Replace {
		return next
	}
	if c.Operation == Fail {
		next.parts, next.lines, next.pinned = g.state.parts, g.state.lines, g.state.pinned
		return next
	}
	mergeParts(next, g.state.parts, c.parts)
	next.pinned += g.state.pinned
	if live := valueBytes(next.parts); next.pinned > 2*live+minPinned {
		compact(next, live)
	}
	return next
}

// markedState returns what the group holds, with other marks.
func markedState(c *Change, g *group) *state {
	next, noted := *g.state, g.state.noted()
	noted.marks = c.marks
	next.notes = &noted
	return &next
}

// mergeParts sets the parts of a state to the old ones, each replaced by the pushed one of its family if there is one.
func mergeParts(next *state, old, pushed []part) {
	parts := make([]part, 0, len(old)+len(pushed))
	for len(old) > 0 && len(pushed) > 0 {
		switch order := firstOf(old, pushed); {
		case order < 0:
			parts, old = append(parts, old[0]), old[1:]
		case order == 0:
			old = old[1:]
		default:
			parts, pushed = append(parts, pushed[0]), pushed[1:]
		}
	}
	next.parts = append(append(parts, old...), pushed...)
	next.lines = 0
	for i := range next.parts {
		next.lines += int(next.parts[i].skeleton.lines)
	}
}

// minPinned is how much memory of replaced values a group may pin without being copied.
const minPinned = 1024

func valueBytes(parts []part) int {
	n := 0
	for i := range parts {
		n += len(parts[i].values)
	}
	return n
}

// compact copies the values of a state's parts into one string. Families that are merged one by one would otherwise each
// pin the whole push from which the others came.
func compact(st *state, live int) {
	var b strings.Builder
	b.Grow(live)
	for i := range st.parts {
		b.WriteString(st.parts[i].values)
	}
	values := b.String()
	for i := range st.parts {
		n := len(st.parts[i].values)
		st.parts[i].values, values = values[:n], values[n:]
	}
	st.pinned = live
}

// replace puts a state in the place of the group's present one, either of which may be nil, and keeps all counts.
func (s *Store) replace(g *group, next *state) {
	var before, after []part
	if g.state != nil {
		before = g.state.parts
		s.addLines(g, -g.state.lines)
		s.totals.valueBytes -= g.state.pinned
	}
	if next != nil {
		after = next.parts
		s.addLines(g, next.lines)
		s.totals.valueBytes += next.pinned
	}
	s.totals.parts += len(after) - len(before)
	changed := difference(before, after)
	departed, freed := s.hold(g, next)
	for _, x := range changed {
		switch p := x.before; {
		case p == nil:
		case p.hidden == nil:
			departed = append(departed, departure{by: g, name: p.skeleton.name(), typ: p.skeleton.typ})
			s.conceal(g, p.skeleton)
		default:
			s.unhide(g, p)
		}
	}
	g.state = next
	s.setSlot(g)
	for _, x := range changed {
		s.exchange(x)
		switch p := x.after; {
		case p == nil:
		case p.hidden == nil:
			s.expose(g, p.skeleton)
		default:
			s.hide(g, p)
		}
	}
	s.advance(changed)
	s.reconsider(departed)
	if freed != "" {
		s.free(freed)
	}
}

// addLines counts lines of a group.
func (s *Store) addLines(g *group, n int) {
	s.totals.lines += n
	if g.account != nil {
		g.account.lines += n
	}
}

// A replacement is what becomes of one family of a group. One of the parts may be nil.
type replacement struct{ before, after *part }

// name returns the family's name.
func (x replacement) name() string {
	if x.before != nil {
		return x.before.skeleton.name()
	}
	return x.after.skeleton.name()
}

// difference returns the families of which the skeleton or the visibility is another one. Parts that differ in their values
// alone are not among them.
func difference(before, after []part) []replacement {
	var changed []replacement
	for len(before) > 0 || len(after) > 0 {
		switch order := firstOf(before, after); {
		case order < 0:
			changed, before = append(changed, replacement{before: &before[0]}), before[1:]
		case order > 0:
			changed, after = append(changed, replacement{after: &after[0]}), after[1:]
		default:
			if before[0].skeleton != after[0].skeleton || before[0].hidden != after[0].hidden {
				changed = append(changed, replacement{&before[0], &after[0]})
			}
			before, after = before[1:], after[1:]
		}
	}
	return changed
}

// firstOf compares the first parts of two lists by name, for a walk through both in order. An empty list is behind any other.
func firstOf(a, b []part) int {
	switch {
	case len(b) == 0:
		return -1
	case len(a) == 0:
		return +1
	case a[0].skeleton == b[0].skeleton: // nearly always
		return 0
	default:
		return strings.Compare(a[0].skeleton.name(), b[0].skeleton.name())
	}
}

// advance lets the indexes of the families that changed be filled further.
func (s *Store) advance(changed []replacement) {
	for _, x := range changed {
		if f := familyOf(&s.families, x.name()); f != nil && f.several != nil && f.several.index != nil {
			f.several.index.advance()
		}
	}
}

// Apply applies a change that was decided earlier: by this store before a restart, or by another one. Positions rise by
// one; a change at a position that the store has passed is ignored, so that applying twice is applying once.
//
// What was consistent when it was decided may no longer be, because the program has got metrics of its own since: such
// families go into quarantine (S9).
func (s *Store) Apply(position uint64, c Change) error { return s.apply(position, c, complete) }

// mend is Apply for changes of which some before may be lost; see Store.Mend.
func (s *Store) mend(position uint64, c Change) error { return s.apply(position, c, lossy) }

// A sequence says whether changes that are applied may be taken to be all that there were.
type sequence int

const (
	complete sequence = iota
	lossy
)

func (s *Store) apply(position uint64, c Change, seq sequence) error {
	switch c.Operation {
	case Replace, Merge, Delete, Fail, Wipe, Mark, Forget:
	default:
		return fmt.Errorf("applying the change at position %d: %v is not understood", position, c.Operation)
	}
	if c.Tenant != "" {
		return fmt.Errorf("applying the change at position %d: it belongs to tenant %q", position, c.Tenant)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if position <= s.position {
		return nil
	}
	g := s.groups[c.Key.Canonical()]
	if seq == complete {
		if position != s.position+1 {
			return fmt.Errorf("applying the change at position %d: the store is at %d", position, s.position)
		}
		if version := versionOf(g); version != c.Seen {
			return fmt.Errorf("applying the change at position %d: group %v has version %d and not %d", position, c.Key, version, c.Seen)
		}
	}
	s.position = position
	if g == nil && (c.Operation == Replace || c.Operation == Merge || c.Operation == Fail) {
		g = s.draftedGroup(&draft{key: c.Key, labels: c.Key.Labels()})
	}
	s.adopt(&c, g)
	s.commit(&c, g)
	return nil
}

// versionOf returns the position of the group's last change, 0 for a group that is not in the store.
func versionOf(g *group) uint64 {
	if g == nil || g.state == nil {
		return 0
	}
	return g.state.version
}

// adopt makes a change that may come from another store one of this store, and judges it by what is here.
func (s *Store) adopt(c *Change, g *group) {
	c.marks = s.adoptMarks(c.marks)
	if c.Operation != Replace && c.Operation != Merge {
		return
	}
	c.hidden = s.unfit(g)
	c.parts = slices.Clone(c.parts)
	for i := range c.parts {
		c.parts[i].hidden = nil
		c.parts[i].skeleton = s.adopted(c.parts[i].skeleton)
	}
	s.judgeAll(c, g, holds(s.accountName(g.key), c.marks)) //nolint:errcheck // It marks what does not fit; nobody is refused here.
}
