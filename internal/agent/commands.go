package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/prometheus/common/version"

	"pushrelay/internal/datadir"
	"pushrelay/internal/spool"
	"pushrelay/internal/wal"
)

// RepairSpool makes a damaged spool one that an agent starts with, and says on out what was kept and what is missing.
func RepairSpool(ctx context.Context, dataDir string, out io.Writer) error {
	at, err := spoolAt(dataDir)
	if err != nil {
		return err
	}
	r, err := spool.Repair(ctx, at)
	if err != nil {
		return explainSpoolError(dataDir, err)
	}
	lines := r.Report("spool", "relay-agent acknowledge-loss --data.dir "+strconv.Quote(dataDir))
	if r.Loss != nil {
		lines = append(lines, "the next start sends again what is left, under a new journal")
	}
	_, err = fmt.Fprintln(out, strings.Join(lines, "\n"))
	return err
}

// AcknowledgeLoss takes note of what the spool has lost, also while an agent runs on the data dir, and says on out what that is.
func AcknowledgeLoss(dataDir string, out io.Writer) error {
	at, err := spoolAt(dataDir)
	if err != nil {
		return err
	}
	losses, err := spool.AcknowledgeLoss(at)
	if err != nil {
		return explainSpoolError(dataDir, err)
	}
	_, err = fmt.Fprintln(out, strings.Join(wal.ReportAcknowledged(losses), "\n"))
	return err
}

// spoolAt returns where the spool of a data dir is, which must be there.
func spoolAt(dataDir string) (spool.Place, error) {
	if err := datadir.CheckLinks(dataDir); err != nil {
		return spool.Place{}, fmt.Errorf("--data.dir %s: %w", dataDir, err)
	}
	if _, err := os.Stat(spoolDir(dataDir)); errors.Is(err, fs.ErrNotExist) {
		return spool.Place{}, fmt.Errorf("--data.dir %s holds no spool", dataDir)
	}
	return spool.Place{Dir: spoolDir(dataDir), Release: version.Version}, nil
}

// explainSpoolError adds to an error what its reader can do.
func explainSpoolError(dataDir string, err error) error {
	var locked *wal.LockedError
	var damaged *wal.DamagedError
	var newer *datadir.NewerError
	switch {
	case errors.As(err, &newer):
		return fmt.Errorf("--data.dir %s: %w; nothing was changed", dataDir, newer)
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
