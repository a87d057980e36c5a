package storelog

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/client_golang/prometheus"

	"pushrelay/internal/groupstore"
	"pushrelay/internal/history"
	"pushrelay/internal/wal"
)

// Config says where a store is kept and what it is made with.
type Config struct {
	// Dir is the directory of the log and of nothing else. It is created if it is missing. Required.
	Dir string
	// Store is what the store is made with; its Log is set here.
	Store groupstore.Config
	// Release is written into the log, for people who meet it with another one.
	Release string
	// NoLock does without the lock on the directory; see [wal.Config].
	NoLock bool
	// FS is the file system; nil means that of the operating system.
	FS wal.FS
	// SegmentBytes is the size of the files that the log consists of; 0 means 64 MiB.
	SegmentBytes int64
	// SnapshotFloorBytes is the size of the log below which no snapshot is made; 0 means 64 MiB.
	SnapshotFloorBytes int64
	// Progress is called now and then during recovery, with the bytes read and a total; nil is allowed.
	Progress func(done, total int64)
	// Logger is required.
	Logger *slog.Logger
	// Registerer takes the metrics of the log. Required.
	Registerer prometheus.Registerer
}

// Log is a grouping store with the log that keeps it. It is made by [New] and can be written once [Log.Recover] has
// returned. It is safe for concurrent use, apart from what is said of the single functions.
type Log struct {
	// Static after New.
	cfg     Config
	store   *groupstore.Store
	metrics *metrics
	failed  chan struct{} // says to Run that the log cannot be written; one slot

	wal   atomic.Pointer[wal.Log] // nil until recovered
	fresh bool                    // written before that

	// record and compressed are of the change that is being appended. They are owned by whoever is in Append, that is by the
	// store's lock.
	record, compressed []byte

	mu    sync.Mutex // guards marks
	marks marks
}

// New returns an empty store that is not recovered yet, and may be neither changed nor shown. Nothing is opened.
func New(cfg Config) *Log {
	l := &Log{cfg: cfg, failed: make(chan struct{}, 1)}
	cfg.Store.Log = l
	l.store = groupstore.New(cfg.Store)
	l.metrics = newMetrics(cfg.Registerer, l)
	return l
}

// Store returns the store. It is the same one for life.
func (l *Log) Store() *groupstore.Store { return l.store }

// Recover takes possession of the directory and fills the store with what it holds. It must be called once, before anything
// else is done with the store. An error is one of [wal.Open], or tells that a record is not understood; nothing on the disk
// was changed then. A log that can be read and not written is no error: see [Log.Failure].
//
// What a crash has left behind, and what is lost, is logged.
func (l *Log) Recover(ctx context.Context) error {
	start := time.Now()
	r := &reading{store: l.store}
	w, found, err := wal.Open(ctx, l.walConfig(), r.replay())
	if err != nil {
		return err
	}
	if err := l.accept(r, found); err != nil {
		return errors.Join(err, w.Close())
	}
	l.marks, l.fresh = r.marks, found.Fresh
	l.wal.Store(w)
	l.report(found, time.Since(start))
	if err := l.sign(ctx, found); err != nil {
		return err
	}
	if l.marks.id == (ID{}) || found.Lossy {
		if err := l.identify(ctx, found); err != nil {
			return err
		}
	}
	return l.beginEpoch(ctx, found)
}

func (l *Log) walConfig() wal.Config {
	return wal.Config{
		Dir: l.cfg.Dir, Release: l.cfg.Release, MaxPayloadBytes: maxRecordBytes + maxRecordBytes/4, NoLock: l.cfg.NoLock, FS: l.cfg.FS, Progress: l.cfg.Progress,
		SegmentBytes: l.cfg.SegmentBytes, SnapshotFloorBytes: l.cfg.SnapshotFloorBytes, ObserveSync: l.metrics.synced,
	}
}

// accept ends the reading. That changes were missing is accepted only where it is known.
func (l *Log) accept(r *reading, found wal.Recovery) error {
	if err := r.loaded(); err != nil {
		return err
	}
	if r.mended != nil && !found.Lossy {
		return &ContradictionError{Cause: r.mended}
	}
	return nil
}

// beginEpoch notes the start in the log, so that a copy of the store that is put back later is known from it. Changes come after it.
func (l *Log) beginEpoch(ctx context.Context, found wal.Recovery) error {
	next := history.Epoch{Began: l.store.Position()}
	rand.Read(next.ID[:])
	return l.markStart(ctx, found, epochMark(next))
}

// markStart is mark for what a start of the log says, also of one that cannot be written: the mark comes into it as soon as it can,
// before any change.
func (l *Log) markStart(ctx context.Context, found wal.Recovery, m mark) error {
	wait, err := l.put(m, l.wal.Load().Note)
	if err != nil || found.Failure != nil {
		return err
	}
	return wait(ctx)
}

// History returns where the store has been. It is valid once the store is recovered.
func (l *Log) History() history.History {
	position := l.store.Position() // The store's lock is taken before this one.
	l.mu.Lock()
	defer l.mu.Unlock()
	return history.History{Epochs: l.marks.epochs, Position: position}
}

// A ContradictionError means that the log holds changes that cannot follow one another, although nothing of it is damaged:
// something that was between them is not there. Nothing was changed; see [Repair].
type ContradictionError struct{ Cause error }

// Error says what the contradiction is.
func (e *ContradictionError) Error() string { return "the log contradicts itself: " + e.Cause.Error() }

// Unwrap returns the cause.
func (e *ContradictionError) Unwrap() error { return e.Cause }

// identify gives the store an ID: it is new, or it has lost something, and then agents must not take it for the one that they
// knew. They send again what they have, and nothing of that may be taken for decided because a later change of the group is
// still there. What was given up stays so for as long as there is no snapshot after it.
func (l *Log) identify(ctx context.Context, found wal.Recovery) error {
	var id ID
	rand.Read(id[:])
	l.mu.Lock()
	l.marks.id, l.marks.epochs = id, nil
	l.mu.Unlock()
	if found.Lossy {
		l.store.DropMarks()
	}
	if found.Lossy && found.Failure == nil {
		if err := l.snapshot(ctx); err != nil {
			l.cfg.Logger.Warn("no snapshot of the store could be made: what is lost will be told again at the next start", slog.Any("err", err))
		}
		return nil
	}
	return l.markStart(ctx, found, mark{StoreID: id.String()})
}

// ID returns what identifies the store. It is valid once the store is recovered.
func (l *Log) ID() ID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.marks.id
}

// Fresh reports whether the directory held no store. It is valid once the store is recovered.
func (l *Log) Fresh() bool { return l.fresh }

// Imported says whether the file of that name was taken over, now or in an earlier life.
func (l *Log) Imported(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.marks.imports, func(i Import) bool { return i.Name == name })
}

// NoteImport makes it durable that a file was taken over. The changes of which that consisted are durable by then as well.
func (l *Log) NoteImport(ctx context.Context, i Import) error { return l.mark(ctx, mark{Import: &i}) }

// mark appends a mark and waits until it is durable.
func (l *Log) mark(ctx context.Context, m mark) error {
	wait, err := l.put(m, l.wal.Load().Append)
	if err != nil {
		return err
	}
	return wait(ctx)
}

// put puts a mark into the log in one of its two ways, and lets it hold.
func (l *Log) put(m mark, appending func([]byte) (func(context.Context) error, error)) (wait func(context.Context) error, err error) {
	payload, err := m.payload()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	// Under the lock, so that a snapshot has either the mark or the place in the log before it.
	wait, err = appending(payload)
	if err == nil {
		err = l.marks.take(payload[1:])
	}
	if err != nil {
		return nil, fmt.Errorf("noting in the log: %w", err)
	}
	return wait, nil
}

// errRecovering means that the store was changed too early, which is a fault of the program.
var errRecovering = errors.New("the store is being recovered")

// Append takes a change of the store. See [groupstore.Log].
func (l *Log) Append(position uint64, e groupstore.Effect) (wait func(context.Context) error, err error) {
	w := l.wal.Load()
	if w == nil {
		return nil, errRecovering
	}
	payload, err := l.encode(position, e)
	if err != nil {
		return nil, err
	}
	wait, err = w.Append(payload)
	if errors.Is(err, wal.ErrUnwritable) {
		select {
		case l.failed <- struct{}{}:
		default: // Run knows already
		}
	}
	return wait, err
}

// encode returns the payload of a change, valid until the next call.
func (l *Log) encode(position uint64, e groupstore.Effect) ([]byte, error) {
	if cap(l.record) > keptBufferBytes {
		l.record, l.compressed = nil, nil
	}
	l.record = groupstore.AppendEffect(append(l.record[:0], storePayload), position, e)
	if len(l.record) > maxRecordBytes {
		return nil, fmt.Errorf("%w: %d bytes", wal.ErrTooLarge, len(l.record))
	}
	if len(l.record) < compressFrom {
		return l.record, nil
	}
	room := 1 + s2.MaxEncodedLen(len(l.record)-1)
	l.compressed = slices.Grow(l.compressed[:0], room)[:room]
	l.compressed[0] = compressedPayload
	return l.compressed[:1+len(s2.Encode(l.compressed[1:], l.record[1:]))], nil
}

// keptBufferBytes is the largest buffer that is kept for the next change.
const keptBufferBytes = 1 << 20

// Failure returns why the store cannot be changed, nil if it can.
func (l *Log) Failure() error {
	w := l.wal.Load()
	if w == nil {
		return errRecovering
	}
	return w.Status().Failure
}

// Losses returns what the store has lost, or may have, and nobody has taken note of.
func (l *Log) Losses() []wal.Loss {
	w := l.wal.Load()
	if w == nil {
		return nil
	}
	return w.Losses()
}

// Close makes durable what is not yet and gives up the directory. Run must have returned. It does nothing before the
// store was recovered.
func (l *Log) Close() error {
	if w := l.wal.Load(); w != nil {
		return w.Close()
	}
	return nil
}

// report logs what recovery found.
func (l *Log) report(found wal.Recovery, took time.Duration) {
	stats := l.store.Stats()
	l.cfg.Logger.Info("store recovered", slog.Int("groups", stats.Groups), slog.Int("series", stats.Series),
		slog.Int64("bytes", found.Bytes), slog.Duration("duration", took))
	if c := found.CutOff; c != nil {
		if c.InDoubt {
			l.cfg.Logger.Error("what is behind the last sound change of the log was cut off, and may have been acknowledged", c.Attrs()...)
		} else {
			l.cfg.Logger.Warn("a torn tail of the log was cut off: its writing was interrupted, and nothing in it was acknowledged", c.Attrs()...)
		}
	}
	for _, path := range found.SetAside {
		l.cfg.Logger.Warn("a damaged snapshot was set aside; an older one and the log made up for it", slog.String("file", path))
	}
	if found.Lossy {
		l.cfg.Logger.Error("a part of the log is lost: the store goes on without it, under a new id, so that agents send again what they have")
	}
	for _, loss := range found.Losses {
		l.cfg.Logger.Error("the store has lost something, or may have, and nobody has taken note of it yet (relay-server acknowledge-loss)",
			slog.String("lost", loss.String()), slog.String("reason", loss.Reason), slog.Time("found", loss.Found))
	}
	if found.Failure != nil {
		l.cfg.Logger.Error("the store cannot be changed: its log can be read and not written", slog.Any("err", found.Failure))
	}
}
