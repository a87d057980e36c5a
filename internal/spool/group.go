package spool

import (
	"slices"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
)

// group is the changes of one grouping key. It is guarded by Spool.mu.
type group struct {
	key     grouping.Key
	changes []*entry // oldest first

	queued relays // waits for its turn with these
	busy   relays // a change of it is with these
	held   relays // these asked for it later
}

// next returns the first change that a relay has still to decide; nil if there is none.
func (g *group) next(slot int) *entry {
	for _, c := range g.changes {
		if c.undecided.has(slot) {
			return c
		}
	}
	return nil
}

// newest returns the newest content; nil if there is none.
func (g *group) newest() *entry {
	for _, c := range slices.Backward(g.changes) {
		if c.isContent() {
			return c
		}
	}
	return nil
}

// compact drops what newer changes made pointless (T15), as far as it may be: a change that somebody waits for, or that a
// relay may be deciding, stays, and the former makes nothing pointless yet, since it may be withdrawn.
func (s *Spool) compact(g *group) {
	if len(g.changes) == 1 && !g.changes[0].isOver() {
		return
	}
	var (
		kept     = make([]*entry, 0, len(g.changes))
		covered  map[uint64]bool // families that were pushed anew
		content  bool            // there is a newer push
		replaced bool            // by a newer PUT or DELETE
		deleted  bool            // by a newer DELETE
		failed   bool            // there is a newer failure
	)
	for _, c := range slices.Backward(g.changes) {
		pointless := false
		switch {
		case c.isFixed():
		case c.operation == change.Fail:
			pointless = failed || deleted || c.undecided == 0
		case replaced:
			pointless = true
		case content && c.operation == change.Merge && len(remaining(c, covered)) == 0:
			pointless = true
		case content && c.operation != change.Delete:
			s.cut(c, covered)
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
		if pointless {
			s.forget(c)
			continue
		}
		kept = append(kept, c)
	}
	slices.Reverse(kept)
	g.changes = kept
	s.dropIfEmpty(g)
}

// isOver says that the change is of no use to anybody even if it is the only one.
func (c *entry) isOver() bool {
	return !c.isFixed() && c.undecided == 0 && c.operation == change.Fail
}

func remaining(c *entry, covered map[uint64]bool) []uint64 {
	return slices.DeleteFunc(slices.Clone(c.families), func(f uint64) bool { return covered[f] })
}

// cut takes families out of a change's body.
func (s *Spool) cut(c *entry, covered map[uint64]bool) {
	left := remaining(c, covered)
	if len(left) == len(c.families) {
		return
	}
	r, err := c.request(nil)
	if err != nil {
		return // It stays whole, and says so when it is sent.
	}
	parser := s.parsers.Get().(*exposition.Parser)
	kept, err := parser.Cut(r.Format, r.Body, func(name []byte) bool { return !covered[hashOf(name)] })
	s.putBack(parser)
	if err != nil {
		return
	}
	s.bytes -= c.bytes()
	c.body, c.bodyBytes, c.families = compress(kept), len(kept), left
	s.bytes += c.bytes()
}

// forget takes a change out of all counts. The caller takes it out of the group.
func (s *Spool) forget(c *entry) {
	s.bytes -= c.bytes()
	c.undecided.slots(func(slot int) { s.settle(s.cursors[slot], c) })
	s.release(c)
	s.order.drop(c)
}

// remove takes a change out of its group.
func (s *Spool) remove(c *entry) {
	g := c.group
	if i := slices.Index(g.changes, c); i >= 0 {
		s.forget(c)
		g.changes = slices.Delete(g.changes, i, i+1)
	}
	s.dropIfEmpty(g)
}

// dropIfEmpty forgets a group without changes. While a relay decides one of it, the group stays, so that what comes next
// waits for that verdict.
func (s *Spool) dropIfEmpty(g *group) {
	if len(g.changes) == 0 && g.busy == 0 && s.groups[g.key] == g {
		delete(s.groups, g.key)
		s.bytes -= groupBytes(g.key)
	}
}

func groupBytes(key grouping.Key) int64 { return int64(len(key.Canonical())) + overheadBytes }
