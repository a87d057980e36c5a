package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"

	"pushrelay/internal/datadir"
	"pushrelay/internal/wal"
)

// DefaultDataDir returns the data dir of an agent that was given none.
func DefaultDataDir() string { return datadir.Default("agent-data") }

// spoolDir is where the spool is in a data dir; empty for one in memory.
func spoolDir(dataDir string) string {
	if dataDir == "" {
		return ""
	}
	return filepath.Join(dataDir, "spool")
}

// RepairSpool makes a damaged spool readable and says on out what was kept and what is missing.
func RepairSpool(ctx context.Context, dataDir string, out io.Writer) error {
	r, err := wal.Repair(ctx, wal.Config{Dir: spoolDir(dataDir)})
	if err != nil {
		return explainSpoolError(dataDir, err)
	}
	lines := r.Report("spool")
	if len(r.Missing) > 0 {
		lines = append(lines, "the next start sends again what is left, under a new journal")
	}
	for _, line := range lines {
		if _, err := fmt.Fprintln(out, line); err != nil {
			return err
		}
	}
	return nil
}

// explainSpoolError adds to an error what its reader can do.
func explainSpoolError(dataDir string, err error) error {
	var locked *wal.LockedError
	var damaged *wal.DamagedError
	switch {
	case errors.As(err, &locked):
		return fmt.Errorf("--data.dir %s is in use by another agent: %w", dataDir, locked)
	case errors.As(err, &damaged):
		return fmt.Errorf("--data.dir %s: %w; nothing was changed. To keep all that is sound and to be told what is missing: relay-agent repair --data.dir %q",
			dataDir, damaged, dataDir)
	case errors.Is(err, wal.ErrNoLocks):
		return fmt.Errorf("--data.dir %s: %w; another file system is better, and --data.no-lock does without", dataDir, err)
	default:
		return fmt.Errorf("--data.dir %s: %w", dataDir, err)
	}
}

func (a *Agent) closeSpool() error {
	err := a.spool.Close()
	if errors.Is(err, wal.ErrUnwritable) {
		// Whatever was answered well is there, so that the end is an orderly one.
		a.logger.Error("the spool was closed while it could not be written: pushes that were answered with 503 may be lost", slog.Any("err", err))
		return nil
	}
	if err != nil {
		return fmt.Errorf("closing the spool: %w", err)
	}
	return nil
}
