package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/version"
	"golang.org/x/sync/errgroup"

	"pushrelay/internal/datadir"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/keep"
	"pushrelay/internal/wal"
)

// storeDir is where the store's log is in a data dir.
func storeDir(dataDir string) string { return filepath.Join(dataDir, "store") }

// durability is how a relay's store lives: in the data dir, or in memory only.
type durability struct {
	// static after newDurability
	keep.Keep
	dataDir    string // empty in memory only
	usedBefore bool   // some relay has run on the data dir before; seen before anything is made in it
	handover   handover
	logger     *slog.Logger
}

// newKeep makes the store of a relay alone, with a log that is not read yet, or without one in memory only.
func newKeep(dataDir string, opts *Options, cfg groupstore.Config, reg prometheus.Registerer) keep.Keep {
	if dataDir == "" {
		return keep.NewMemory(cfg, version.Version)
	}
	return keep.NewDisk(keep.Config{
		Dir: storeDir(dataDir), Store: cfg, Release: version.Version, NoLock: opts.DataDirNoLock, Progress: opts.progress("recovering the store"),
		Logger: opts.Logger.With(slog.String("component", "store")), Registerer: reg,
	})
}

// newDurability returns how a store lives that is kept so.
func newDurability(dataDir string, opts *Options, k keep.Keep, reg prometheus.Registerer) *durability {
	d := &durability{Keep: k, dataDir: dataDir, usedBefore: wasUsed(dataDir), logger: opts.Logger}
	d.handover = newHandover(opts, d.Keep, reg)
	return d
}

// recover fills the store with what the data dir has, and with what a Pushgateway has left.
func (d *durability) recover(ctx context.Context) error {
	if d.dataDir != "" {
		keep.RemoveLeftovers(d.dataDir) // of backups that were written there
	}
	if err := d.Recover(ctx); err != nil {
		return explainStoreError(d.dataDir, err)
	}
	if d.usedBefore && d.Fresh() {
		d.logger.Warn("the store is missing from a data dir that was in use: the relay begins with an empty one under a new store id; agents send again what they have, and what was pushed to the relay itself comes back from a backup only (stop the relay, move the new store away, relay-server restore)",
			slog.String("dir", storeDir(d.dataDir)), slog.String("store_id", d.ID().String()))
	}
	return d.handover.take(ctx)
}

// explainStoreError adds to an error what its reader can do.
func explainStoreError(dataDir string, err error) error {
	var locked *wal.LockedError
	var damaged *wal.DamagedError
	var newer *datadir.NewerError
	var contradiction *keep.ContradictionError
	switch {
	case errors.As(err, &newer):
		return fmt.Errorf("--data.dir %s: %w; nothing was changed", dataDir, newer)
	case errors.As(err, &locked):
		return fmt.Errorf("--data.dir %s is in use by another relay: %w", dataDir, locked)
	case errors.As(err, &damaged):
		return adviseRepair(dataDir, damaged)
	case errors.As(err, &contradiction):
		return adviseRepair(dataDir, contradiction)
	case errors.Is(err, wal.ErrNoLocks):
		return fmt.Errorf("--data.dir %s: %w; another file system is better, and --data.no-lock does without", dataDir, err)
	default:
		return fmt.Errorf("--data.dir %s: %w", dataDir, err)
	}
}

func adviseRepair(dataDir string, err error) error {
	return fmt.Errorf("--data.dir %s: %w; nothing was changed. To keep all that is sound and to be told what is missing: relay-server repair --data.dir %q",
		dataDir, err, dataDir)
}

// run starts what belongs to the store while the relay runs.
func (d *durability) run(ctx context.Context, keeping *errgroup.Group) {
	keeping.Go(func() error { return d.Run(ctx) })
	if d.handover.exports {
		keeping.Go(func() error { return d.handover.exportOften(ctx) })
	}
}

// end ends the store after the last push: a Pushgateway's file is written, and the log is closed.
func (d *durability) end() error {
	if d.handover.exports {
		ctx, cancel := context.WithTimeout(context.Background(), exportGrace) // the caller's context has ended; this one ends here
		defer cancel()
		d.handover.export(ctx)
	}
	return d.close()
}

// exportGrace bounds the wait for the log before the last export.
const exportGrace = 5 * time.Second

func (d *durability) close() error {
	err := d.Close()
	if errors.Is(err, wal.ErrUnwritable) {
		// Whatever was acknowledged is there, so that the end is an orderly one.
		d.logger.Error("the store was closed while it could not be written: changes that were answered with 503 may be lost", slog.Any("err", err))
		return nil
	}
	if err != nil {
		return fmt.Errorf("closing the store: %w", err)
	}
	return nil
}
