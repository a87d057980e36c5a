package spool

import (
	"slices"
	"sync"

	"pushrelay/internal/change"
	"pushrelay/internal/grouping"
)

// groups is the table of what the spool holds: the changes of all groups, in memory, with their counts, and which relays have
// still to decide them. It is guarded by Spool.mu, which whoever calls it holds.
type groups struct {
	// Static after New.
	maxBytes int64      // 0 means no limit
	parsers  *sync.Pool // of *exposition.Parser
	slots    *slots     // the relays that changes are for

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
	undecided.each(func(slot int) { gs.owe(gs.slots[slot], c) })
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

// owe notes that a relay has to decide a change.
func (gs *groups) owe(cur *cursor, c *entry) {
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

// settle notes that a relay has not to decide a change any more. The change must still have its place in the order.
func (gs *groups) settle(cur *cursor, c *entry) {
	waited := c.undecided&gs.reachable != 0
	c.undecided &^= of(cur.slot)
	cur.pending--
	if waited && c.undecided&gs.reachable == 0 {
		gs.entries--
	}
	if cur.oldest == c {
		cur.oldest = cur.owed(c.newer)
	}
	gs.deletions.keep(c)
}

// oweAll notes that a relay has to decide all that is there. Notes of failed pushes are not for it: it never had a say in
// those.
func (gs *groups) oweAll(cur *cursor) {
	for c := range gs.order.all() {
		if c.isContent() {
			gs.owe(cur, c)
		}
	}
}

// settleAll notes that a relay has to decide nothing any more, and that nothing is on its way to it.
func (gs *groups) settleAll(cur *cursor) {
	for c := range gs.order.all() {
		if c.undecided.has(cur.slot) {
			gs.settle(cur, c)
		}
		c.sent &^= of(cur.slot)
	}
	for _, g := range gs.byKey {
		g.queued, g.busy, g.held = g.queued&^of(cur.slot), g.busy&^of(cur.slot), g.held&^of(cur.slot)
	}
}

// count counts what waits for relays that can be reached, if these are others than before.
func (gs *groups) count() {
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
		for _, old := range g.changes {
			if !old.isFixed() {
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

// forget takes a change out of all counts. The caller takes it out of the group.
func (gs *groups) forget(c *entry) {
	gs.bytes -= c.bytes()
	c.undecided.each(func(slot int) { gs.settle(gs.slots[slot], c) })
	gs.deletions.release(c)
	gs.order.drop(c)
}

// remove takes a change out of its group.
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
