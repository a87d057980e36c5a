package spool

import (
	"cmp"
	"slices"

	"pushrelay/internal/change"
	"pushrelay/internal/lifetime"
)

// compact drops what newer changes made pointless (T15), and adds up what can be (L14).
func (gs *groups) compact(g *group) {
	if len(g.changes) == 1 && !g.changes[0].isOver() {
		return
	}
	gs.drop(g)
	gs.addUp(g)
	for gs.settle(g) {
		gs.drop(g)
	}
}

// drop drops what newer changes made pointless, as far as it may be: a change that somebody waits for, or that a relay may be deciding, stays, and
// the former makes nothing pointless yet, since it may be withdrawn. What a change declared that goes is said by the next one (L1).
func (gs *groups) drop(g *group) {
	gs.judge(g)
	kept := make([]*entry, 0, len(g.changes))
	for i, c := range g.changes { // oldest first, since a deletion takes back what those before it declared
		if c.pointless && gs.handOn(c.says(kept), g.content(i+1)) {
			gs.forget(c)
			continue
		}
		kept = append(kept, c)
	}
	g.changes = kept
	gs.dropIfEmpty(g)
}

// judge finds the changes of a group that are pointless, and cuts out of the others what is. What adds to families, or replaces single series,
// makes nothing pointless: it needs what is before it.
func (gs *groups) judge(g *group) {
	var (
		covered  map[uint64]bool // families that were pushed anew
		content  bool            // there is a newer push
		replaced bool            // by a newer PUT or DELETE
		deleted  bool            // by a newer DELETE
		failed   bool            // there is a newer failure
	)
	for _, c := range slices.Backward(g.changes) {
		c.pointless = false
		switch {
		case c.isFixed():
		case c.operation == change.Fail:
			c.pointless = failed || deleted || c.undecided == 0
		case replaced:
			c.pointless = true
		case content && (c.operation == change.Merge || c.operation.IsOnto()) && len(remaining(c, covered)) == 0:
			c.pointless = true
		case content && c.operation != change.Delete:
			gs.cut(c, covered)
		}
		if c.answer == nil {
			failed = failed || c.operation == change.Fail
			content = content || c.isContent()
			replaced = replaced || c.isBase()
			deleted = deleted || c.operation == change.Delete
			if c.operation == change.Merge {
				if covered == nil {
					covered = make(map[uint64]bool, len(c.families))
				}
				for _, f := range c.families {
					covered[f] = true
				}
			}
		}
	}
}

// says returns what is lost of the group's life when the change goes: what it declared, and of a deletion that it takes back what the older
// ones declared that stay.
func (c *entry) says(older []*entry) lifetime.Declaration {
	life := c.life
	if c.operation == change.Delete {
		for _, o := range older {
			life = o.life.Retraction().Then(life)
		}
	}
	return life
}

// handOn has the next push say what is lost with a pointless one, and returns whether that may go now.
func (gs *groups) handOn(lost lifetime.Declaration, next *entry) bool {
	if lost.IsZero() {
		return true
	}
	if next.answer != nil {
		return false // It may be withdrawn.
	}
	if next.operation == change.Delete {
		lost = lost.Retraction()
	}
	life := lost.Then(next.life)
	if life == next.life {
		return true
	}
	if next.operation.HasBody() && next.isFixed() {
		return false // What a relay may be deciding cannot say more.
	}
	gs.bytes -= next.bytes()
	next.life = life
	next.from = cmp.Or(next.from, next.sequence)
	gs.bytes += next.bytes()
	return true
}

// compactAll drops it of all groups.
func (gs *groups) compactAll() {
	for _, g := range gs.byKey {
		gs.compact(g)
	}
}

// isOver says that the change is of no use to anybody even if it is the only one.
func (c *entry) isOver() bool {
	return !c.isFixed() && c.undecided == 0 && c.operation == change.Fail
}

func remaining(c *entry, covered map[uint64]bool) []uint64 {
	return slices.DeleteFunc(slices.Clone(c.families), func(f uint64) bool { return covered[f] })
}

// cut removes families from a change's body.
func (gs *groups) cut(c *entry, covered map[uint64]bool) {
	left := remaining(c, covered)
	if len(left) == len(c.families) {
		return
	}
	r, err := c.request(nil)
	if err != nil {
		return // It stays whole, and says so when it is sent.
	}
	parser := gs.parsers.get()
	kept, err := parser.Cut(r.Format, r.Body, func(name []byte) bool { return !covered[hashOf(name)] })
	gs.parsers.put(parser)
	if err != nil {
		return
	}
	gs.setBody(c, kept, left)
}

// setBody gives a change another body, in its format.
func (gs *groups) setBody(c *entry, body []byte, families []uint64) {
	gs.bytes -= c.bytes()
	c.body, c.bodyBytes, c.families = compress(body), len(body), families
	gs.bytes += c.bytes()
}
