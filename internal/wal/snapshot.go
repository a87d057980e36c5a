package wal

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
)

const (
	// snapshotBatchBytes is how much of a snapshot is written at once.
	snapshotBatchBytes = 256 << 10
	// snapshotSyncBytes is how much of a snapshot waits to be written by the system, so that the syncs of the log do not
	// wait behind a whole snapshot.
	snapshotSyncBytes = 4 << 20
)

// SnapshotWriter writes a snapshot. It is made by [Log.Rotate] or [CreateSnapshot]; one goroutine uses it.
type SnapshotWriter struct {
	log      *Log // nil for one that belongs to no log
	rotation *rotation
	fs       FS
	path     string // what it is going to be
	id       uint64

	// Of one that belongs to a log, guarded by its snapshotMu.
	file            File // nil before the first write and after the end
	head            header
	buf             []byte
	inBuf           int // payloads
	number          uint64
	offset, synced  int64
	payloads, bytes uint64
	ended           bool
	err             error // the first one; there is no snapshot without a part of it
}

// errSnapshotEnded means that a snapshot was committed or aborted before, or its log was closed.
var errSnapshotEnded = errors.New("the snapshot has ended")

// Rotate draws the line that a snapshot is taken at: it contains all that was appended before the call, and what is appended
// after it comes into a segment of its own. It does not wait for the disk, and so it is called under the lock that orders
// payloads; what the snapshot consists of is collected under the same lock, and then added without it while appends go
// on. The caller commits or aborts the snapshot; until then there is no other (ErrSnapshotRunning).
//
// A log that could not be written (ErrUnwritable) accepts payloads again once a snapshot is committed that was begun after
// the failure, or after [Log.Resume].
func (l *Log) Rotate() (*SnapshotWriter, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return nil, ErrClosed
	case l.snapshot != nil, l.resuming:
		return nil, ErrSnapshotRunning
	}
	r := l.line()
	l.doubt.covered, l.doubt.coveredLost = len(l.doubt.batches), l.doubt.lost
	l.snapshot = &SnapshotWriter{
		log:      l,
		rotation: r,
		fs:       l.cfg.FS,
		path:     filepath.Join(l.cfg.Dir, snapshotName(r.id)),
		id:       r.id,
	}
	return l.snapshot, nil
}

// line returns a rotation that is done or on its way.
func (l *Log) line() *rotation {
	if b := l.boundary; b != nil {
		return &rotation{id: b.id, first: b.first, failure: l.failure, done: b.done}
	}
	l.lastID++
	r := &rotation{id: l.lastID, failure: l.failure, done: make(chan struct{})}
	l.enqueue(r)
	return r
}

// CreateSnapshot begins a snapshot that belongs to no log, to be carried elsewhere; see [ReadSnapshot]. What is at the path
// is replaced when it is committed, and not before. A nil file system is that of the operating system.
func CreateSnapshot(fsys FS, path string) (*SnapshotWriter, error) {
	if fsys == nil {
		fsys = osFS{}
	}
	s := &SnapshotWriter{fs: fsys, path: path}
	if err := s.create(); err != nil {
		return nil, fmt.Errorf("creating the snapshot: %w", err)
	}
	return s, nil
}

// ReadSnapshot calls sink with every payload of a snapshot that was made by [CreateSnapshot]. What sink was called with
// counts only if there is no error. A [*DamagedError] means that the snapshot is not whole.
func ReadSnapshot(ctx context.Context, fsys FS, path string, sink func(payload []byte) error) error {
	if fsys == nil {
		fsys = osFS{}
	}
	r, err := openReader(fsys, path, snapshotMagic, 0)
	defer func() { r.close() }()
	if err == nil {
		_, err = readSnapshot(ctx, r, Replay{Snapshot: sink})
	}
	if err != nil {
		return fmt.Errorf("reading the snapshot: %w", err)
	}
	return nil
}

// Add adds a copy of the payload, of any size below 4 GiB: [Config].MaxPayloadBytes is for what is appended, and must not
// keep what became of it out of a snapshot. After an error the snapshot can only be aborted.
func (s *SnapshotWriter) Add(payload []byte) error {
	defer s.lock()()
	if s.err == nil {
		s.err = s.add(payload)
	}
	if s.err != nil {
		return fmt.Errorf("writing the snapshot: %w", s.err)
	}
	return nil
}

func (s *SnapshotWriter) add(payload []byte) error {
	if s.ended {
		return errSnapshotEnded
	}
	if int64(len(payload)) > maxBodyBytes-lengthBytes {
		return fmt.Errorf("%w: %d bytes", ErrTooLarge, len(payload))
	}
	if s.inBuf > 0 && len(s.buf)+lengthBytes+len(payload) > snapshotBatchBytes {
		if err := s.flush(); err != nil {
			return err
		}
	}
	if s.inBuf == 0 {
		s.buf = emptyBatch(s.buf)
	}
	s.buf = appendPayload(s.buf, payload)
	s.inBuf++
	s.payloads++
	s.bytes += uint64(len(payload))
	return nil
}

// Commit makes the snapshot durable and then removes what it replaces. An error means that it is not, or not for sure, and
// that nothing was removed: what was there before is still read. The snapshot has ended in any case. ctx is looked at while
// the disk is waited for, and not during the last steps.
func (s *SnapshotWriter) Commit(ctx context.Context) error {
	defer s.lock()()
	defer s.release()
	if s.err == nil {
		s.err = s.commit(ctx)
	}
	if s.err != nil {
		return fmt.Errorf("writing the snapshot: %w", s.err)
	}
	return nil
}

func (s *SnapshotWriter) commit(ctx context.Context) error {
	if s.ended {
		return errSnapshotEnded
	}
	next := uint64(1)
	if s.rotation != nil {
		// The segment that follows the snapshot must be there before it, with everything before durable.
		select {
		case <-s.rotation.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if s.rotation.err != nil {
			return s.rotation.err
		}
		next = s.rotation.first
	}
	if err := s.finish(next); err != nil {
		return err
	}
	// A crash from here on: a second file that says the same as the older snapshot and the log.
	if err := s.fs.Rename(s.path+temporarySuffix, s.path); err != nil {
		return err
	}
	if err := s.fs.SyncDir(filepath.Dir(s.path)); err != nil {
		// It may be lost at a power cut, so that what is older must stay.
		if s.log != nil {
			s.log.unsureOf(s)
		}
		return err
	}
	if s.log == nil {
		return nil
	}
	// A crash from here on: a snapshot that the manifest does not name, and that is removed.
	if err := s.log.nameSnapshot(s); err != nil {
		if !errors.Is(err, errMayBeThere) {
			return errors.Join(err, removeIfThere(s.fs, s.path)) // The disk may be full of it.
		}
		s.log.unsureOf(s) // The manifest on the disk may name it.
		return err
	}
	s.log.committedSnapshot(s)
	return nil
}

// nameSnapshot puts a durable snapshot into the manifest in place of what it replaces. What was lost before it is no part of
// the log any more.
func (l *Log) nameSnapshot(s *SnapshotWriter) error {
	l.mu.Lock()
	if l.boundary != nil && l.boundary.id == s.id {
		l.boundary = nil // What the manifest names is never replaced under its name.
	}
	l.mu.Unlock()
	return l.changeManifest(func(m *manifest) {
		m.Snapshot = &named{ID: s.id, Salt: s.head.salt}
		m.Segments = slices.DeleteFunc(m.Segments, func(n named) bool { return n.ID < s.id })
		m.Lossy = false
	})
}

// committedSnapshot notes that a snapshot is durable, and removes what it replaces.
func (l *Log) committedSnapshot(s *SnapshotWriter) {
	l.mu.Lock()
	if l.failure != nil && s.rotation.failure == l.failure {
		l.resolveDoubt()
	}
	for len(l.sizes) > 0 && l.sizes[0].id < s.id {
		l.sizes = l.sizes[1:]
	}
	l.snapshotBytes = s.offset
	l.mu.Unlock()
	err := l.removeBefore(s.id)
	l.mu.Lock()
	l.leftover = err
	l.mu.Unlock()
}

// removeBefore removes segments and snapshots of lower numbers, also those that earlier calls could not.
func (l *Log) removeBefore(id uint64) error {
	inv, err := list(l.cfg.FS, l.cfg.Dir)
	if err != nil {
		return err
	}
	var names []string
	for _, old := range inv.segments {
		if old < id {
			names = append(names, segmentName(old))
		}
	}
	for _, old := range inv.snapshots {
		if old < id {
			names = append(names, snapshotName(old))
		}
	}
	var errs []error
	for _, name := range names {
		if err := removeIfThere(l.cfg.FS, filepath.Join(l.cfg.Dir, name)); err != nil {
			errs = append(errs, fmt.Errorf("removing %q: %w", name, err))
		}
	}
	return errors.Join(append(errs, l.cfg.FS.SyncDir(l.cfg.Dir))...)
}

// Abort ends the snapshot without a trace. After Commit, and a second time, it does nothing.
func (s *SnapshotWriter) Abort() {
	defer s.lock()()
	s.release()
}

// lock keeps Close of the log from ending under a snapshot's hands.
func (s *SnapshotWriter) lock() (unlock func()) {
	if s.log == nil {
		return func() {}
	}
	s.log.snapshotMu.Lock()
	return s.log.snapshotMu.Unlock
}

// release ends the snapshot. What was not committed is removed.
func (s *SnapshotWriter) release() {
	if s.ended {
		return
	}
	s.ended = true
	s.buf = nil
	if s.file != nil {
		s.file.Close() //nolint:errcheck // It was synced and closed, or it is removed.
		s.file = nil
	}
	if err := s.fs.Remove(s.path + temporarySuffix); err != nil && !isMissing(err) && s.err == nil {
		s.err = err
	}
	if s.log == nil {
		return
	}
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	if s.log.snapshot == s {
		s.log.snapshot = nil
		s.log.doubt.covered, s.log.doubt.coveredLost = 0, 0
	}
}

// create makes the temporary file.
func (s *SnapshotWriter) create() error {
	f, err := createAnew(s.fs, s.path+temporarySuffix)
	if err != nil {
		return err
	}
	flags := uint32(0)
	if s.log != nil {
		flags = managed
	}
	s.file, s.head, s.offset = f, newHeader(snapshotMagic, s.id, 1, flags), headerBytes
	_, err = f.WriteAt(s.head.encode(), 0)
	return err
}

// flush writes the payloads that are in the buffer.
func (s *SnapshotWriter) flush() error {
	if s.inBuf == 0 {
		return nil
	}
	err := s.put(s.buf, payloads, s.inBuf)
	s.inBuf = 0
	if cap(s.buf) > 2*snapshotBatchBytes {
		s.buf = nil
	}
	return err
}

// put writes one batch.
func (s *SnapshotWriter) put(frame []byte, kind batchKind, count int) error {
	if s.file == nil {
		if err := s.create(); err != nil {
			return err
		}
	}
	s.number++
	s.head.seal(frame, s.number, kind, count)
	if _, err := s.file.WriteAt(frame, s.offset); err != nil {
		return err
	}
	s.offset += int64(len(frame))
	if s.offset-s.synced < snapshotSyncBytes {
		return nil
	}
	s.synced = s.offset
	return s.file.Sync()
}

// finish writes the end, without which the snapshot is none, and syncs the file.
func (s *SnapshotWriter) finish(next uint64) error {
	if err := s.flush(); err != nil {
		return err
	}
	if err := s.put(encodeEnd(snapshotEnd{payloads: s.payloads, bytes: s.bytes, next: next}), ending, 0); err != nil {
		return err
	}
	if err := s.file.Sync(); err != nil {
		return err
	}
	err := s.file.Close()
	s.file = nil
	return err
}
