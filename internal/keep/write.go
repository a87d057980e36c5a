package keep

import (
	"context"

	"pushrelay/internal/groupstore"
	"pushrelay/internal/wal"
)

// writeStore writes marks and a cut of the store into a snapshot, and returns how many bytes they were.
func writeStore(ctx context.Context, w *wal.SnapshotWriter, m marks, cut *groupstore.Cut) (size int64, err error) {
	payloads, err := m.payloads()
	if err != nil {
		return 0, err
	}
	add := func(payload []byte) error {
		size += int64(len(payload))
		return w.Add(payload)
	}
	for _, payload := range payloads {
		if err := add(payload); err != nil {
			return size, err
		}
	}
	for record := range cut.Records() {
		if ctx.Err() != nil {
			return size, context.Cause(ctx)
		}
		if err := add(record); err != nil {
			return size, err
		}
	}
	return size, nil
}
