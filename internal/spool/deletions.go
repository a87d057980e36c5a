package spool

import "pushrelay/internal/change"

// maxDeletions bounds the deletions that are kept after all relays have decided them. They count in [Config].MaxBytes as other
// changes do. Whatever else needs the room gets theirs, that of the oldest first.
const maxDeletions = 10000

// deletions are those that are kept: a store that was put back to an older copy, or made from a backup, may have the groups
// again. They are guarded by Spool.mu, which the caller holds.
type deletions struct {
	order []*entry // as all relays had decided them; those that are not kept any more are skipped
	count int
}

// keep keeps a deletion that nobody has to decide any more.
func (d *deletions) keep(c *entry) {
	if c.operation != change.Delete || c.undecided != 0 || c.kept {
		return
	}
	c.kept = true
	d.order = append(d.order, c)
	d.count++
}

// release ends the keeping of a change: it is sent again, or it goes.
func (d *deletions) release(c *entry) {
	if !c.kept {
		return
	}
	c.kept = false
	d.count--
}

// pop returns the deletion that has been kept for the longest time, to be dropped. There must be one.
func (d *deletions) pop() *entry {
	for {
		c := d.order[0]
		d.order[0] = nil
		d.order = d.order[1:]
		if c.kept {
			return c
		}
	}
}

// trim gives up the memory of those that are not kept any more, once they are most.
func (d *deletions) trim() {
	if len(d.order) <= 2*d.count+16 {
		return
	}
	kept := make([]*entry, 0, d.count)
	for _, c := range d.order {
		if c.kept {
			kept = append(kept, c)
		}
	}
	d.order = kept
}

// groups counts the groups of which only a deletion is left that all relays have decided.
func (d *deletions) groups() int {
	n := 0
	for _, c := range d.order {
		if c.kept && len(c.group.changes) == 1 {
			n++
		}
	}
	return n
}
