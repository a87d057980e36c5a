package keep

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
	"pushrelay/internal/series"
	"pushrelay/internal/wal"
)

// Config says where a store is kept and what it is made with.
type Config struct {
	// Dir is the directory of the log and of nothing else. It is created if it is missing. Required.
	Dir string
	// Store is what the store is made with; its Appender is set here.
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

// Disk keeps a store on the disk: what is in its log, and synced, is committed. It is made by [NewDisk].
type Disk struct {
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

var _ Keep = (*Disk)(nil)

// NewDisk returns an empty store that is not recovered yet. Nothing is opened.
func NewDisk(cfg Config) *Disk {
	d := &Disk{cfg: cfg, failed: make(chan struct{}, 1)}
	cfg.Store.Appender = d
	d.store = groupstore.New(cfg.Store)
	d.metrics = newMetrics(cfg.Registerer, d)
	return d
}

// Store is for [Keep].
func (d *Disk) Store() *groupstore.Store { return d.store }

// Recover takes possession of the directory and fills the store with what it holds. An error is one of [wal.Open], or tells that a record is not understood; nothing on the disk
// was changed then. A log that can be read and not written is no error: see [Disk.Failure].
//
// What a crash has left behind, and what is lost, is logged.
func (d *Disk) Recover(ctx context.Context) error {
	start := time.Now()
	r := &reading{store: d.store}
	w, found, err := wal.Open(ctx, d.walConfig(), r.replay())
	if err != nil {
		return err
	}
	if err := d.accept(r, found); err != nil {
		return errors.Join(err, w.Close())
	}
	d.marks, d.fresh = r.marks, found.Fresh
	d.wal.Store(w)
	d.report(found, time.Since(start))
	if err := d.sign(ctx, found); err != nil {
		return err
	}
	if d.marks.id == (ID{}) || found.Lossy {
		if err := d.identify(ctx, found); err != nil {
			return err
		}
	}
	return d.beginEpoch(ctx, found)
}

func (d *Disk) walConfig() wal.Config {
	return wal.Config{
		Dir: d.cfg.Dir, Release: d.cfg.Release, MaxPayloadBytes: maxRecordBytes + maxRecordBytes/4, NoLock: d.cfg.NoLock, FS: d.cfg.FS, Progress: d.cfg.Progress,
		SegmentBytes: d.cfg.SegmentBytes, SnapshotFloorBytes: d.cfg.SnapshotFloorBytes, ObserveSync: d.metrics.synced,
	}
}

// accept ends the reading. That changes were missing is accepted only where it is known.
func (d *Disk) accept(r *reading, found wal.Recovery) error {
	if err := r.loaded(); err != nil {
		return err
	}
	if r.mended != nil && !found.Lossy {
		return &ContradictionError{Cause: r.mended}
	}
	return nil
}

// beginEpoch notes the start in the log, so that a copy of the store that is put back later is known from it. Changes come after it.
func (d *Disk) beginEpoch(ctx context.Context, found wal.Recovery) error {
	next := history.Epoch{Began: d.store.Position()}
	rand.Read(next.ID[:])
	return d.markStart(ctx, found, func(m *marks) ([]byte, error) {
		m.takeEpoch(next, nil)
		return encodeMark(epochMark(next, nil))
	})
}

// A noting lets a mark hold, and returns it as it is written.
type noting func(m *marks) (payload []byte, err error)

// markStart is mark for what a start of the log says, also of one that cannot be written: the mark comes into it as soon as it can,
// before any change.
func (d *Disk) markStart(ctx context.Context, found wal.Recovery, m noting) error {
	wait, err := d.put(m, d.wal.Load().Note)
	if err != nil || found.Failure != nil {
		return err
	}
	return wait(ctx)
}

// History is for [Keep].
func (d *Disk) History() history.History {
	position := d.store.Position() // The store's lock is taken before this one.
	d.mu.Lock()
	defer d.mu.Unlock()
	return history.History{Epochs: d.marks.epochs, Position: position}
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
func (d *Disk) identify(ctx context.Context, found wal.Recovery) error {
	var id ID
	rand.Read(id[:])
	d.mu.Lock()
	d.marks.takeID(id)
	d.mu.Unlock()
	if found.Lossy {
		d.store.DropMarks()
	}
	if found.Lossy && found.Failure == nil {
		if err := d.snapshot(ctx); err != nil {
			d.cfg.Logger.Warn("no snapshot of the store could be made: what is lost will be told again at the next start", slog.Any("err", err))
		}
		return nil
	}
	return d.markStart(ctx, found, func(*marks) ([]byte, error) { return encodeMark(idMark(id)) })
}

// ID is for [Keep].
func (d *Disk) ID() ID {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.marks.id
}

// Fresh says whether the directory held no store.
func (d *Disk) Fresh() bool { return d.fresh }

// Imported is for [Keep].
func (d *Disk) Imported(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.ContainsFunc(d.marks.imports, func(i Import) bool { return i.Name == name })
}

// NoteImport is for [Keep].
func (d *Disk) NoteImport(ctx context.Context, i Import) error {
	wait, err := d.put(func(m *marks) ([]byte, error) {
		m.imports = append(m.imports, i)
		return encodeMark(importMark(&i))
	}, d.wal.Load().Append)
	if err != nil {
		return err
	}
	return wait(ctx)
}

// put puts a mark into the log in one of its two ways, and lets it hold.
func (d *Disk) put(note noting, appending func([]byte) (func(context.Context) error, error)) (wait func(context.Context) error, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	next := d.marks
	next.imports = slices.Clip(next.imports)
	payload, err := note(&next)
	if err != nil {
		return nil, err
	}
	// Under the lock, so that a snapshot has either the mark or the place in the log before it.
	if wait, err = appending(payload); err != nil {
		return nil, fmt.Errorf("noting in the log: %w", err)
	}
	d.marks = next
	return wait, nil
}

// errRecovering means that the store was changed too early, which is a fault of the program.
var errRecovering = errors.New("the store is being recovered")

// Append puts a change into the log. See [groupstore.Appender].
func (d *Disk) Append(position uint64, e groupstore.Effect) (wait func(context.Context) error, err error) {
	w := d.wal.Load()
	if w == nil {
		return nil, errRecovering
	}
	payload, err := d.encode(position, e)
	if err != nil {
		return nil, err
	}
	wait, err = w.Append(payload)
	if errors.Is(err, wal.ErrUnwritable) {
		select {
		case d.failed <- struct{}{}:
		default: // Run knows already
		}
	}
	return wait, err
}

// encode returns the payload of a change, valid until the next call.
func (d *Disk) encode(position uint64, e groupstore.Effect) ([]byte, error) {
	if cap(d.record) > keptBufferBytes {
		d.record, d.compressed = nil, nil
	}
	d.record = groupstore.AppendEffect(d.record[:0], position, e)
	if len(d.record) > maxRecordBytes {
		return nil, fmt.Errorf("%w: %d bytes", wal.ErrTooLarge, len(d.record))
	}
	if len(d.record) < compressFrom {
		return d.record, nil
	}
	room := 1 + s2.MaxEncodedLen(len(d.record))
	d.compressed = slices.Grow(d.compressed[:0], room)[:room]
	d.compressed[0] = compressedPayload
	return d.compressed[:1+len(s2.Encode(d.compressed[1:], d.record))], nil
}

// keptBufferBytes is the largest buffer that is kept for the next change.
const keptBufferBytes = 1 << 20

// Failure is for [Keep].
func (d *Disk) Failure() error {
	w := d.wal.Load()
	if w == nil {
		return errRecovering
	}
	return w.Status().Failure
}

// Losses is for [Keep].
func (d *Disk) Losses() []wal.Loss {
	w := d.wal.Load()
	if w == nil {
		return nil
	}
	return w.Losses()
}

// Close is for [Keep].
func (d *Disk) Close() error {
	if w := d.wal.Load(); w != nil {
		return w.Close()
	}
	return nil
}

// toldNames is how many names a line of the log tells.
const toldNames = 10

// reservedNames returns names of families that are hidden since nobody may push them any more, and how many such families there are.
func reservedNames(store *groupstore.Store, stats groupstore.Stats) (names []string, families int) {
	if stats.Quarantined == 0 {
		return nil, 0
	}
	for g := range store.Snapshot().Groups() {
		for f := range g.Families() {
			if f.Quarantined() == "" || !series.IsReserved(f.Name()) {
				continue
			}
			families++
			if len(names) < toldNames && !slices.Contains(names, f.Name()) {
				names = append(names, f.Name())
			}
		}
	}
	return names, families
}

// report logs what recovery found.
func (d *Disk) report(found wal.Recovery, took time.Duration) {
	stats := d.store.Stats()
	d.cfg.Logger.Info("store recovered", slog.Int("groups", stats.Groups), slog.Int("series", stats.Series),
		slog.Int64("bytes", found.Bytes), slog.Duration("duration", took))
	if names, families := reservedNames(d.store, stats); families > 0 {
		d.cfg.Logger.Warn("metric families are kept and not exposed, because their names are the relay's own by now: push them under other names",
			slog.Int("families", families), slog.Any("names", names))
	}
	if c := found.CutOff; c != nil {
		if c.InDoubt {
			d.cfg.Logger.Error("what is behind the last sound change of the log was cut off, and may have been acknowledged", c.Attrs()...)
		} else {
			d.cfg.Logger.Warn("a torn tail of the log was cut off: its writing was interrupted, and nothing in it was acknowledged", c.Attrs()...)
		}
	}
	for _, path := range found.SetAside {
		d.cfg.Logger.Warn("a damaged snapshot was set aside; an older one and the log made up for it", slog.String("file", path))
	}
	if found.Lossy {
		d.cfg.Logger.Error("a part of the log is lost: the store goes on without it, under a new id, so that agents send again what they have")
	}
	for _, loss := range found.Losses {
		d.cfg.Logger.Error("the store has lost something, or may have, and nobody has taken note of it yet (relay-server acknowledge-loss)",
			slog.String("lost", loss.String()), slog.String("reason", loss.Reason), slog.Time("found", loss.Found))
	}
	if found.Failure != nil {
		d.cfg.Logger.Error("the store cannot be changed: its log can be read and not written", slog.Any("err", found.Failure))
	}
}
