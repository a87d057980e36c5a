package replicated

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// catchUpWithin is how long somebody who looks waits for what is committed.
const catchUpWithin = 250 * time.Millisecond

// A reader asks a majority how far the records are. All who ask while one read is under way are answered by the next: what was committed before they asked
// may be missing from one that had begun.
type reader struct {
	// Static after construction.
	client *clientv3.Client
	key    string
	asked  chan struct{} // says that a round is wanted; one slot

	mu   sync.Mutex
	next *round // guarded by mu; the one that has not begun; nil if nobody asks
	// alone is when it was last known that nobody had decided anything without this member since the last read that was answered; guarded by mu.
	alone time.Time

	heard atomic.Pointer[time.Time] // when the last read began that was answered
	mute  atomic.Bool               // the last one was not
	told  atomic.Int64              // the highest revision that any told
	head  atomic.Pointer[head]      // how far the records were known to be when the copy was last as far
}

// A round is one read.
type round struct {
	done     chan struct{} // closed when it is over
	revision int64         // static then; of the last transaction that was committed
	err      error         // static then
}

// A head is how far the records were at some time.
type head struct {
	revision int64
	at       time.Time // when it was first known that they were as far
}

func newReader(client *clientv3.Client, key string) *reader {
	r := &reader{client: client, key: key, asked: make(chan struct{}, 1)}
	r.heard.Store(&time.Time{})
	r.head.Store(&head{})
	return r
}

// read returns the revision of the last transaction that was committed when it was called.
func (r *reader) read(ctx context.Context) (int64, error) {
	r.mu.Lock()
	if r.next == nil {
		r.next = &round{done: make(chan struct{})}
	}
	mine := r.next
	r.mu.Unlock()
	select {
	case r.asked <- struct{}{}:
	default: // it is known already
	}
	select {
	case <-mine.done:
		return mine.revision, mine.err
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// run reads whenever somebody asks, and now and then to know whether a majority is there, until ctx ends. If nobody had asked and no majority answers, missed is called.
func (r *reader) run(ctx context.Context, every time.Duration, p *progress, missed func(context.Context)) {
	pulse := time.NewTicker(every)
	defer pulse.Stop()
	for {
		select {
		case <-r.asked:
		case <-pulse.C:
		case <-ctx.Done():
			return
		}
		r.mu.Lock()
		present := r.next
		r.next = nil
		r.mu.Unlock()
		wanted := present != nil
		if !wanted {
			present = &round{done: make(chan struct{})}
		}
		began := time.Now()
		if present.revision, present.err = r.ask(ctx); present.err == nil {
			r.heard.Store(&began)
			r.told.Store(max(r.told.Load(), present.revision))
			r.note(present.revision, began, p)
		}
		r.mute.Store(present.err != nil)
		close(present.done)
		if present.err != nil && !wanted {
			missed(ctx)
		}
	}
}

// staysAlone notes that nobody could decide anything without this member at some time since began. It says whether nobody can have either since a majority was last
// heard: that was known all the time, with no gap longer than within.
func (r *reader) staysAlone(began time.Time, within time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := *r.heard.Load()
	if r.alone.After(last) {
		last = r.alone
	}
	if time.Since(last) > within {
		return false
	}
	r.alone = began
	return true
}

func (r *reader) ask(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, catchUpWithin)
	defer cancel()
	resp, err := r.client.Get(ctx, r.key, clientv3.WithKeysOnly())
	if err != nil || len(resp.Kvs) == 0 {
		return 0, err
	}
	return resp.Kvs[0].ModRevision, nil
}

// note takes note of how far the records are, unless the copy is not even where they were known to be before.
func (r *reader) note(revision int64, at time.Time, p *progress) {
	if has, _, _ := p.now(); r.head.Load().revision <= has {
		r.head.Store(&head{revision, at})
	}
}

// WaitFor waits until the copy shows the change at that position (C7).
func (k *Keep) WaitFor(ctx context.Context, position uint64) error {
	return k.progress.wait(ctx, func(_ int64, has uint64) bool { return has >= position })
}

// hearsQuorum says whether a majority of etcd's members was heard a while ago.
func (k *Keep) hearsQuorum() bool {
	return (k.cfg.HasQuorum == nil || k.cfg.HasQuorum()) && time.Since(k.LastHeard()) < k.cfg.Silence
}

// LastHeard returns when a majority of etcd's members was last heard: the zero time for never.
func (k *Keep) LastHeard() time.Time { return *k.reader.heard.Load() }

// Lag returns for how long the copy has lacked something of which it is known that it is committed; 0 if it lacks nothing.
func (k *Keep) Lag() time.Duration {
	h := k.reader.head.Load()
	if has, _, _ := k.progress.now(); has >= h.revision {
		return 0
	}
	return time.Since(h.at)
}
