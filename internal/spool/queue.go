package spool

// fillQueue puts every group in the queue that has something for the relay. The group whose next change is the oldest comes first.
func (cur *cursor) fillQueue() {
	for c := range cur.pendingChanges() {
		if g := c.group; !(g.busy | g.queued).has(cur.slot) {
			g.queued |= of(cur.slot)
			cur.ready = append(cur.ready, g)
		}
	}
	cur.notify()
}

// enqueue puts a group in the queue, unless it is there, or waits for something.
func (cur *cursor) enqueue(g *group) {
	if len(cur.feeds) == 0 || (g.queued | g.busy | g.held).has(cur.slot) || g.next(cur.slot) == nil {
		return
	}
	g.queued |= of(cur.slot)
	cur.ready = append(cur.ready, g)
	cur.notify()
}

// dequeue takes a group out of the queue, and returns the change of it that is next; nil if there is none.
func (cur *cursor) dequeue() *entry {
	for len(cur.ready) > 0 {
		g := cur.ready[0]
		cur.ready[0] = nil
		cur.ready = cur.ready[1:]
		g.queued &^= of(cur.slot)
		if c := g.next(cur.slot); c != nil {
			return c
		}
	}
	return nil
}

// clearQueue empties the queue, and lets no group come back to it by itself.
func (cur *cursor) clearQueue() {
	for g, timer := range cur.held {
		timer.Stop()
		g.held &^= of(cur.slot)
	}
	clear(cur.held)
	for _, g := range cur.ready {
		g.queued &^= of(cur.slot)
	}
	cur.ready = nil
}

func (cur *cursor) notify() {
	if len(cur.feeds) > 0 {
		cur.feeds[0].notify()
	}
}
