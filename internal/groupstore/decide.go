package groupstore

import (
	"pushrelay/internal/change"
	"pushrelay/internal/series"
)

// decide judges a draft with everything known (S1). It fills in the effect that follows, which may be none, and what is found, and returns the
// group that it is about: the one that is there, or a new one. It changes nothing.
func (s *Store) decide(d *draft, g *group, e *Effect, v *verdict) *group {
	if d.operation == change.Delete {
		if g != nil {
			e.Operation, e.Key, e.Seen = change.Delete, d.key, g.state.version
		}
		return g
	}
	*e = Effect{Operation: d.operation, Key: d.key, PushedAt: d.at, parts: d.parts, lines: d.lines, valueSize: d.valueSize}
	if g == nil {
		g = s.draftedGroup(d)
	} else {
		noted := g.state.noted()
		e.Seen, e.FailedAt, e.Reason = g.state.version, noted.failed, noted.reason
	}
	if d.imported != nil {
		s.adoptImport(d, e, g, v)
		return g
	}
	if reason := s.unfit(g); reason != "" {
		if s.check == CheckEnforced || g.layout.pushed.Fault(g.key) != "" {
			return s.refuse(d, e, v, reason)
		}
		e.hidden = kept(reason)
	}
	if d.fault != "" {
		if e.hidden != "" && g.state == nil {
			return s.refuse(d, e, v, d.fault) // nothing is noted in a group that does not fit (S10)
		}
		return s.fail(d, e, v, g, d.fault)
	}
	for i := range e.parts {
		e.parts[i].set = s.sets.Intern(e.parts[i].set)
	}
	misfit := s.judgeAll(e, g, d.source != nil && authorOf(d.source.name) == s.accountName(d.key))
	if misfit != "" && s.check == CheckEnforced {
		return s.fail(d, e, v, g, misfit)
	}
	if full := s.full(e, g); full != nil {
		*e, v.refusal = Effect{}, full
		return nil
	}
	v.look(e, g)
	return g
}

// refuse refuses a draft that does not fit, and leaves nothing behind.
func (s *Store) refuse(d *draft, e *Effect, v *verdict, reason string) *group {
	*e, v.refusal = Effect{}, d.told
	if d.told == nil {
		v.refusal = s.inconsistent(reason)
	}
	return nil
}

// fail refuses a draft, and notes that in its group, if the group may be there at all.
func (s *Store) fail(d *draft, e *Effect, v *verdict, g *group, reason string) *group {
	s.refuse(d, e, v, reason)
	if g.state == nil && s.full(e, g) != nil {
		return nil
	}
	e.Operation, e.Key, e.Seen, e.FailedAt, e.Reason = change.Fail, d.key, versionOf(g), d.at, kept(reason)
	if g.state != nil {
		e.PushedAt, e.hidden = g.state.pushed, g.state.hidden()
	}
	return g
}

// draftedGroup returns the group that the draft prepared. If there was one when the draft was made, and it is gone, the
// preparation is made up for.
func (s *Store) draftedGroup(d *draft) *group {
	if d.group == nil {
		d.group = newGroup(d.key, d.labels, s.hasher)
	}
	id := layoutID(d.labels)
	if same := s.layouts[id]; same != nil {
		d.group.layout = same
	}
	if d.group.layout == nil {
		d.group.layout = newLayout(d.labels, s.hasher)
	}
	return d.group
}

// unfit returns why the group as such cannot be exposed, whatever is pushed to it: its labels cannot be written, or are,
// without the empty ones, those of another group, so that both would have the same two times (S7).
func (s *Store) unfit(g *group) string {
	if fault := g.layout.pushed.Fault(g.key); fault != "" {
		return fault
	}
	if other := s.owner(g.normal); other != nil && other.key != g.key {
		return g.layout.pushed.Describe(g.key, 0) + series.CollectedBefore +
			": a label with an empty value is none, and so there is group " + other.key.String() + " already"
	}
	return ""
}

// judgeAll judges the parts of an effect and marks those that do not fit. It returns what is wrong with the first of them.
//
// A family whose set of series the group exposes already is not judged: it changes nothing for anybody else, and what is
// new beside it is judged against it. If the change makes the group hold its account, what claims that is judged as gone.
func (s *Store) judgeAll(e *Effect, g *group, holding bool) (misfit string) {
	if e.hidden != "" {
		for i := range e.parts {
			e.parts[i].hidden = &hiding{reason: e.hidden}
		}
		return ""
	}
	if unchanged(e.parts, g) == len(e.parts) {
		return ""
	}
	t := trial{s: s, g: g, parts: e.parts, accepted: make([]bool, len(e.parts)), leaving: leaving(e, g)}
	if name := s.accountName(g.key); holding && !s.isHeld(name) {
		t.account = name
	}
	for i := range e.parts {
		t.accepted[i] = exposes(g, e.parts[i].set)
	}
	for i := range e.parts {
		if t.accepted[i] {
			continue
		}
		e.parts[i].hidden = t.judge(e.parts[i].set)
		t.accepted[i] = e.parts[i].hidden == nil
		if !t.accepted[i] && misfit == "" {
			misfit = e.parts[i].hidden.reason
		}
	}
	return misfit
}

// exposes says whether the group exposes just that set of series.
func exposes(g *group, k *series.Set) bool {
	old := g.state.find(k.Name())
	return old != nil && old.hidden == nil && old.set == k
}

// unchanged returns how many of the parts are of just the series that the group exposes already.
func unchanged(parts []part, g *group) int {
	if g.state == nil {
		return 0
	}
	n := 0
	for old := g.state.parts; len(old) > 0 && len(parts) > 0; {
		switch order := firstOf(old, parts); {
		case order < 0:
			old = old[1:]
		case order > 0:
			parts = parts[1:]
		default:
			if old[0].set == parts[0].set && old[0].hidden == nil {
				n++
			}
			old, parts = old[1:], parts[1:]
		}
	}
	return n
}

// leaving returns the group's parts that the change removes or replaces.
func leaving(e *Effect, g *group) []part {
	if g.state == nil {
		return nil
	}
	if e.Operation == change.Replace {
		return g.state.parts
	}
	var replaced []part
	for i := range e.parts {
		if old := g.state.find(e.parts[i].set.Name()); old != nil {
			replaced = append(replaced, *old)
		}
	}
	return replaced
}

// full returns the limit that the change would break, or nil. A change that makes the store smaller is always taken.
func (s *Store) full(e *Effect, g *group) *change.Outcome {
	if g.state == nil && s.maxGroups > 0 && len(s.groups) >= s.maxGroups {
		return noRoom(s.maxGroups, groupsLimit, "")
	}
	more := growth(e, g)
	if more > 0 && s.maxSeries > 0 && s.totals.lines+more > s.maxSeries {
		return noRoom(s.maxSeries, seriesLimit, "")
	}
	return s.fullAccount(g, more)
}

// growth returns how many lines more the group has after the change.
func growth(e *Effect, g *group) int {
	if g.state == nil {
		return e.lines
	}
	if e.Operation == change.Replace {
		return e.lines - g.state.lines
	}
	more := e.lines
	for i := range e.parts {
		if old := g.state.find(e.parts[i].set.Name()); old != nil {
			more -= old.set.Lines()
		}
	}
	return more
}

// look finds out what is special about an effect that was decided.
func (v *verdict) look(e *Effect, g *group) {
	if g.state != nil && len(e.parts) > 0 && unchanged(e.parts, g) == len(e.parts) {
		v.found = SameSeries
	}
	for i := range e.parts {
		if e.parts[i].hidden != nil {
			v.quarantined = append(v.quarantined, Quarantined{e.parts[i].set.Name(), e.parts[i].hidden.reason})
		}
	}
}
