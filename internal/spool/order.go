package spool

import "iter"

// order is all changes by their sequences, oldest first. It is guarded by Spool.mu.
type order struct {
	first, last *entry
	count       int
}

// push puts a change behind all others.
func (o *order) push(c *entry) {
	o.count++
	c.older = o.last
	if o.last == nil {
		o.first = c
	} else {
		o.last.newer = c
	}
	o.last = c
}

// drop removes a change.
func (o *order) drop(c *entry) {
	o.count--
	if c.older == nil {
		o.first = c.newer
	} else {
		c.older.newer = c.newer
	}
	if c.newer == nil {
		o.last = c.older
	} else {
		c.newer.older = c.older
	}
	c.older, c.newer = nil, nil
}

// all yields every change. The one that was yielded may be dropped meanwhile.
func (o *order) all() iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		for c := o.first; c != nil; {
			next := c.newer
			if !yield(c) {
				return
			}
			c = next
		}
	}
}

// nextPending returns the first change from c on that the relay has still to decide; nil if there is none.
func (cur *cursor) nextPending(c *entry) *entry {
	for ; c != nil; c = c.newer {
		if c.undecided.has(cur.slot) {
			return c
		}
	}
	return nil
}

// decidedThrough is the floor of the relay: all changes up to that sequence are decided, and up to last if there are no others.
func (cur *cursor) decidedThrough(last uint64) uint64 {
	if cur.oldest == nil {
		return last
	}
	return cur.oldest.sequence - 1
}

// pendingChanges yields every change that the relay has still to decide, oldest first.
func (cur *cursor) pendingChanges() iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		for c := cur.oldest; c != nil; c = cur.nextPending(c.newer) {
			if !yield(c) {
				return
			}
		}
	}
}
