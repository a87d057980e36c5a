package spool

import (
	"slices"

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

// content returns the first content from the change of that index on; nil if there is none.
func (g *group) content(from int) *entry {
	for _, c := range g.changes[from:] {
		if c.isContent() {
			return c
		}
	}
	return nil
}

// through returns copies of the changes up to that one, as they are at the moment.
func (g *group) through(c *entry) []*entry {
	all := make([]*entry, 0, len(g.changes))
	for _, o := range g.changes {
		frozen := *o
		if all = append(all, &frozen); o == c {
			break
		}
	}
	return all
}

// isFixed says whether there is such a change and it must stay as it is: then what the one before it declared cannot be handed on.
func (g *group) isFixed(i int) bool { return i < len(g.changes) && g.changes[i].isFixed() }

func groupBytes(key grouping.Key) int64 { return int64(len(key.Canonical())) + overheadBytes }
