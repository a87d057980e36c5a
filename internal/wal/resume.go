package wal

import (
	"context"
	"fmt"
	"slices"
)

// resumption is an attempt to resume the log.
type resumption struct {
	id   uint64 // of the segment
	done chan struct{}
	err  error // set before done is closed
}

func (r *resumption) end(err error) {
	r.err = err
	close(r.done)
}

// Resume makes a log writable that was not (ErrUnwritable): what is in doubt is written again, behind what was durable before,
// and then payloads are accepted. That needs no more room on the disk than these. After an error, of the disk mostly, the
// log is as it was; it may be called again, or a snapshot be made. It does nothing to a log that can be written.
//
// What is in doubt is written in a segment of its own, and as with any start of a log nothing is written there before the
// disk has forgotten what is behind the last durable batch of the segment that failed. So whatever a crash leaves on the way,
// each batch is there once or not at all, and in order.
func (l *Log) Resume(ctx context.Context) error {
	r, err := l.askToResume()
	if r == nil {
		return err
	}
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// askToResume puts a resumption into the queue; nil if there is nothing to be done, or it cannot be.
func (l *Log) askToResume() (*resumption, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return nil, ErrClosed
	case l.failure == nil:
		return nil, nil
	case l.snapshot != nil, l.resuming:
		return nil, ErrSnapshotRunning // It may have what would be written here, and must not have it twice.
	case l.doubt.lost > 0:
		return nil, ErrIncomplete
	}
	l.resuming = true
	// The number is given here, so that those of segments rise in the order of the queue.
	l.lastID++
	r := &resumption{id: l.lastID, done: make(chan struct{})}
	l.queue = append(l.queue, &batchInQueue{resume: r, done: make(chan struct{})})
	l.boundary = nil
	l.filled.Signal()
	return r, nil
}

// resume is what the writing goroutine does of Resume. What a crash leaves behind is said line by line.
func (l *Log) resume(r *resumption) error {
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.resuming = false
	}()
	if err := l.forgetDoubt(); err != nil {
		return fmt.Errorf("cutting off what is in doubt: %w", err)
	}
	// Only what was durable is left, and it ends the log. What was in doubt is not there, and nobody was told that it is.
	segment := &rotation{id: r.id, done: make(chan struct{})}
	if l.rotate(segment); segment.err != nil {
		return segment.err
	}
	// An empty segment more, which begins where the log ends.
	for b := l.nextInDoubt(); b != nil; b = l.nextInDoubt() {
		// As any other: a torn tail, or the whole batch, and nothing behind it.
		if err := l.commit(b); err != nil {
			l.abandon()
			return err
		}
		l.mu.Lock()
		l.doubt.drop(1)
		l.mu.Unlock()
		l.committed(b)
	}
	return nil
}

// forgetDoubt removes from the disk what must not be there twice: what a failed write may have left in the segment that is written
// no more, and snapshots that have it as well. What is older than those is all there. The manifest says first that the log ends
// behind its last durable batch, and names none of those snapshots.
func (l *Log) forgetDoubt() error {
	l.mu.Lock()
	unsure := slices.Clone(l.doubt.unsure) // None is added while the log resumes.
	l.mu.Unlock()
	if len(unsure) == 0 && l.abandoned.segment == 0 {
		return nil
	}
	err := l.changeManifest(func(m *manifest) {
		if l.abandoned.segment != 0 {
			m.End = &logEnd{Segment: l.abandoned.segment, Offset: l.abandoned.offset, Next: l.number}
		}
	})
	if err != nil {
		return err
	}
	for _, path := range unsure {
		if err := removeIfThere(l.cfg.FS, path); err != nil {
			return err
		}
	}
	if len(unsure) > 0 {
		if err := l.cfg.FS.SyncDir(l.cfg.Dir); err != nil {
			return err
		}
	}
	l.mu.Lock()
	l.doubt.unsure = nil
	l.mu.Unlock()
	if l.abandoned.segment == 0 {
		return nil
	}
	cut := func(f File) error { return f.Truncate(l.abandoned.offset) }
	if err := changeSegment(l.cfg.FS, l.cfg.Dir, l.abandoned.segment, cut); err != nil {
		return err
	}
	l.abandoned = place{}
	return nil
}

// unsureOf notes a snapshot that may be durable or not.
func (l *Log) unsureOf(s *SnapshotWriter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.rotation.failure != nil {
		l.doubt.unsure = append(l.doubt.unsure, s.path)
	}
}

// nextInDoubt returns the next batch that is to be written again. Once there is none the log accepts payloads.
func (l *Log) nextInDoubt() *batchInQueue {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.doubt.batches) == 0 {
		l.failure = nil
		return nil
	}
	return l.doubt.batches[0]
}

// keepInDoubt keeps a payload that is noted while the log cannot be written. The caller holds mu.
func (l *Log) keepInDoubt(payload []byte) (wait func(context.Context) error, err error) {
	if l.doubt.bytes+lengthBytes+len(payload) > l.cfg.MaxQueuedBytes {
		l.doubt.lost++
		return nil, fmt.Errorf("%w: %d bytes are in doubt", ErrQueueFull, l.doubt.bytes)
	}
	b := &batchInQueue{frame: appendPayload(emptyBatch(nil), payload), count: 1, done: make(chan struct{})}
	b.inDoubt(l.failure)
	l.doubt.add(b)
	return b.wait, nil
}

// resolveDoubt is called after a snapshot. What it has is durable, and what was noted since is written next; unless some of that
// is lost, and then the log waits for another snapshot. The caller holds mu.
func (l *Log) resolveDoubt() {
	d := &l.doubt
	for _, b := range d.batches[:d.covered] {
		b.becameDurable()
	}
	d.drop(d.covered)
	d.lost -= d.coveredLost
	if d.lost > 0 {
		return
	}
	l.failure = nil
	if len(d.batches) > 0 {
		l.boundary = nil
	}
	l.queue = append(l.queue, d.batches...)
	l.doubt = doubt{}
	l.filled.Signal()
}

func (d *doubt) add(b *batchInQueue) {
	d.batches = append(d.batches, b)
	d.bytes += b.payloadBytes()
}

func (d *doubt) drop(n int) {
	for _, b := range d.batches[:n] {
		d.bytes -= b.payloadBytes()
	}
	d.batches = slices.Delete(d.batches, 0, n)
}
