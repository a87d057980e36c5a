package keep

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"pushrelay/internal/wal"
)

// Run makes snapshots when it is time for one, and takes up the log again after the disk failed, until ctx ends.
func (d *Disk) Run(ctx context.Context) error {
	keeper := wal.Keeper{
		Log: d.wal.Load(), LiveBytes: d.store.CutBytes, Snapshot: d.snapshot, Failed: d.failed,
		Unwritable: func(err error) {
			d.cfg.Logger.Error("the store cannot be changed until its log can be written again: pushes are answered 503", slog.Any("err", err))
		},
		Writable: func() { d.cfg.Logger.Info("the store can be changed again") },
		SnapshotFailed: func(err error, retryIn time.Duration) {
			d.metrics.snapshotFailures.Inc()
			d.cfg.Logger.Warn("no snapshot of the store could be made; trying again", slog.Any("err", err), slog.Duration("after", retryIn))
		},
	}
	keeper.Run(ctx)
	return nil
}

// snapshot writes the whole store beside the log, and lets the log begin after it. Pushes go on meanwhile: under the
// store's lock only pointers are copied.
func (d *Disk) snapshot(ctx context.Context) error {
	start := time.Now()
	var w *wal.SnapshotWriter
	var held marks
	cut, err := d.store.Cut(func() (err error) {
		d.mu.Lock()
		defer d.mu.Unlock()
		held = d.marks
		held.writer = self(d.cfg.Release)
		w, err = d.wal.Load().Rotate()
		return err
	})
	if err != nil {
		return fmt.Errorf("beginning a snapshot: %w", err)
	}
	defer w.Abort() // does nothing after Commit
	size, err := writeStore(ctx, w, held, cut)
	if err != nil {
		return err
	}
	if err := w.Commit(ctx); err != nil {
		return err
	}
	d.metrics.snapshotDone(time.Now())
	d.cfg.Logger.Info("snapshot of the store written", slog.Int64("bytes", size), slog.Duration("duration", time.Since(start)))
	return nil
}
