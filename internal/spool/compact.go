package spool

import (
	"slices"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
)

// compact drops what newer changes made pointless (T15), as far as it may be: a change that somebody waits for, or that a
// relay may be deciding, stays, and the former makes nothing pointless yet, since it may be withdrawn.
func (gs *groups) compact(g *group) {
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
		if pointless {
			gs.forget(c)
			continue
		}
		kept = append(kept, c)
	}
	slices.Reverse(kept)
	g.changes = kept
	gs.dropIfEmpty(g)
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
	parser := gs.parsers.Get().(*exposition.Parser)
	kept, err := parser.Cut(r.Format, r.Body, func(name []byte) bool { return !covered[hashOf(name)] })
	parser.Reset()
	gs.parsers.Put(parser)
	if err != nil {
		return
	}
	gs.bytes -= c.bytes()
	c.body, c.bodyBytes, c.families = compress(kept), len(kept), left
	gs.bytes += c.bytes()
}
