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

func groupBytes(key grouping.Key) int64 { return int64(len(key.Canonical())) + overheadBytes }
