package storelog

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"pushrelay/internal/wal"
)

const (
	// lookEvery is how often it is seen whether the log has grown enough for a snapshot.
	lookEvery = time.Second
	// retryLeast and retryMost bound the wait after a snapshot that failed. The longest is what a store may stay unwritable
	// after the disk is well again.
	retryLeast = time.Second
	retryMost  = 10 * time.Second
)

// Run makes snapshots when it is time for one, and takes up the log again after the disk failed, until ctx ends. It runs
// once, after Recover.
func (l *Log) Run(ctx context.Context) error {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	var retryAt time.Time
	retry := retryLeast
	writable := l.Failure() == nil
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.failed:
		case <-look.C:
		}
		writable = l.noteFailure(writable)
		if !l.wal.Load().ShouldSnapshot(l.store.CutBytes()) || time.Now().Before(retryAt) {
			continue
		}
		err := l.snapshot(ctx)
		if err == nil {
			retry = retryLeast
			writable = l.noteFailure(writable)
			continue
		}
		if ctx.Err() != nil {
			return nil
		}
		l.metrics.snapshotFailures.Inc()
		l.cfg.Logger.Warn("no snapshot of the store could be made; trying again", slog.Any("err", err), slog.Duration("after", retry))
		retryAt = time.Now().Add(retry)
		retry = min(2*retry, retryMost)
	}
}

// noteFailure logs when the log becomes unwritable and when it is writable again, and returns whether it is.
func (l *Log) noteFailure(writable bool) bool {
	failure := l.Failure()
	switch {
	case failure != nil && writable:
		l.cfg.Logger.Error("the store cannot be changed until its log can be written again: pushes are answered 503", slog.Any("err", failure))
	case failure == nil && !writable:
		l.cfg.Logger.Info("the store can be changed again")
	}
	return failure == nil
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
