package groupstore

import (
	"slices"

	"pushrelay/internal/metric"
)

// Quarantine (S9) holds the families that are kept although they do not fit: the check is off, or the change was decided
// elsewhere. Of families that contradict each other the one that came first is exposed; the others wait for it to leave, or
// to be pushed anew.

// A waiter is a hidden part that could be exposed once something else has left.
type waiter struct {
	group  *group
	family string
}

// A departure is an exposed part that has left, or has changed its series.
type departure struct {
	by   *group
	name string
	typ  metric.Type
}

// hide counts a part as hidden and lets it wait.
func (s *Store) hide(g *group, p *part) {
	s.totals.quarantined++
	s.hidings++
	p.hidden.order = s.hidings
	if p.hidden.name != "" {
		s.waiting[p.hidden.name] = append(s.waiting[p.hidden.name], waiter{g, p.set.Name()})
	}
}

// unhide takes back what hide did.
func (s *Store) unhide(g *group, p *part) {
	s.totals.quarantined--
	name := p.hidden.name
	if name == "" {
		return
	}
	list := slices.DeleteFunc(s.waiting[name], func(w waiter) bool { return w.group == g && w.family == p.set.Name() })
	if len(list) == 0 {
		delete(s.waiting, name)
		return
	}
	s.waiting[name] = list
}

// reconsider judges again those that waited for what has departed, in the order in which they came.
func (s *Store) reconsider(departed []departure) {
	for _, d := range departed {
		for _, w := range slices.Clone(s.waiting[d.name]) {
			p := w.group.state.find(w.family)
			if p == nil || p.hidden == nil || p.hidden.name != d.name || !s.frees(d, p.hidden) {
				continue
			}
			s.rejudge(w.group, p)
		}
	}
}

// frees says whether the departure may be what the hidden part waits for.
func (s *Store) frees(d departure, h *hiding) bool {
	if h.by != nil {
		return h.by == d.by
	}
	x := s.exposureOf(d.name)
	return x == nil || x.visible == 0 || x.typ != d.typ
}

// rejudge exposes a hidden part if it fits by now, or lets it wait for what is in its way now.
func (s *Store) rejudge(g *group, p *part) {
	t := trial{s: s, g: g}
	s.setHiding(g, p, t.judge(p.set))
}

// setHiding changes whether, and why, a part of a group is hidden.
func (s *Store) setHiding(g *group, p *part, h *hiding) {
	next := *g.state
	next.parts = slices.Clone(next.parts)
	changed := findPart(next.parts, p.set.Name())
	changed.hidden = h
	if p.hidden != nil {
		s.unhide(g, p)
	} else {
		s.conceal(g, p.set)
	}
	g.state = &next
	s.setSlot(g)
	if h != nil {
		s.hide(g, changed)
		return
	}
	s.expose(g, changed.set)
}

// dropShadowed forgets a hidden group.
func (s *Store) dropShadowed(g *group) {
	list := slices.DeleteFunc(s.shadowed[g.normal], func(other *group) bool { return other == g })
	if len(list) == 0 {
		delete(s.shadowed, g.normal)
		return
	}
	s.shadowed[g.normal] = list
}

// promoteShadowed exposes the first of the groups that were hidden because of the group which had this normal key.
func (s *Store) promoteShadowed(normal string) {
	if len(s.shadowed[normal]) == 0 {
		return
	}
	g := s.shadowed[normal][0]
	s.dropShadowed(g)
	if g.normal != g.key.Canonical() {
		s.aliases[normal] = g
	}
	next := *g.state
	noted := g.state.noted()
	noted.hidden = ""
	next.notes = &noted
	g.state = &next
	s.setSlot(g)
	for i := range next.parts {
		s.rejudge(g, &next.parts[i])
	}
}
