package spool

import (
	"context"
	"fmt"
	"time"
)

// Snapshot makes a snapshot now.
func (s *Spool) Snapshot(ctx context.Context) error { return s.snapshot(ctx) }

// Beside calls f, and returns for how long at most it kept others from the lock.
func (s *Spool) Beside(f func()) time.Duration {
	done, worst := make(chan struct{}), make(chan time.Duration)
	go func() {
		var most time.Duration
		for {
			start := time.Now()
			s.mu.Lock()
			most = max(most, time.Since(start))
			s.mu.Unlock()
			select {
			case <-done:
				worst <- most
				return
			case <-time.After(100 * time.Microsecond):
			}
		}
	}()
	f()
	close(done)
	return <-worst
}

// Check counts everything anew and compares it with what the spool has counted.
func (s *Spool) Check() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var bytes int64
	changes, entries := 0, 0
	pending, oldest := map[int]int{}, map[int]*entry{}
	for _, g := range s.groups.byKey {
		bytes += groupBytes(g.key)
		for _, c := range g.changes {
			changes++
			bytes += c.bytes()
			if c.undecided&s.groups.reachable != 0 {
				entries++
			}
			if c.anew&^c.undecided != 0 {
				return fmt.Errorf("change %d is to be sent anew to %b and waits for %b", c.sequence, c.anew, c.undecided)
			}
			c.undecided.each(func(slot int) {
				pending[slot]++
				if oldest[slot] == nil || c.sequence < oldest[slot].sequence {
					oldest[slot] = c
				}
			})
		}
	}
	if bytes != s.groups.bytes || changes != s.groups.order.count || entries != s.groups.entries {
		return fmt.Errorf("%d bytes, %d changes, %d entries are counted, there are %d, %d, %d", s.groups.bytes, s.groups.order.count, s.groups.entries, bytes, changes, entries)
	}
	last := uint64(0)
	for c := range s.groups.order.all() {
		changes--
		if c.sequence <= last {
			return fmt.Errorf("change %d comes after %d", c.sequence, last)
		}
		last = c.sequence
	}
	if changes != 0 {
		return fmt.Errorf("%d changes have no place in the order", changes)
	}
	for cur := range s.cursors.all() {
		if cur.pending != pending[cur.slot] || cur.oldest != oldest[cur.slot] {
			return fmt.Errorf("relay %s: %d are counted and there are %d; the oldest is %v, not %v", cur.name(), cur.pending, pending[cur.slot], oldest[cur.slot], cur.oldest)
		}
	}
	return nil
}
