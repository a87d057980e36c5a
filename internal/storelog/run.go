package storelog

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"pushrelay/internal/wal"
)

// Run makes snapshots when it is time for one, and takes up the log again after the disk failed, until ctx ends. It runs
// once, after Recover.
func (l *Log) Run(ctx context.Context) error {
	keeper := wal.Keeper{
		Log: l.wal.Load(), LiveBytes: l.store.CutBytes, Snapshot: l.snapshot, Failed: l.failed,
		Unwritable: func(err error) {
			l.cfg.Logger.Error("the store cannot be changed until its log can be written again: pushes are answered 503", slog.Any("err", err))
		},
		Writable: func() { l.cfg.Logger.Info("the store can be changed again") },
		SnapshotFailed: func(err error, retryIn time.Duration) {
			l.metrics.snapshotFailures.Inc()
			l.cfg.Logger.Warn("no snapshot of the store could be made; trying again", slog.Any("err", err), slog.Duration("after", retryIn))
		},
	}
	keeper.Run(ctx)
	return nil
}

// snapshot writes the whole store beside the log, and lets the log begin after it. Pushes go on meanwhile: under the
// store's lock only pointers are copied.
func (l *Log) snapshot(ctx context.Context) error {
	start := time.Now()
	var w *wal.SnapshotWriter
	var held marks
	cut, err := l.store.Cut(func() (err error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		held = l.marks
		held.writer = self(l.cfg.Release)
		w, err = l.wal.Load().Rotate()
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
	l.metrics.snapshotDone(time.Now())
	l.cfg.Logger.Info("snapshot of the store written", slog.Int64("bytes", size), slog.Duration("duration", time.Since(start)))
	return nil
}
