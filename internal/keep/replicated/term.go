package replicated

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// maxAhead is how many changes may be decided that are not committed. What a leader decides while no majority takes it is bounded by that, beside the
// memory that pushes may take.
const maxAhead = 1 << 16

// stalledAfter is how long a transaction may take before nothing more is decided. What is decided by then is in doubt at worst.
const stalledAfter = 2 * time.Second

// A term is the time in which this member leads.
type term struct {
	// Static after construction.
	handing chan handing  // takes that the member is to hand over
	over    chan struct{} // closed when it leads no longer

	mu        sync.Mutex
	committed uint64        // guarded by mu; the position up to which changes are
	since     time.Time     // guarded by mu; when the transaction began that is under way; zero for none
	shut      bool          // guarded by mu; nothing is decided any more
	ended     bool          // guarded by mu; nothing is committed any more, either
	changed   chan struct{} // guarded by mu; closed and replaced when one of these changes
}

func newTerm(committed uint64) *term {
	return &term{handing: make(chan handing), over: make(chan struct{}), committed: committed, changed: make(chan struct{})}
}

var (
	errDeposed = errors.New("the relay leads the cluster no longer: whether the push is kept is not known here")
	errAhead   = errors.New("too many changes wait for a majority of the cluster: the push was not taken, push again")
)

// take says whether a change may be decided. The caller holds the store's lock.
func (t *term) take(position uint64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.shut:
		return ErrNotLeading
	case position-t.committed > maxAhead:
		return errAhead
	}
	if err := t.stalled(); err != nil {
		return fmt.Errorf("%w: the push was not taken, push again", err)
	}
	return nil
}

// stalled returns why nothing is decided while a transaction takes long. The caller holds mu.
func (t *term) stalled() error {
	if t.since.IsZero() || time.Since(t.since) < stalledAfter {
		return nil
	}
	return fmt.Errorf("no majority of the cluster has answered for %v", time.Since(t.since).Truncate(time.Second))
}

// failure returns why nothing can be changed, nil if it can.
func (t *term) failure() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.shut {
		return ErrNotLeading
	}
	return t.stalled()
}

// begin notes that a transaction is under way.
func (t *term) begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.since = time.Now()
}

// commit notes that changes are committed, and wakes those who wait for that.
func (t *term) commit(through uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.committed, t.since = through, time.Time{}
	t.wake()
}

// shutDown has nothing decided any more. What was decided can be committed.
func (t *term) shutDown() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.shut = true
}

// end ends the term: what is not committed is in doubt.
func (t *term) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.shut, t.ended = true, true
	t.wake()
}

func (t *term) wake() {
	close(t.changed)
	t.changed = make(chan struct{})
}

// wait waits until the change at that position is committed.
func (t *term) wait(ctx context.Context, position uint64) error {
	for {
		t.mu.Lock()
		committed, ended, changed := t.committed, t.ended, t.changed
		t.mu.Unlock()
		switch {
		case committed >= position:
			return nil
		case ended:
			return errDeposed
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
