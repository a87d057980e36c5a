package wal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
)

// Log is an append-only log, open for writing. It is made by [Open] and safe for concurrent use.
type Log struct {
	// Static after Open.
	cfg    Config
	lock   io.Closer
	fill   int64  // how far segments are filled ahead
	losses []Loss // those that nobody had acknowledged when it was opened

	// Owned by the writing goroutine, and by Open and Close while that does not run.
	segment *segment // the one that is written; nil while there is none that can be
	number  uint64   // of the next batch
	limit   int64    // where the next segment begins
	// abandoned is a segment that holds more than is durable, since a write of it failed, and the end of what is.
	abandoned place        // segment 0 for none
	prepare   func() error // what Open has to do before anything is written; nil once it is done
	tidy      func() error // what it removes after that; nil once that was tried

	// manifestMu guards the manifest, and is held while it is written. It is locked before mu.
	manifestMu      sync.Mutex
	manifest        *manifest // as it is on the disk; replaced whole
	manifestInDoubt bool      // an attempt to write it failed

	// mu guards what follows, and is never held while the disk is waited for.
	mu       sync.Mutex
	filled   *sync.Cond // signalled when something enters the queue and when the log is closed
	queue    []*batchInQueue
	queued   int      // bytes in the queue and on their way to the disk
	spares   [][]byte // buffers for batches
	failure  *failure
	doubt    doubt
	resuming bool      // Resume was called and has not ended
	boundary *rotation // to the segment that is written, while that is unused and nothing is queued; else nil
	lastID   uint64    // of all segments and snapshots
	sizes    []segmentSize
	snapshot *SnapshotWriter
	closed   bool
	counts   counts

	snapshotBytes int64
	leftover      error

	// snapshotMu is held during all work of a snapshot on the disk, so that Close can wait for it. It is locked before mu.
	snapshotMu sync.Mutex

	// stopped is closed when the writing goroutine has ended.
	stopped chan struct{}
}

// counts are sums since Open.
type counts struct{ batches, payloads, bytes uint64 }

// Status is a view of a log for metrics and for people.
type Status struct {
	// Failure is nil while the log can be written; else it wraps ErrUnwritable and why.
	Failure error
	// Leftover is why files that a snapshot made obsolete could not be removed; nil if they could. The next snapshot tries
	// again.
	Leftover error
	// Batches, Payloads and Bytes are what became durable since Open; bytes with their headers. A batch is one sync.
	Batches, Payloads, Bytes uint64
	// QueuedBytes is what was appended and is not durable.
	QueuedBytes int64
	// LogBytes is the size of all Segments, SnapshotBytes that of the snapshot before them.
	LogBytes, SnapshotBytes int64
	Segments                int
}

// doubt is what the log holds in memory while it cannot be written, in order: what was on its way to the disk then, and what was
// noted since. It is written again, unless a snapshot has it.
type doubt struct {
	batches []*batchInQueue
	bytes   int
	// lost counts what was noted and is not here, because there is no room for it.
	lost int
	// covered and coveredLost are as many of these as the snapshot has that is being written.
	covered, coveredLost int
	// unsure are the paths of snapshots that have a part of it, and that nobody knows to be durable or not.
	unsure []string
}

// failure is a write that went wrong. Two are told apart by their address.
type failure struct{ cause error }

// unwritable is the error for what comes after the failure.
func (f *failure) unwritable() error { return fmt.Errorf("%w: %w", ErrUnwritable, f.cause) }

// batchInQueue is a batch that waits to be written.
type batchInQueue struct {
	rotate *rotation // done before the batch is written; nil for none
	resume *resumption
	frame  []byte // with place for the header
	count  int
	done   chan struct{} // closed when the batch is durable, or in doubt
	failed atomic.Pointer[failure]
}

// wait returns when the batch is durable, in doubt, or ctx ends.
func (b *batchInQueue) wait(ctx context.Context) error {
	select {
	case <-b.done:
		return b.outcome()
	default:
	}
	select {
	case <-b.done:
		return b.outcome()
	case <-ctx.Done():
		return fmt.Errorf("waiting for the log: %w", context.Cause(ctx))
	}
}

func (b *batchInQueue) outcome() error {
	if f := b.failed.Load(); f != nil {
		return fmt.Errorf("%w: %w", ErrInDoubt, f.cause)
	}
	return nil
}

// Append puts a copy of the payload into the log, behind all that was appended before. It does not wait for the disk, and
// so it may be called under a lock that orders payloads.
//
// An error (ErrTooLarge, ErrQueueFull, ErrUnwritable, ErrClosed) means that nothing is in the log. The function that is
// returned waits until the payload is durable: nil says that it is, ErrInDoubt that its write failed, and an error of ctx
// that it ended first. It may be called any number of times, or never. What is in doubt is durable once the log can be written
// again.
func (l *Log) Append(payload []byte) (wait func(context.Context) error, err error) {
	if len(payload) > l.cfg.MaxPayloadBytes {
		return nil, fmt.Errorf("%w: %d bytes, and %d are allowed", ErrTooLarge, len(payload), l.cfg.MaxPayloadBytes)
	}
	size := lengthBytes + len(payload)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return nil, ErrClosed
	case l.failure != nil:
		return nil, l.failure.unwritable()
	case l.queued > 0 && l.queued+size > l.cfg.MaxQueuedBytes:
		return nil, fmt.Errorf("%w: %d bytes wait", ErrQueueFull, l.queued)
	}
	return l.add(payload), nil
}

// Note is Append for a payload that says what has happened already, and cannot be undone: it is accepted also while the log cannot
// be written, or its queue is full. Then it is in doubt at once, and comes into the log before all that is appended later.
func (l *Log) Note(payload []byte) (wait func(context.Context) error, err error) {
	if len(payload) > l.cfg.MaxPayloadBytes {
		return nil, fmt.Errorf("%w: %d bytes, and %d are allowed", ErrTooLarge, len(payload), l.cfg.MaxPayloadBytes)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return nil, ErrClosed
	case l.failure == nil:
		return l.add(payload), nil
	}
	return l.keepInDoubt(payload)
}

// add puts a payload into the queue.
func (l *Log) add(payload []byte) (wait func(context.Context) error) {
	size := lengthBytes + len(payload)
	b := l.waiting(size)
	b.frame = appendPayload(b.frame, payload)
	b.count++
	l.queued += size
	l.filled.Signal()
	return b.wait
}

// waiting returns the last batch of the queue, with room for as many bytes.
func (l *Log) waiting(size int) *batchInQueue {
	if n := len(l.queue); n > 0 {
		last := l.queue[n-1]
		// One that is written again is in doubt already, and what joined it would be so as well.
		if last.failed.Load() == nil && (last.count == 0 || len(last.frame)+size <= batchBytes) {
			return last
		}
	}
	return l.enqueue(nil)
}

// enqueue adds an empty batch to the queue.
func (l *Log) enqueue(r *rotation) *batchInQueue {
	var buf []byte
	if n := len(l.spares); n > 0 {
		buf, l.spares = l.spares[n-1], l.spares[:n-1]
	}
	b := &batchInQueue{rotate: r, frame: emptyBatch(buf), done: make(chan struct{})}
	l.queue = append(l.queue, b)
	l.boundary = nil
	l.filled.Signal()
	return b
}

// ShouldSnapshot reports whether it is time for a snapshot, of about that many bytes: the log is larger than 64 MiB and
// than twice the snapshot, so that it grows with what it holds and not with time; or it cannot be written, which a snapshot
// ends. It is false while one is running. How long to wait after one that failed is the caller's choice.
func (l *Log) ShouldSnapshot(liveBytes int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed, l.snapshot != nil:
		return false
	case l.failure != nil:
		return true
	}
	var cost int64
	for _, s := range l.sizes {
		cost += max(s.bytes, leastSegmentCost)
	}
	return cost > max(l.cfg.SnapshotFloorBytes, 2*liveBytes)
}

// Status returns how the log is.
func (l *Log) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Status{
		Leftover:      l.leftover,
		Batches:       l.counts.batches,
		Payloads:      l.counts.payloads,
		Bytes:         l.counts.bytes,
		QueuedBytes:   int64(l.queued),
		SnapshotBytes: l.snapshotBytes,
		Segments:      len(l.sizes),
	}
	if l.failure != nil {
		s.Failure = l.failure.unwritable()
	}
	for _, size := range l.sizes {
		s.LogBytes += size.bytes
	}
	return s
}

// Close writes what is queued, waits until that is done, aborts a snapshot that is running and gives up the ownership. The
// error is that of a log that could not be written, or of closing. Calls after the first wait for it and do nothing.
func (l *Log) Close() error {
	l.mu.Lock()
	again := l.closed
	l.closed = true
	l.filled.Signal()
	l.mu.Unlock()
	<-l.stopped
	l.snapshotMu.Lock()
	defer l.snapshotMu.Unlock()
	if again {
		return nil
	}
	if l.snapshot != nil {
		l.snapshot.release()
	}
	var errs []error
	if l.failure != nil {
		errs = append(errs, l.failure.unwritable())
	}
	if l.segment != nil {
		if l.failure == nil { // Otherwise a batch that failed may be there as well.
			l.noteEnd()
		}
		errs = append(errs, l.segment.file.Close())
	}
	if err := errors.Join(append(errs, l.lock.Close())...); err != nil {
		return fmt.Errorf("closing the log: %w", err)
	}
	return nil
}

// noteEnd notes where the log ends, so that a start knows what must be there. The log is as good without it. The fill
// behind its last batch stays, which shows that it was the last segment.
func (l *Log) noteEnd() {
	end := logEnd{Segment: l.segment.head.id, Offset: l.segment.end, Next: l.number}
	l.changeManifest(func(m *manifest) { m.End = &end }) //nolint:errcheck // See above.
}
