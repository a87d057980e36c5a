package groupstore

import (
	"slices"

	"pushrelay/internal/metric"
	"pushrelay/internal/series"
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

// waiting are the hidden parts, by the name that they wait for. They are guarded by Store.mu.
type waiting struct {
	byName map[string][]waiter
	hidden int    // parts, also those that wait for nothing
	order  uint64 // how many parts were ever hidden
}

// add counts a part as hidden and lets it wait.
func (ws *waiting) add(g *group, p *part) {
	ws.hidden++
	if p.hidden.order == 0 { // otherwise it was hidden elsewhere
		p.hidden.order = ws.order + 1
	}
	ws.order = max(ws.order, p.hidden.order)
	if p.hidden.name != "" {
		ws.byName[p.hidden.name] = append(ws.byName[p.hidden.name], waiter{g, p.set.Name()})
	}
}

// remove takes back what add did.
func (ws *waiting) remove(g *group, p *part) {
	ws.hidden--
	name := p.hidden.name
	if name == "" {
		return
	}
	list := slices.DeleteFunc(ws.byName[name], func(w waiter) bool { return w.group == g && w.family == p.set.Name() })
	if len(list) == 0 {
		delete(ws.byName, name)
		return
	}
	ws.byName[name] = list
}

// clear forgets all parts, and goes on counting.
func (ws *waiting) clear() { ws.byName, ws.hidden = make(map[string][]waiter), 0 }

// reconsider judges again those that waited for what has departed, in the order in which they came.
func (s *Store) reconsider(departed []departure) {
	for _, d := range departed {
		for _, w := range slices.Clone(s.waiting.byName[d.name]) {
			p := w.group.state.find(w.family)
			if p == nil || p.hidden == nil || p.hidden.name != d.name || !s.exposed.frees(d, p.hidden) {
				continue
			}
			s.rejudge(w.group, p)
		}
	}
}

// frees says whether the departure may be what the hidden part waits for.
func (xs *exposures) frees(d departure, h *hiding) bool {
	if h.by != nil {
		return h.by == d.by
	}
	x := xs.of(d.name)
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
		s.waiting.remove(g, p)
	} else {
		s.conceal(g, p.set)
	}
	s.enter(g, &next)
	if h != nil {
		s.waiting.add(g, changed)
		return
	}
	s.expose(g, changed.set)
}

// expose counts a part as visible, and conceal as no longer visible.
func (c *conflicts) expose(g *group, k *series.Set) {
	c.accounts.claim(g, k)
	c.exposed.add(g, k)
}

func (c *conflicts) conceal(g *group, k *series.Set) {
	c.accounts.unclaim(g, k)
	c.exposed.remove(g, k)
}

// promoteShadowed exposes the first of the groups that were hidden because of the group which had this normal key.
func (s *Store) promoteShadowed(normal string) {
	g := s.groups.promote(normal)
	if g == nil {
		return
	}
	next := *g.state
	noted := g.state.noted()
	noted.hidden = ""
	next.notes = &noted
	s.enter(g, &next)
	for i := range next.parts {
		s.rejudge(g, &next.parts[i])
	}
}
