package wal

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"time"
)

// write is the writing goroutine: it dequeues batches, in order and one at a time, until the log is closed and
// the queue is empty.
func (l *Log) write() {
	defer close(l.stopped)
	for b := l.next(); b != nil; b = l.next() {
		if b.resume != nil {
			b.resume.end(l.resume(b.resume))
			continue
		}
		if b.rotate != nil {
			l.rotate(b.rotate)
			l.rotated(b)
		}
		if b.count == 0 {
			continue
		}
		if err := l.commit(b); err != nil {
			l.fail(b, err)
			continue
		}
		l.committed(b)
		// Those who were just answered have their next payloads at once: let them come first, so that they share the next
		// sync instead of every other one. Measured with 16 appenders: 15 payloads to a sync instead of 8.
		runtime.Gosched()
	}
}

// next waits for the next batch; nil at the end.
func (l *Log) next() *batchInQueue {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.queue) == 0 {
		if l.closed {
			return nil
		}
		l.filled.Wait()
	}
	b := l.queue[0]
	l.queue = slices.Delete(l.queue, 0, 1)
	return b
}

// commit makes a batch durable. What a crash leaves behind is said line by line.
func (l *Log) commit(b *batchInQueue) error {
	if l.segment.end > headerBytes && l.segment.end+int64(len(b.frame)) > l.limit {
		// A segment without batches at most. Everything before this batch is durable, as the new segment's header says.
		l.roll()
	}
	l.segment.head.seal(b.frame, l.number, payloads, b.count)
	// Nothing of the batch, or any of its blocks in any order: a torn tail, because no batch follows.
	if err := l.segment.write(b.frame); err != nil {
		return fmt.Errorf("writing batch %d: %w", l.number, err)
	}
	began := time.Now()
	if err := l.segment.file.Sync(); err != nil {
		return fmt.Errorf("syncing batch %d: %w", l.number, err)
	}
	l.cfg.ObserveSync(time.Since(began))
	// From here on the batch is there for good, and only now the next one may be written and this one be answered.
	l.number++
	l.segment.durable = l.segment.end
	return nil
}

// committed tells those who wait that the batch is durable.
func (l *Log) committed(b *batchInQueue) {
	l.mu.Lock()
	if b.failed.Load() == nil {
		l.queued -= b.payloadBytes()
	}
	l.sizes[len(l.sizes)-1].bytes = l.segment.end
	l.counts.batches++
	l.counts.payloads += uint64(b.count)
	l.counts.bytes += uint64(len(b.frame))
	if cap(b.frame) <= keptBufferBytes && len(l.spares) < keptBuffers {
		l.spares = append(l.spares, b.frame)
	}
	b.frame = nil
	b.becameDurable()
	l.mu.Unlock()
}

// becameDurable says that the batch is durable. The caller holds Log.mu.
func (b *batchInQueue) becameDurable() {
	if b.failed.Swap(nil) == nil {
		close(b.done)
	}
}

// inDoubt says that the batch may be durable or not. The caller holds Log.mu.
func (b *batchInQueue) inDoubt(f *failure) {
	if b.failed.Swap(f) == nil {
		close(b.done)
	}
}

func (b *batchInQueue) payloadBytes() int { return len(b.frame) - batchHeaderBytes }

// fail abandons the segment: after an error, nothing is known about what of it is on the disk, and a second sync would
// prove nothing. What is in the queue was promised an order behind the batch that failed, so that it is in doubt as well. All of
// it is kept, to be written again; see [Log.Resume].
func (l *Log) fail(b *batchInQueue, cause error) {
	l.abandon()
	f := &failure{cause: cause}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failure = f
	waited := append([]*batchInQueue{b}, l.queue...)
	l.queue, l.queued = nil, 0
	for _, b := range waited {
		if r := b.rotate; r != nil && !r.isDone() {
			r.end(0, fmt.Errorf("beginning a segment: %w: %w", ErrUnwritable, cause))
		}
		if b.count > 0 {
			l.doubt.add(b)
		}
		b.inDoubt(f)
	}
}

// abandon gives up the segment that is written.
func (l *Log) abandon() {
	l.abandoned = place{segment: l.segment.head.id, offset: l.segment.durable, end: l.segment.durable}
	l.segment.file.Close() //nolint:errcheck // It failed already.
	l.segment = nil
}

// rotation is the step to a new segment.
type rotation struct {
	id      uint64   // of the segment
	failure *failure // that of the log when it was asked for; nil for none
	done    chan struct{}

	// Set before done is closed.
	first uint64 // the number of the segment's first batch
	err   error
}

func (r *rotation) end(first uint64, err error) {
	r.first, r.err = first, err
	close(r.done)
}

func (r *rotation) isDone() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// rotate makes the segment and goes on in it. After an error everything is as it was.
func (l *Log) rotate(r *rotation) {
	if l.prepare != nil {
		if err := l.prepare(); err != nil {
			r.end(0, err)
			return
		}
		l.prepare = nil
	}
	flags := managed
	if r.failure != nil {
		// What could not be written is in the snapshot only for which this segment is made.
		flags |= needsSnapshot
	}
	made, err := createSegment(l.cfg.FS, l.cfg.Dir, newHeader(segmentMagic, r.id, l.number, flags), l.fillOfNext())
	if err != nil {
		r.end(0, fmt.Errorf("beginning a segment: %w", err))
		return
	}
	if err := l.name(made); err != nil {
		made.file.Close() //nolint:errcheck // Nothing was written.
		if !errors.Is(err, errMayBeThere) {
			err = errors.Join(err, removeIfThere(l.cfg.FS, filepath.Join(l.cfg.Dir, segmentName(r.id))))
		} // Else the manifest on the disk may name it, so that the file must stay. It is empty, and means nothing.
		r.end(0, fmt.Errorf("beginning a segment: %w", err))
		return
	}
	if l.segment != nil {
		// The fill at its end is of no use any more, and no batch depends on its removal.
		l.segment.retire() //nolint:errcheck // All batches in it are durable.
	}
	l.segment = made
	l.limit = l.cfg.SegmentBytes
	if made.fill < l.fill {
		l.limit = min(l.limit, headerBytes+l.fill) // The next one may be filled ahead again.
	}
	l.mu.Lock()
	l.sizes = append(l.sizes, segmentSize{id: r.id, bytes: made.end})
	l.mu.Unlock()
	r.end(l.number, nil)
	if l.tidy != nil {
		err := l.tidy()
		l.mu.Lock()
		l.leftover = err
		l.mu.Unlock()
		l.tidy = nil
	}
}

// fillOfNext returns how far the next segment is to be filled ahead: not at all after the disk failed. It may be full, and the manifest and what is in doubt need what room
// there is.
func (l *Log) fillOfNext() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failure != nil {
		return 0
	}
	return l.fill
}

// name puts a new segment into the manifest.
func (l *Log) name(made *segment) error {
	return l.changeManifest(func(m *manifest) {
		m.Segments = append(m.Segments, nameOf(made.head, made.fill))
		m.End = nil
	})
}

// changeManifest writes the manifest with a change. After an error it counts as unchanged, whatever is on the disk.
func (l *Log) changeManifest(change func(*manifest)) error {
	l.manifestMu.Lock()
	defer l.manifestMu.Unlock()
	if l.manifestInDoubt { // What a failed attempt left behind must not get the name of the next one.
		if err := l.cfg.FS.SyncDir(l.cfg.Dir); err != nil {
			return fmt.Errorf("syncing the directory: %w", err)
		}
	}
	m := l.manifest.clone()
	change(m)
	l.manifestInDoubt = true
	if err := m.write(l.cfg.FS, l.cfg.Dir, l.cfg.Release); err != nil {
		return err
	}
	l.manifestInDoubt = false
	l.manifest = m
	return nil
}

// rotated notes that nothing is in the segment yet, so that the next snapshot needs no other.
func (l *Log) rotated(b *batchInQueue) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b.count == 0 && b.rotate.err == nil && len(l.queue) == 0 {
		l.boundary = b.rotate
	}
}

// roll begins the next segment because this one is full. If that fails this one goes on, and some batches later it is
// tried again. If a snapshot will rotate anyway, its segment has its number already, and one made now would get a higher
// one.
func (l *Log) roll() {
	l.mu.Lock()
	if slices.ContainsFunc(l.queue, func(b *batchInQueue) bool { return b.rotate != nil }) {
		l.mu.Unlock()
		return
	}
	l.lastID++
	r := &rotation{id: l.lastID, done: make(chan struct{})}
	l.mu.Unlock()
	if l.rotate(r); r.err != nil {
		l.limit = l.segment.end + l.cfg.SegmentBytes/4
	}
}
