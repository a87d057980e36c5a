package spool

import (
	"slices"

	"pushrelay/internal/change"
	"pushrelay/internal/grouping"
)

// groups is the table of what the spool holds: the changes of all groups, in memory, their order and their size, and which relays
// have still to decide them. It is guarded by Spool.mu, which the caller holds.
type groups struct {
	// Static after New.
	maxBytes int64 // 0 means no limit
	parsers  *parsers
	slots    *slots // the relays that changes are for
	// check returns the families of what changes were added up to, or an error if a relay might refuse it although it takes the parts.
	check func(*change.Change) ([]uint64, error)

	byKey     map[grouping.Key]*group
	order     order
	deletions deletions
	bytes     int64
	reachable relays // that have an address
	entries   int    // changes that some of these has still to decide
}

// insert puts a numbered change behind all others. The relays have to decide it.
func (gs *groups) insert(c *entry, undecided relays) {
	g := c.group
	if gs.byKey[g.key] == nil {
		gs.byKey[g.key] = g
		gs.bytes += groupBytes(g.key)
	}
	g.changes = append(g.changes, c)
	gs.bytes += c.bytes()
	gs.order.push(c)
	undecided.each(func(slot int) { gs.assign(gs.slots[slot], c) })
	gs.deletions.keep(c)
}

// numbered returns the change with a sequence; nil if there is none.
func (gs *groups) numbered(sequence uint64) *entry {
	for c := range gs.order.all() {
		if c.sequence == sequence {
			return c
		}
	}
	return nil
}

// assign notes that a change is pending at a relay: the relay has to decide it.
func (gs *groups) assign(cur *cursor, c *entry) {
	gs.deletions.release(c)
	waited := c.undecided&gs.reachable != 0
	c.undecided |= of(cur.slot)
	cur.pending++
	if !waited && c.undecided&gs.reachable != 0 {
		gs.entries++
	}
	if cur.oldest == nil || c.sequence < cur.oldest.sequence {
		cur.oldest = c
	}
}

// resolve notes that a change is not pending at a relay any more: the relay has decided it, or need not. The change must still
// have its place in the order.
func (gs *groups) resolve(cur *cursor, c *entry) {
	waited := c.undecided&gs.reachable != 0
	c.undecided &^= of(cur.slot)
	c.anew &^= of(cur.slot)
	cur.pending--
	if waited && c.undecided&gs.reachable == 0 {
		gs.entries--
	}
	if cur.oldest == c {
		cur.oldest = cur.nextPending(c.newer)
	}
	gs.deletions.keep(c)
}

// assignAll notes that a relay has to decide all that is there, but for the failures: it never had a say in those. It may have any of it: a
// number tells whether it has a change, and not which of the parts that are added up in one.
func (gs *groups) assignAll(cur *cursor) {
	for c := range gs.order.all() {
		if !c.isContent() {
			continue
		}
		gs.assign(cur, c)
		if c.operation.IsOnto() {
			c.anew |= of(cur.slot)
		}
	}
}

// resolveAll notes that nothing is pending at a relay any more, and nothing on its way to it.
func (gs *groups) resolveAll(cur *cursor) {
	for c := range gs.order.all() {
		if c.undecided.has(cur.slot) {
			gs.resolve(cur, c)
		}
		c.sent &^= of(cur.slot)
	}
	for _, g := range gs.byKey {
		g.queued, g.busy, g.held = g.queued&^of(cur.slot), g.busy&^of(cur.slot), g.held&^of(cur.slot)
	}
}

// recount counts what waits for relays that can be reached, if these are others than before.
func (gs *groups) recount() {
	reachable := gs.slots.reachable()
	if reachable == gs.reachable {
		return
	}
	gs.reachable, gs.entries = reachable, 0
	for c := range gs.order.all() {
		if c.undecided&reachable != 0 {
			gs.entries++
		}
	}
}

// fits makes room for a change of a group, by deletions that are kept, and says whether there is (T22). What the change will
// replace counts as free.
func (gs *groups) fits(g *group, c *entry) bool {
	if gs.maxBytes <= 0 || c.operation == change.Delete {
		return true
	}
	for {
		if growth := gs.growth(g, c); growth <= 0 || gs.bytes+growth <= gs.maxBytes {
			return true
		}
		if gs.deletions.count == 0 {
			return false
		}
		gs.remove(gs.deletions.pop())
	}
}

// growth is by how much a change makes the table larger.
func (gs *groups) growth(g *group, c *entry) int64 {
	growth := c.bytes()
	if gs.byKey[g.key] == nil {
		growth += groupBytes(g.key)
	}
	if c.operation == change.Replace {
		for i, old := range g.changes {
			if !old.isFixed() && (old.life.IsZero() || !g.isFixed(i+1)) {
				growth -= old.bytes()
			}
		}
	}
	return growth
}

// trimDeletions drops those that are kept beyond the bounds. Nothing may hold on to a group's list of changes meanwhile.
func (gs *groups) trimDeletions() {
	for gs.deletions.count > maxDeletions || gs.deletions.count > 0 && gs.maxBytes > 0 && gs.bytes > gs.maxBytes {
		gs.remove(gs.deletions.pop())
	}
	gs.deletions.trim()
}

// withdraw removes a change from all relays. Those that it is under way to may still decide it, and name its number later.
func (gs *groups) withdraw(c *entry) {
	(c.sent & c.undecided).each(func(slot int) {
		cur := gs.slots[slot]
		cur.withdrawn = append(slices.Clip(cur.withdrawn), Decided{c.sequence, c.identity()})
	})
	gs.remove(c)
}

// forget removes a change from all counts. The caller removes it from the group.
func (gs *groups) forget(c *entry) {
	gs.bytes -= c.bytes()
	c.undecided.each(func(slot int) { gs.resolve(gs.slots[slot], c) })
	gs.deletions.release(c)
	gs.order.drop(c)
}

// remove removes a change from its group.
func (gs *groups) remove(c *entry) {
	g := c.group
	if i := slices.Index(g.changes, c); i >= 0 {
		gs.forget(c)
		g.changes = slices.Delete(g.changes, i, i+1)
	}
	gs.dropIfEmpty(g)
}

// dropIfEmpty forgets a group without changes. While a relay decides one of it, the group stays, so that what comes next
// waits for that verdict.
func (gs *groups) dropIfEmpty(g *group) {
	if len(g.changes) == 0 && g.busy == 0 && gs.byKey[g.key] == g {
		delete(gs.byKey, g.key)
		gs.bytes -= groupBytes(g.key)
	}
}
