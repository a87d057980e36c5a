package wal

import (
	"context"
	"time"
)

const (
	// lookEvery is how often it is seen whether the log has grown enough for a snapshot.
	lookEvery = time.Second
	// retryLeast and retryMost bound the wait after a snapshot that failed.
	retryLeast = time.Second
	retryMost  = 10 * time.Second
)

// A Keeper makes snapshots of what a log holds when it is time for one, and makes it writable again after the disk failed: by
// [Log.Resume] where that can be, else by a snapshot.
// All fields are required.
type Keeper struct {
	Log *Log
	// LiveBytes is about the size of a snapshot.
	LiveBytes func() int64
	// Snapshot writes one.
	Snapshot func(ctx context.Context) error
	// Failed says that an append was refused because the log cannot be written; one slot is enough.
	Failed <-chan struct{}
	// Unwritable and Writable are told when the log becomes so; SnapshotFailed when a snapshot could not be made, and when
	// it is tried again.
	Unwritable     func(err error)
	Writable       func()
	SnapshotFailed func(err error, retryIn time.Duration)
}

// Run keeps the log until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	var resumeAt, retryAt time.Time
	retry := retryLeast
	writable := k.Log.Status().Failure == nil
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.Failed:
		case <-look.C:
		}
		writable = k.note(writable)
		if !writable && !time.Now().Before(resumeAt) {
			resumeAt = time.Now().Add(lookEvery)
			if err := k.Log.Resume(ctx); err == nil {
				writable = k.note(writable)
			} // Why it failed is mostly what made the log unwritable, and that is told.
		}
		if !k.Log.ShouldSnapshot(k.LiveBytes()) || time.Now().Before(retryAt) {
			continue
		}
		err := k.Snapshot(ctx)
		if err == nil {
			retry = retryLeast
			writable = k.note(writable)
			continue
		}
		if ctx.Err() != nil {
			return
		}
		k.SnapshotFailed(err, retry)
		retryAt = time.Now().Add(retry)
		retry = min(2*retry, retryMost)
	}
}

// note tells when the log becomes unwritable and when it is writable again, and returns whether it is.
func (k *Keeper) note(writable bool) bool {
	failure := k.Log.Status().Failure
	switch {
	case failure != nil && writable:
		k.Unwritable(failure)
	case failure == nil && !writable:
		k.Writable()
	}
	return failure == nil
}
