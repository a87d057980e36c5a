package groupstore

// decide judges a draft with everything known (S1). It returns the change that follows, which may be none, the group it is
// about, and either the verdict or the rejection. It changes nothing.
func (s *Store) decide(d *draft) (c Change, g *group, v Verdict, rejection error) {
	g = s.groups[d.key.Canonical()]
	if d.operation == Delete {
		if g == nil {
			return Change{}, nil, Verdict{}, nil
		}
		return Change{Operation: Delete, Key: d.key, Seen: g.state.version}, g, Verdict{}, nil
	}
	c = Change{Operation: d.operation, Key: d.key, PushedAt: d.at, parts: d.parts, lines: d.lines, valueSize: d.valueSize}
	if g == nil {
		g = s.draftedGroup(d)
	} else {
		noted := g.state.noted()
		c.Seen, c.FailedAt, c.Reason = g.state.version, noted.failed, noted.reason
	}
	if reason := s.unfit(g); reason != "" {
		if s.check == CheckEnforced || g.layout.pushed.fault() != nil {
			return Change{}, nil, Verdict{}, &InconsistentError{reason: reason}
		}
		c.hidden = brief(reason, keptBytes)
	}
	if d.fault != "" {
		if c.hidden != "" && g.state == nil {
			return Change{}, nil, Verdict{}, &InconsistentError{reason: d.fault} // nothing is noted in a group that does not fit (S10)
		}
		return s.failure(d, g, &InconsistentError{reason: d.fault})
	}
	for i := range c.parts {
		c.parts[i].skeleton = s.interned(c.parts[i].skeleton)
	}
	misfit := s.judgeAll(&c, g, d.origin != nil && authorOf(d.origin.Source) == s.accountName(d.key))
	if misfit != nil && s.check == CheckEnforced {
		return s.failure(d, g, misfit)
	}
	if full := s.full(&c, g); full != nil {
		return Change{}, nil, Verdict{}, full
	}
	return c, g, verdictOf(&c, g), nil
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
	if fault := g.layout.pushed.fault(); fault != nil {
		return describe(g.layout.pushed, g, fault.metric) + fault.text
	}
	if other := s.owner(g.normal); other != nil && other.key != g.key {
		return describe(g.layout.pushed, g, 0) + collectedBefore +
			": a label with an empty value is none, and so there is group " + other.key.String() + " already"
	}
	return ""
}

// failure returns the change that notes a rejected push in its group, if the group may be there at all.
func (s *Store) failure(d *draft, g *group, rejection error) (Change, *group, Verdict, error) {
	if g.state == nil && s.full(&Change{}, g) != nil {
		return Change{}, nil, Verdict{}, rejection
	}
	c := Change{Operation: Fail, Key: d.key, Seen: versionOf(g), FailedAt: d.at, Reason: brief(rejection.Error(), keptBytes)}
	if g.state != nil {
		c.PushedAt, c.hidden = g.state.pushed, g.state.hidden()
	}
	return c, g, Verdict{}, rejection
}

// judgeAll judges the parts of a change and marks those that do not fit. It returns the first of them.
//
// A family whose set of series the group exposes already is not judged: it changes nothing for anybody else, and what is
// new beside it is judged against it. If the change makes the group hold its account, what claims that is judged as gone.
func (s *Store) judgeAll(c *Change, g *group, holding bool) (first *InconsistentError) {
	if c.hidden != "" {
		for i := range c.parts {
			c.parts[i].hidden = &hiding{reason: c.hidden}
		}
		return nil
	}
	if unchanged(c.parts, g) == len(c.parts) {
		return nil
	}
	t := trial{s: s, g: g, parts: c.parts, accepted: make([]bool, len(c.parts)), leaving: leaving(c, g)}
	if name := s.accountName(g.key); holding && !s.isHeld(name) {
		t.account = name
	}
	for i := range c.parts {
		t.accepted[i] = exposes(g, c.parts[i].skeleton)
	}
	for i := range c.parts {
		if t.accepted[i] {
			continue
		}
		c.parts[i].hidden = t.judge(c.parts[i].skeleton)
		t.accepted[i] = c.parts[i].hidden == nil
		if !t.accepted[i] && first == nil {
			first = &InconsistentError{Family: c.parts[i].skeleton.name(), reason: c.parts[i].hidden.reason}
		}
	}
	return first
}

// exposes says whether the group exposes just that set of series.
func exposes(g *group, k *skeleton) bool {
	old := g.state.find(k.name())
	return old != nil && old.hidden == nil && old.skeleton == k
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
			if old[0].skeleton == parts[0].skeleton && old[0].hidden == nil {
				n++
			}
			old, parts = old[1:], parts[1:]
		}
	}
	return n
}

// leaving returns the group's parts that the change removes or replaces.
func leaving(c *Change, g *group) []part {
	if g.state == nil {
		return nil
	}
	if c.Operation == Replace {
		return g.state.parts
	}
	var replaced []part
	for i := range c.parts {
		if old := g.state.find(c.parts[i].skeleton.name()); old != nil {
			replaced = append(replaced, *old)
		}
	}
	return replaced
}

// full returns the limit that the change would break, or nil. A change that makes the store smaller is always taken.
func (s *Store) full(c *Change, g *group) error {
	if g.state == nil && s.maxGroups > 0 && len(s.groups) >= s.maxGroups {
		return &FullError{What: Groups, Limit: s.maxGroups}
	}
	more := growth(c, g)
	if more > 0 && s.maxSeries > 0 && s.totals.lines+more > s.maxSeries {
		return &FullError{What: Series, Limit: s.maxSeries}
	}
	return s.fullAccount(g, more)
}

// growth returns how many lines more the group has after the change.
func growth(c *Change, g *group) int {
	if g.state == nil {
		return c.lines
	}
	if c.Operation == Replace {
		return c.lines - g.state.lines
	}
	more := c.lines
	for i := range c.parts {
		if old := g.state.find(c.parts[i].skeleton.name()); old != nil {
			more -= int(old.skeleton.lines)
		}
	}
	return more
}

func verdictOf(c *Change, g *group) Verdict {
	v := Verdict{Known: g.state != nil && len(c.parts) > 0 && unchanged(c.parts, g) == len(c.parts)}
	for i := range c.parts {
		if c.parts[i].hidden != nil {
			v.Quarantined = append(v.Quarantined, Quarantined{c.parts[i].skeleton.name(), c.parts[i].hidden.reason})
		}
	}
	return v
}
