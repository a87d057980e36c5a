package wal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Replay is handed what a log holds. The payloads belong to the log: they must be neither kept nor changed. An error ends the
// reading, and Open returns it. A function that is nil is not called.
type Replay struct {
	// Snapshot is called with every payload of the newest snapshot, in the order in which they were added.
	Snapshot func(payload []byte) error
	// Appended is called with every payload that was appended after it, in the order of Append.
	Appended func(payload []byte) error
	// Missing is called, between the others, where a repair has found that something is missing.
	Missing func()
	// Newest returns when the payload that was handed over last was acknowledged, as far as it tells; for what is said of
	// losses.
	Newest func() time.Time
}

// Recovery says what [Open] found.
type Recovery struct {
	// Fresh means that the directory held no log.
	Fresh bool
	// Snapshot is the path of the snapshot that was read; empty if there was none.
	Snapshot string
	// SnapshotPayloads and Payloads count what was handed to Replay.Snapshot and to Replay.Appended.
	SnapshotPayloads, Payloads uint64
	// Batches counts those after the snapshot.
	Batches uint64
	// Bytes is what was read of all files.
	Bytes int64
	// CutOff is what was behind the last batch and was cut off; nil if there was nothing. If it may have been acknowledged,
	// Losses say so.
	CutOff *CutOff
	// SetAside are paths of snapshots that were damaged; an older one and a complete log made up for them.
	SetAside []string
	// GivenUp are batches that a repair found missing.
	GivenUp []Range
	// Lossy says that something of what was acknowledged is missing or may be, and that there was no snapshot since: what was
	// handed over may be about things that are not there.
	Lossy bool
	// Losses are all that nobody has acknowledged; see [Acknowledge].
	Losses []Loss
	// Failure is why the log is open but cannot be written (ErrUnwritable); nil if it can. See [Log.Resume].
	Failure error
}

// CutOff is a torn tail.
type CutOff struct {
	// File is the path of the segment, SavedAs that of the file that the bytes were saved in.
	File, SavedAs string
	// Offset is where the tail began, and Bytes its length.
	Offset, Bytes int64
	// Reason says what is wrong with it.
	Reason string
	// InDoubt says that it may have been acknowledged. Otherwise it is proven that it was not.
	InDoubt bool
}

// Attrs are what a log says of it.
func (c *CutOff) Attrs() []any {
	return []any{
		slog.String("file", c.File), slog.Int64("offset", c.Offset), slog.Int64("bytes", c.Bytes),
		slog.String("saved_as", c.SavedAs), slog.String("reason", c.Reason),
	}
}

// Open locks a log, hands all that it holds to replay and makes it ready for more. The caller closes it.
//
// Damage is a [*DamagedError], a later version a [*VersionError], another owner a [*LockedError]; then nothing was changed,
// and what replay was called with is worth nothing. A log that can be read but not written, because the disk is full,
// is opened all the same, and Recovery.Failure says so; a fresh one is refused.
func Open(ctx context.Context, cfg Config, replay Replay) (*Log, Recovery, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, Recovery{}, fmt.Errorf("opening the log: %w", err)
	}
	lock, err := own(cfg)
	if err != nil {
		return nil, Recovery{}, fmt.Errorf("opening the log: %w", err)
	}
	l, recovery, err := recoverLog(ctx, cfg, replay)
	if err != nil {
		return nil, Recovery{}, fmt.Errorf("opening the log: %w", errors.Join(err, lock.Close()))
	}
	l.lock = lock
	go l.write() // Close waits for it.
	return l, recovery, nil
}

// own makes the directory and locks it.
func own(cfg Config) (io.Closer, error) {
	if err := cfg.FS.MakeDir(cfg.Dir); err != nil {
		return nil, fmt.Errorf("creating its directory: %w", err)
	}
	if cfg.NoLock {
		return io.NopCloser(nil), nil
	}
	lock, err := cfg.FS.Lock(filepath.Join(cfg.Dir, lockName))
	if err != nil {
		return nil, fmt.Errorf("locking: %w", err)
	}
	return lock, nil
}

// recoverLog reads the log and prepares the next segment.
func recoverLog(ctx context.Context, cfg Config, replay Replay) (*Log, Recovery, error) {
	f, err := find(ctx, cfg, replay)
	if err != nil {
		return nil, Recovery{}, err
	}
	l := newLog(cfg, f)
	p := &preparation{fs: cfg.FS, dir: cfg.Dir, release: cfg.Release, found: f}
	l.manifest = p.plan()
	recovery := p.report()
	l.losses = l.manifest.Losses
	recovery.Lossy, recovery.Losses = l.manifest.Lossy, l.losses
	recovery.Fresh = f.fresh()
	recovery.Bytes = f.progress.done
	if err := l.begin(p); err != nil {
		if recovery.Fresh {
			return nil, Recovery{}, err
		}
		recovery.Failure = l.failure.unwritable()
	}
	return l, recovery, nil
}

// found is what a log turns out to be.
type found struct {
	inventory inventory
	manifest  *manifest // nil for a log without one
	walk      *walk
	damaged   []uint64 // snapshots that others made up for; 0 is none
	progress  *progress
}

func (f *found) fresh() bool {
	return f.manifest == nil && len(f.inventory.segments) == 0 && len(f.inventory.snapshots) == 0
}

// find reads a log and changes nothing. Damage is a [*DamagedError].
func find(ctx context.Context, cfg Config, replay Replay) (*found, error) {
	inv, err := list(cfg.FS, cfg.Dir)
	if err != nil {
		return nil, err
	}
	if err := inv.interrupted(cfg.FS, cfg.Dir); err != nil {
		return nil, err
	}
	m, err := inv.govern(cfg.FS, cfg.Dir)
	if err != nil {
		return nil, err
	}
	f := &found{manifest: m}
	if f.inventory, err = inv.named(cfg.FS, cfg.Dir, m); err != nil {
		return nil, err
	}
	if f.progress, err = newProgress(cfg, f.inventory); err != nil {
		return nil, err
	}
	var start uint64
	if start, f.damaged, err = choose(ctx, cfg, f); err != nil {
		return nil, err
	}
	f.walk = &walk{fs: cfg.FS, dir: cfg.Dir, manifest: m, sink: replay, read: f.progress.add}
	if err := f.walk.run(ctx, f.inventory, start); err != nil {
		return nil, err
	}
	f.progress.finish()
	return f, nil
}

// choose finds the newest snapshot that can be read, 0 if there is none. An older one than the newest is as good only if
// the log from it on is whole; otherwise the damage of the newest is the error. The damaged ones are returned.
func choose(ctx context.Context, cfg Config, f *found) (start uint64, damaged []uint64, err error) {
	var newest error
	inv := f.inventory
	candidates := slices.Backward(append([]uint64{0}, inv.snapshots...))
	for _, id := range candidates {
		if newest == nil && (id == 0 || id == inv.oldest()) {
			return id, nil, nil // There is nothing to fall back to, so that reading it once is enough.
		}
		w := &walk{fs: cfg.FS, dir: cfg.Dir, manifest: f.manifest, read: f.progress.extra}
		var err error
		if newest == nil {
			w.start = id
			err = w.snapshot(ctx)
		} else {
			err = w.run(ctx, inv, id)
		}
		if err == nil {
			return id, damaged, nil
		}
		if _, ok := errors.AsType[*DamagedError](err); !ok {
			return 0, nil, err
		}
		if newest == nil {
			newest = err
		}
		damaged = append(damaged, id)
	}
	return 0, nil, newest
}

// oldest is the oldest snapshot, if nothing that is older could make up for it; else 0.
func (inv inventory) oldest() uint64 {
	if len(inv.snapshots) == 0 || len(inv.segments) > 0 && inv.segments[0] < inv.snapshots[0] {
		return 0
	}
	return inv.snapshots[0]
}

// newLog makes a log that continues what was read. It has no segment yet.
func newLog(cfg Config, f *found) *Log {
	w := f.walk
	l := &Log{
		cfg:           cfg,
		fill:          min(growBytes, cfg.SegmentBytes),
		number:        w.next,
		lastID:        f.inventory.highest,
		snapshotBytes: w.snapshotBytes,
		stopped:       make(chan struct{}),
	}
	l.filled = sync.NewCond(&l.mu)
	for _, s := range w.segments {
		if !w.isUnused(s.id) {
			l.sizes = append(l.sizes, s)
		}
	}
	return l
}

// begin prepares the log as it was found and makes the first segment. After an error the log cannot be written, and the first
// rotation tries again.
func (l *Log) begin(p *preparation) error {
	l.prepare = func() error { return p.run(l) }
	l.tidy = p.removeObsolete
	l.lastID++
	r := &rotation{id: l.lastID, done: make(chan struct{})}
	if l.rotate(r); r.err != nil {
		l.failure = &failure{cause: r.err}
		return r.err
	}
	l.boundary = r
	return nil
}

// progress tells Config.Progress how far the reading is.
type progress struct {
	report      func(done, total int64)
	done, total int64
}

func newProgress(cfg Config, inv inventory) (*progress, error) {
	p := &progress{report: cfg.Progress}
	add := func(name string) error {
		f, err := cfg.FS.Open(filepath.Join(cfg.Dir, name))
		if err != nil {
			return fmt.Errorf("opening: %w", err)
		}
		defer f.Close() //nolint:errcheck // Nothing was written.
		size, err := f.Size()
		p.total += size
		return err
	}
	for _, id := range inv.segments {
		if err := add(segmentName(id)); err != nil {
			return nil, err
		}
	}
	for _, id := range inv.snapshots {
		if err := add(snapshotName(id)); err != nil && !isMissing(err) {
			return nil, err
		}
	}
	return p, nil
}

func (p *progress) add(bytes int64) {
	p.done += bytes
	p.total = max(p.total, p.done)
	p.report(p.done, p.total)
}

// extra is for what is read twice.
func (p *progress) extra(bytes int64) {
	p.total += bytes
	p.add(bytes)
}

func (p *progress) finish() {
	p.total = p.done
	p.report(p.done, p.total)
}
