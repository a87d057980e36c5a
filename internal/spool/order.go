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

// drop takes a change out.
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

// owe notes that a relay has to decide a change.
func (s *Spool) owe(cur *cursor, c *entry) {
	s.release(c)
	waited := c.undecided&s.reachable != 0
	c.undecided |= of(cur.slot)
	cur.pending++
	if !waited && c.undecided&s.reachable != 0 {
		s.entries++
	}
	if cur.oldest == nil || c.sequence < cur.oldest.sequence {
		cur.oldest = c
	}
}

// settle notes that a relay has not to decide a change any more. The change must still have its place in the order.
func (s *Spool) settle(cur *cursor, c *entry) {
	waited := c.undecided&s.reachable != 0
	c.undecided &^= of(cur.slot)
	cur.pending--
	if waited && c.undecided&s.reachable == 0 {
		s.entries--
	}
	if cur.oldest == c {
		cur.oldest = cur.owed(c.newer)
	}
	s.keep(c)
}

// count counts what waits for relays that can be reached, if these are others than before.
func (s *Spool) count() {
	var reachable relays
	for _, cur := range s.cursors {
		if cur != nil && len(cur.addresses) > 0 {
			reachable |= of(cur.slot)
		}
	}
	if reachable == s.reachable {
		return
	}
	s.reachable, s.entries = reachable, 0
	for c := range s.order.all() {
		if c.undecided&reachable != 0 {
			s.entries++
		}
	}
}

// owed returns the first change from c on that the relay has still to decide; nil if there is none.
func (cur *cursor) owed(c *entry) *entry {
	for ; c != nil; c = c.newer {
		if c.undecided.has(cur.slot) {
			return c
		}
	}
	return nil
}

// pendingChanges yields every change that the relay has still to decide, oldest first.
func (cur *cursor) pendingChanges() iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		for c := cur.oldest; c != nil; c = cur.owed(c.newer) {
			if !yield(c) {
				return
			}
		}
	}
}
