package keep

import (
	"context"
	"fmt"

	"pushrelay/internal/groupstore"
	"pushrelay/internal/wal"
)

// Repair makes a damaged log one that a relay starts with; see [wal.Repair]. The store is made of what is left, so that a
// repair without an error means that a start will have none. A log of a newer release is left alone.
func Repair(ctx context.Context, at Place) (wal.Repaired, error) {
	cfg := wal.Config{Dir: at.Dir, Release: at.Release, NoLock: at.NoLock, FS: at.FS, Progress: at.Progress}
	if err := checkWriters(ctx, cfg); err != nil {
		return wal.Repaired{}, fmt.Errorf("repairing the log: %w", err)
	}
	return wal.Repair(ctx, cfg, examine)
}

// keptNames is how many groups are named of which something is lost.
const keptNames = 1000

// examine reads the log into a store of its own.
func examine(read func(wal.Replay) (lossy bool, err error)) (wal.Content, error) {
	r := &reading{store: groupstore.New(groupstore.Config{})}
	lossy, err := read(r.replay())
	if err == nil {
		err = r.loaded()
	}
	if err != nil {
		return wal.Content{}, err
	}
	content := wal.Content{Lost: r.lost[:min(len(r.lost), keptNames)]}
	if r.mended != nil && !lossy {
		content.Contradiction = &ContradictionError{Cause: r.mended}
	}
	return content, nil
}

// AcknowledgeLoss takes note of what the store has lost, also while a relay has it, and returns that; see [wal.Acknowledge].
func AcknowledgeLoss(at Place) ([]wal.Loss, error) {
	return wal.Acknowledge(wal.Config{Dir: at.Dir, FS: at.FS})
}
