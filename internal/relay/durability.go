package relay

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/prometheus/common/version"
	"golang.org/x/sync/errgroup"

	"pushrelay/internal/datadir"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/history"
	"pushrelay/internal/keep"
	"pushrelay/internal/wal"
)

// storeDir is where the store's log is in a data dir.
func storeDir(dataDir string) string { return filepath.Join(dataDir, "store") }

// openStore makes the store, with a log that is not read yet, or without one in memory only.
func (s *Server) openStore(dataDir string, cfg groupstore.Config) {
	if dataDir == "" {
		s.store = groupstore.New(cfg)
		return
	}
	s.disk = keep.New(keep.Config{
		Dir: storeDir(dataDir), Store: cfg, Release: version.Version, NoLock: s.opts.DataDirNoLock, Progress: s.progress("recovering the store"),
		Logger: s.logger.With(slog.String("component", "store")), Registerer: s.telemetry,
	})
	s.store = s.disk.Store()
}

// progress returns what is to be told of one kind of work.
func (s *Server) progress(what string) func(done, total int64) {
	if s.opts.Progress == nil {
		return nil
	}
	return func(done, total int64) { s.opts.Progress(what, done, total) }
}

// recoverStore fills the store with what the data dir has, and with what a Pushgateway has left.
func (s *Server) recoverStore(ctx context.Context) error {
	if s.disk != nil {
		keep.RemoveLeftovers(s.opts.DataDir) // of backups that were written there
		if err := s.disk.Recover(ctx); err != nil {
			return explainStoreError(s.opts.DataDir, err)
		}
		if s.usedBefore && s.disk.Fresh() {
			s.logger.Warn("the store is missing from a data dir that was in use: the relay begins with an empty one under a new store id; agents send again what they have, and what was pushed to the relay itself comes back from a backup only (stop the relay, move the new store away, relay-server restore)",
				slog.String("dir", storeDir(s.opts.DataDir)), slog.String("store_id", s.disk.ID().String()))
		}
	}
	return s.importFile(ctx)
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

// storeLosses returns what the store has lost, and nobody has taken note of.
func (s *Server) storeLosses() []wal.Loss {
	if s.disk == nil {
		return nil
	}
	return s.disk.Losses()
}

// storeID identifies the store to agents. One in memory is made anew at every start.
func (s *Server) storeID() [16]byte {
	if s.disk != nil {
		return s.disk.ID()
	}
	return randomID()
}

// storeHistory returns what tells where the store has been. One in memory has just this epoch.
func (s *Server) storeHistory() func() history.History {
	if s.disk != nil {
		return s.disk.History
	}
	only := []history.Epoch{{ID: randomID()}}
	return func() history.History { return history.History{Epochs: only, Position: s.store.Position()} }
}

func randomID() (id [16]byte) {
	rand.Read(id[:])
	return id
}

// storeFailure returns why the store cannot be changed, nil if it can.
func (s *Server) storeFailure() error {
	if s.disk == nil {
		return nil
	}
	return s.disk.Failure()
}

// runStore starts what belongs to the store while the relay runs.
func (s *Server) runStore(ctx context.Context, serving *errgroup.Group) {
	if s.disk != nil {
		serving.Go(func() error { return s.disk.Run(ctx) })
	}
	if s.exports() {
		serving.Go(func() error { return s.exportOften(ctx) })
	}
}

// keepStore ends the store after the last push: a Pushgateway's file is written, and the log is closed.
func (s *Server) keepStore() error {
	if s.exports() {
		ctx, cancel := context.WithTimeout(context.Background(), exportGrace) // the caller's context has ended; this one ends here
		defer cancel()
		s.export(ctx)
	}
	return s.closeStore()
}

// exportGrace bounds the wait for the log before the last export.
const exportGrace = 5 * time.Second

func (s *Server) closeStore() error {
	if s.disk == nil {
		return nil
	}
	err := s.disk.Close()
	if errors.Is(err, wal.ErrUnwritable) {
		// Whatever was acknowledged is there, so that the end is an orderly one.
		s.logger.Error("the store was closed while it could not be written: changes that were answered with 503 may be lost", slog.Any("err", err))
		return nil
	}
	if err != nil {
		return fmt.Errorf("closing the store: %w", err)
	}
	return nil
}
