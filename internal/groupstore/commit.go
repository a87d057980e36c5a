package groupstore

import (
	"fmt"
	"slices"
	"strings"

	"pushrelay/internal/change"
	"pushrelay/internal/lifetime"
	"pushrelay/internal/series"
)

// commit applies an effect. It is a function of the store and the effect alone. The group is the one that it is about, new or present, and
// nil for Delete and Mark if it is not there; its parts' sets are those of the table or fit to enter it.
func (s *Store) commit(e *Effect, g *group) {
	switch e.Operation {
	case change.Wipe:
		s.wipe()
		s.origins.leaveTraces("", nil, e.marks)
	case change.Forget:
		s.origins.forget(e.marks[0].source, e.marks[0].sequence)
	default:
		s.commitGroup(e, g)
	}
}

// commitGroup applies a change of one group.
func (s *Store) commitGroup(e *Effect, g *group) {
	canonical := e.Key.Canonical()
	if e.answer != nil {
		s.answers.add(keyedAnswer{canonical, s.position, e.answer})
	}
	had := s.groups.marksAt(canonical)
	switch {
	case g == nil:
		s.origins.leaveTraces(canonical, nil, e.marks)
	case e.Operation == change.Delete:
		s.remove(g)
		s.origins.leaveTraces(canonical, had, e.marks)
	default:
		s.origins.remark(canonical, had, e.marks)
		if g.state == nil {
			s.admit(g, s.position, e.hidden)
		}
		next := nextState(e, g)
		next.version = s.position
		s.replace(g, next)
	}
}

// admit enters a new group into the tables.
func (s *Store) admit(g *group, born uint64, hidden string) {
	g.born = born
	s.accounts.open(g)
	s.groups.add(g, hidden != "")
	s.slots.add(g)
}

// remove takes a group out of the store.
func (s *Store) remove(g *group) {
	hidden := g.state.hidden() != ""
	s.replace(g, nil)
	s.accounts.close(g)
	s.slots.drop(g)
	s.groups.remove(g, hidden)
	if !hidden {
		s.promoteShadowed(g.normal)
	}
}

// nextState returns what the group holds after the change. Parts of the change become parts of the state.
func nextState(e *Effect, g *group) *state {
	if e.Operation == change.Mark {
		return markedState(e, g)
	}
	next := &state{group: g, parts: e.parts, pushed: e.PushedAt, lines: e.lines, pinned: e.valueSize}
	if e.FailedAt != 0 || e.Reason != "" || e.hidden != "" || len(e.marks) > 0 || e.broken != "" || !e.life.IsZero() || e.later != nil {
		next.notes = &notes{
			failed: e.FailedAt, reason: e.Reason, hidden: e.hidden, marks: e.marks, broken: e.broken, life: keptLife(e.life, g.state),
			later: e.later,
		}
	}
	if g.state == nil || e.Operation == change.Replace {
		return next
	}
	if e.Operation == change.Fail {
		next.parts, next.lines, next.pinned = g.state.parts, g.state.lines, g.state.pinned
		if families := g.state.noted().later.ofFamilies(); families != "" {
			if next.notes == nil {
				next.notes = &notes{}
			}
			next.notes.later = newLater(e.later.ofNotes(), families)
		}
		return next
	}
	mergeParts(next, g.state.parts, e.parts)
	next.pinned += g.state.pinned
	if live := valueBytes(next.parts); next.pinned > 2*live+minPinned {
		compact(next, live)
	}
	return next
}

// keptLife returns a declaration as notes have it, which is the one of the state before if it says the same.
func keptLife(life lifetime.Declaration, before *state) *lifetime.Declaration {
	switch had := before.noted().life; {
	case life.IsZero():
		return nil
	case had != nil && *had == life:
		return had
	default:
		return &life
	}
}

// markedState returns what the group holds, with other marks.
func markedState(e *Effect, g *group) *state {
	next, noted := *g.state, g.state.noted()
	noted.marks = e.marks
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
		next.lines += next.parts[i].set.Lines()
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

// replace puts a state in the place of the group's present one, either of which may be nil, and looks again at those who waited for what has left.
func (s *Store) replace(g *group, next *state) {
	var departed []departure
	account, held := s.hold(g, next)
	if held == heldFromNow && !s.loading {
		departed = s.oust(account)
	}
	s.reconsider(append(departed, s.exchange(g, next)...))
	if held == heldNoMore {
		s.free(account)
	}
}

// noteState notes for those who look or follow that a group is about to have another state; nil for none any more.
func (s *Store) noteState(g *group, next *state) {
	s.held.hold(s.position, g, g.state)
	s.feeds.noteGroup(g, g.state, next)
}

// enter gives the group a state; nil for none any more.
func (s *Store) enter(g *group, next *state) {
	s.noteState(g, next)
	g.state = next
	s.slots.put(g)
}

// exchange puts a state in the place of the group's present one, either of which may be nil, and keeps all counts. It returns what has left; nobody who
// waits is looked at.
func (s *Store) exchange(g *group, next *state) (departed []departure) {
	var before, after []part
	if g.state != nil {
		before = g.state.parts
		s.totals.addLines(g, -g.state.lines)
		s.totals.valueBytes -= g.state.pinned
	}
	if next != nil {
		after = next.parts
		s.totals.addLines(g, next.lines)
		s.totals.valueBytes += next.pinned
	}
	s.totals.parts += len(after) - len(before)
	s.lives.count(g.state, next)
	changed := difference(before, after)
	for _, x := range changed {
		switch p := x.before; {
		case p == nil:
		case p.hidden == nil:
			departed = append(departed, departure{by: g, name: p.set.Name(), typ: p.set.Type()})
			s.conceal(g, p.set)
		default:
			s.waiting.remove(g, p)
		}
	}
	s.enter(g, next)
	s.lives.queue(g)
	for _, x := range changed {
		s.sets.Exchange(x.sets())
		switch p := x.after; {
		case p == nil:
		case p.hidden == nil:
			s.expose(g, p.set)
		default:
			s.waiting.add(g, p)
		}
	}
	for _, x := range changed {
		s.exposed.advance(x.name())
	}
	return departed
}

// addLines counts lines of a group.
func (t *totals) addLines(g *group, n int) {
	t.lines += n
	if g.account != nil {
		g.account.lines += n
	}
}

// A replacement is what becomes of one family of a group. One of the parts may be nil.
type replacement struct{ before, after *part }

// sets returns the sets of the two parts; nil for a part that is nil.
func (x replacement) sets() (before, after *series.Set) {
	if x.before != nil {
		before = x.before.set
	}
	if x.after != nil {
		after = x.after.set
	}
	return before, after
}

// name returns the family's name.
func (x replacement) name() string {
	if x.before != nil {
		return x.before.set.Name()
	}
	return x.after.set.Name()
}

// difference returns the families of which the set or the visibility is another one. Parts that differ in their values
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
			if before[0].set != after[0].set || before[0].hidden != after[0].hidden {
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
	case a[0].set == b[0].set: // nearly always
		return 0
	default:
		return strings.Compare(a[0].set.Name(), b[0].set.Name())
	}
}

// A sequence says whether effects that come again may be taken to be all that there were.
type sequence int

const (
	complete sequence = iota
	lossy
)

// again applies what was decided earlier: by this store before a restart, or by another one. Positions rise by one; an effect at a position that
// the store has passed is ignored, so that applying twice is applying once.
//
// What was consistent when it was decided may no longer be, because the program has got metrics of its own since: such
// families go into quarantine (S9).
func (s *Store) again(position uint64, e Effect, seq sequence) error {
	switch e.Operation {
	case change.Replace, change.Merge, change.Delete, change.Fail, change.Wipe, change.Mark, change.Forget:
	default:
		return fmt.Errorf("applying the change at position %d: %v is not understood", position, e.Operation)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if position <= s.position {
		return nil
	}
	g := s.groups.byKey[e.Key.Canonical()]
	if seq == complete {
		if position != s.position+1 {
			return fmt.Errorf("applying the change at position %d: the store is at %d", position, s.position)
		}
		if version := versionOf(g); version != e.Seen {
			return fmt.Errorf("applying the change at position %d: group %v has version %d and not %d", position, e.Key, version, e.Seen)
		}
	}
	s.position = position
	if g == nil && (e.Operation == change.Replace || e.Operation == change.Merge || e.Operation == change.Fail) {
		g = s.groups.newGroup(nil, e.Key, e.Key.Labels())
	}
	s.adopt(&e, g)
	s.commit(&e, g)
	return nil
}

// versionOf returns the position of the group's last change, 0 for a group that is not in the store.
func versionOf(g *group) uint64 {
	if g == nil || g.state == nil {
		return 0
	}
	return g.state.version
}

// adopt makes an effect that may come from another store one of this store, and judges it by what is here.
func (s *Store) adopt(e *Effect, g *group) {
	e.marks = s.origins.adoptMarks(e.marks)
	if e.Operation != change.Replace && e.Operation != change.Merge {
		return
	}
	e.hidden = s.groups.unfit(g)
	e.parts = slices.Clone(e.parts)
	for i := range e.parts {
		e.parts[i].hidden = nil
		e.parts[i].set = s.sets.Adopt(e.parts[i].set)
	}
	t := trial{s: s, g: g, looks: maxLooks}
	t.judgeAll(e, holds(s.accounts.nameOf(g.key), e.marks)) // it marks what does not fit; nobody is refused here
}
