package spool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"pushrelay/internal/datadir"
	storagev1 "pushrelay/internal/gen/storage/v1"
	"pushrelay/internal/wal"
)

// A Place is where a spool is that no agent has at the moment.
type Place struct {
	// Dir is the directory of the journal.
	Dir string
	// Release is the program's, as in [Config].
	Release string
	// FS is the file system; nil means that of the operating system.
	FS wal.FS
}

// Repair makes a damaged journal one that an agent starts with; see [wal.Repair]. It is read like at a start, so that a
// repair without an error means that a start will have none. One of a newer release is left alone.
func Repair(ctx context.Context, at Place) (wal.Repaired, error) {
	cfg := wal.Config{Dir: at.Dir, Release: at.Release, FS: at.FS}
	err := wal.Scan(ctx, cfg, func(payload []byte) error {
		if len(payload) == 0 || storagev1.SpoolPayloadKind(payload[0]) != writerPayload {
			return nil
		}
		_, err := decodeWriter(payload[1:])
		if _, newer := errors.AsType[*datadir.NewerError](err); newer {
			return err
		}
		return nil
	})
	if err != nil {
		return wal.Repaired{}, fmt.Errorf("repairing the journal: %w", err)
	}
	return wal.Repair(ctx, cfg, examine)
}

// examine reads the journal into a spool of its own. Its payloads are about changes and relays one by one, so that nothing
// of it can contradict the rest.
func examine(read func(wal.Replay) (lossy bool, err error)) (wal.Content, error) {
	s := New(Config{Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	_, err := read((&replay{s: s, numbered: map[uint64]*entry{}}).replay())
	return wal.Content{}, err
}

// AcknowledgeLoss acknowledges what the spool has lost, also while an agent has it, and returns that; see
// [wal.Acknowledge].
func AcknowledgeLoss(at Place) ([]wal.Loss, error) {
	return wal.Acknowledge(wal.Config{Dir: at.Dir, FS: at.FS})
}
