package groupstore

import (
	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/series"
)

// pushedAt returns the time of the push. Where pushes come by several clocks, or were held up on their way, it is not before that of the push before it.
func (x *decision) pushedAt() int64 {
	g := x.group
	if !x.timesRise || g == nil || g.state == nil || x.at >= g.state.pushed || x.imported != nil {
		return x.at
	}
	for i := range x.parts {
		if x.parts[i].pushed == x.at {
			x.parts[i].pushed = g.state.pushed
		}
	}
	return g.state.pushed
}

// judge judges what is pushed to a group, and fills in what follows.
func (x *decision) judge() {
	d, e, g := &x.draft, &x.effect, x.group
	if d.operation == change.Delete {
		if g != nil {
			e.Operation, e.Key, e.Seen = change.Delete, d.key, g.state.version
		}
		return
	}
	if d.operation == change.Expire {
		x.judgeExpire()
		return
	}
	kept, _ := x.kept()
	*e = Effect{
		Operation: d.operation, Key: d.key, Seen: versionOf(g), PushedAt: x.pushedAt(), FailedAt: kept.failed, Reason: kept.reason,
		life: kept.declared().And(x.change.Life), broken: x.change.Failed, later: newLater(kept.later.ofNotes(), ""), parts: d.parts, lines: d.lines, valueSize: d.valueSize,
	}
	if x.standing != alive {
		e.Operation = change.Replace // a POST onto what is expired is a PUT (L5)
	}
	if g == nil {
		g = x.groups.newGroup(d.group, d.key, d.labels)
		x.group = g
	}
	if d.imported != nil {
		x.adoptImport()
		return
	}
	if double := x.groups.double(g); x.lives.standingOf(double) != alive {
		x.inTheWay = append(x.inTheWay, obstacle{double, absent}) // a stub of the same labels as well
		return
	}
	if reason := x.groups.unfit(g); reason != "" {
		if !x.mayHide() || g.layout.pushed.Fault("") != "" {
			x.refuse(reason)
			return
		}
		e.hidden = exposition.Clip(reason, keptBytes)
	}
	if d.fault != "" {
		if e.hidden != "" && g.state == nil {
			x.refuse(d.fault) // nothing is noted in a group that does not fit (S10)
			return
		}
		x.fail(d.fault)
		return
	}
	for i := range e.parts {
		e.parts[i].set = x.sets.Intern(e.parts[i].set)
	}
	t := trial{s: x.Store, g: g, inVain: d.inVain, looks: maxLooks, decides: true}
	misfits := t.judgeAll(e, x.source != nil && authorOf(x.source.name) == x.accounts.nameOf(d.key))
	if misfits.Any() && !x.mayHide() {
		x.fail(misfits.String())
		return
	}
	x.inTheWay = t.expired
	if full, of := x.full(g); full != nil {
		if x.inTheWay = x.expiredOf(of); len(x.inTheWay) == 0 {
			*e, x.refusal, x.group = Effect{}, full, nil
		}
		return
	}
	x.look(e, g)
}

// mayHide says whether what does not fit is kept and not exposed (S9).
func (x *decision) mayHide() bool { return x.check != CheckEnforced || x.change.MayBeHidden }

// refuse refuses a draft that does not fit, and leaves nothing behind.
func (x *decision) refuse(reason string) {
	x.effect, x.group, x.refusal = Effect{}, nil, x.told
	if x.told == nil {
		x.refusal = x.check.refusal(reason)
	}
}

// fail refuses a draft, and notes that in its group, if the group may be there at all.
func (x *decision) fail(reason string) {
	g := x.group
	x.refuse(reason)
	if g.state == nil {
		if full, _ := x.full(g); full != nil {
			return
		}
	}
	x.group = g
	op := change.Fail
	if x.standing != alive {
		op = change.Replace // by nothing: what is expired does not come back
	}
	kept, pushed := x.kept()
	x.effect = remains(op, g, kept, pushed)
	failedAt := x.at
	if x.timesRise {
		failedAt = max(failedAt, x.effect.FailedAt)
	}
	x.effect.FailedAt, x.effect.Reason = failedAt, exposition.Clip(reason, keptBytes)
}

// judgeAll judges the parts of an effect of the trial's group, and marks those that do not fit. It returns what is wrong with them.
//
// A family whose set of series the group exposes already is not judged: it changes nothing for anybody else, and what is
// new beside it is judged against it. If the change makes the group hold its account, what claims that is judged as gone.
func (t *trial) judgeAll(e *Effect, holding bool) (misfits exposition.Faults) {
	s, g := t.s, t.g
	if e.hidden != "" {
		for i := range e.parts {
			e.parts[i].hidden = &hiding{reason: e.hidden}
		}
		return misfits
	}
	if unchanged(e.parts, g.state) == len(e.parts) {
		return misfits
	}
	t.parts, t.accepted, t.leaving = e.parts, make([]bool, len(e.parts)), leaving(e, g)
	if name := s.accounts.nameOf(g.key); holding && !s.accounts.isHeld(name) {
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
		if !t.accepted[i] {
			misfits.Add(e.parts[i].hidden.reason)
		}
	}
	return misfits
}

// exposes says whether the group exposes just that set of series.
func exposes(g *group, k *series.Set) bool {
	old := g.state.find(k.Name())
	return old != nil && old.hidden == nil && old.set == k
}

// unchanged returns how many of the parts are of just the series that the group exposes already.
func unchanged(parts []part, st *state) int {
	if st == nil {
		return 0
	}
	n := 0
	for old := st.parts; len(old) > 0 && len(parts) > 0; {
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

// full returns the limit that the effect would break in a group, and the account whose limit it is, nil for that of the store; or nil. An effect
// that makes the store smaller is always taken.
func (x *decision) full(g *group) (full *change.Outcome, of *account) {
	if g.state == nil && x.maxGroups > 0 && len(x.groups.byKey) >= x.maxGroups {
		return noRoom(x.maxGroups, groupsLimit), nil
	}
	more := growth(&x.effect, g)
	if more > 0 && x.maxSeries > 0 && x.totals.lines+more > x.maxSeries {
		return noRoom(x.maxSeries, seriesLimit), nil
	}
	return x.accounts.full(g, more), x.accounts.byName[x.accounts.nameOf(g.key)]
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
	if g.state != nil && len(e.parts) > 0 && unchanged(e.parts, g.state) == len(e.parts) {
		v.found = SameSeries
	}
	for i := range e.parts {
		if e.parts[i].hidden != nil {
			v.quarantined = append(v.quarantined, Quarantined{e.parts[i].set.Name(), e.parts[i].hidden.reason})
		}
	}
}
