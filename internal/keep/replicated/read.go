package replicated

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"pushrelay/internal/monotonic"
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

	heard atomic.Pointer[time.Time] // when the last read began that was answered
	mute  atomic.Bool               // the last one was not
	head  atomic.Pointer[head]      // what it told
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

// run reads whenever somebody asks, and now and then to know whether a majority is there, until ctx ends.
func (r *reader) run(ctx context.Context, every time.Duration, p *progress) {
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
		if present == nil {
			present = &round{done: make(chan struct{})}
		}
		began := time.Now()
		if present.revision, present.err = r.ask(ctx); present.err == nil {
			r.heard.Store(&began)
			r.note(present.revision, began, p)
		}
		r.mute.Store(present.err != nil)
		close(present.done)
	}
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

var (
	errBehind   = errors.New("this relay's copy of the cluster's store is behind")
	errCutOff   = errors.New("this relay hears no majority of the cluster, and others may show more than it has: ask another one")
	errElecting = fmt.Errorf("the cluster's etcd has had no leader for %s, and what its last one has shown may be more than this relay has: ask again", electionPatience)
)

// Others are the other members, as far as they can be asked.
type Others struct {
	// Position is that of the last change that any of them shows. What the leader writes to be heard is none: the last of that may never be told to all.
	Position uint64
	// MayElect says that enough of them answer for the engine to have a leader soon; MayDecide that those which do not answer, or hear a majority, may be one without
	// this member.
	MayElect, MayDecide bool
}

// electionPatience bounds the wait for the engine's next leader.
const electionPatience = 5 * time.Second

// CatchUp waits until the copy has all that was committed when it was called, so that whoever looks at one relay after another never sees anything go back
// (C9). It costs one read of etcd, shared with others. While the engine has no leader and will have one soon it waits for that: what its last leader has shown may be
// known to nobody else until then. Without a majority it waits until the copy has all that other members show. An error means that the copy is not as far in time,
// that others may have a majority which does not hear of this member, or that the engine's election takes too long.
func (k *Keep) CatchUp(ctx context.Context) error {
	began := time.Now()
	for {
		err := k.catchUp(ctx)
		switch {
		case err == nil || ctx.Err() != nil || errors.Is(err, errBehind):
			return err
		case k.cfg.Others == nil && k.hearsQuorum():
			return err
		case k.cfg.Others == nil, time.Since(k.LastHeard()) > k.cfg.MaxStaleness:
			return nil // for whoever looks all the same
		}
		asking, cancel := context.WithTimeout(ctx, catchUpWithin)
		others := k.cfg.Others(asking)
		cancel()
		switch {
		case others.MayElect && time.Since(began) < electionPatience:
			monotonic.Sleep(ctx, again/4)
		case others.MayElect:
			return errElecting
		case others.MayDecide:
			return errCutOff
		default:
			return k.shows(ctx, others.Position)
		}
	}
}

var errNoLeader = errors.New("the cluster's etcd has no leader at present")

// catchUp waits until the copy has what a majority has.
func (k *Keep) catchUp(ctx context.Context) error {
	if k.cfg.HasQuorum != nil && !k.cfg.HasQuorum() {
		return errNoLeader
	}
	reading, cancel := context.WithTimeout(ctx, catchUpWithin)
	defer cancel()
	revision, err := k.reader.read(reading)
	if err != nil {
		return err
	}
	return k.reaches(ctx, revision)
}

// reaches waits until the copy has a revision.
func (k *Keep) reaches(ctx context.Context, revision int64) error {
	ctx, cancel := context.WithTimeoutCause(ctx, catchUpWithin, errBehind)
	defer cancel()
	return k.progress.wait(ctx, func(has int64, _ uint64) bool { return has >= revision })
}

// shows waits until the copy shows a change.
func (k *Keep) shows(ctx context.Context, position uint64) error {
	ctx, cancel := context.WithTimeoutCause(ctx, catchUpWithin, errBehind)
	defer cancel()
	return k.WaitFor(ctx, position)
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
