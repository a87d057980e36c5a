package replicated

import (
	"context"
	"sync"
)

// A progress is how far the copy is: what was written up to there is shown. It only rises.
type progress struct {
	mu       sync.Mutex
	revision int64         // guarded by mu; of the last transaction that was looked at: what was complete by then is shown
	position uint64        // guarded by mu; of the last change that is shown
	changed  chan struct{} // guarded by mu; closed when one of these rises; nil if nobody waits for that
}

// reach notes how far the copy is.
func (p *progress) reach(revision int64, position uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.revision, p.position = max(p.revision, revision), max(p.position, position)
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}

// now returns how far the copy is, and what is closed when it is farther.
func (p *progress) now() (revision int64, position uint64, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.changed == nil {
		p.changed = make(chan struct{})
	}
	return p.revision, p.position, p.changed
}

// wait waits until the copy is as far as somebody wants it.
func (p *progress) wait(ctx context.Context, far func(revision int64, position uint64) bool) error {
	for {
		revision, position, changed := p.now()
		if far(revision, position) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
