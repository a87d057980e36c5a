package relay

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

	"pushrelay/internal/commandline"
	"pushrelay/internal/datadir"
	"pushrelay/internal/keep"
	"pushrelay/internal/relayapi"
	"pushrelay/internal/wal"
)

// A Keep is a data dir as commands see it that are about the store in it.
type Keep struct {
	// DataDir is the data dir.
	DataDir string
	// NoLock does without the lock on the store, as Options.DataDirNoLock does.
	NoLock bool
	// Progress is told of long work; nil for nobody.
	Progress func(what string, done, total int64)
}

func (k Keep) place(what string) keep.Place {
	p := keep.Place{Dir: storeDir(k.DataDir), Release: version.Version, NoLock: k.NoLock}
	if k.Progress != nil {
		p.Progress = func(done, total int64) { k.Progress(what, done, total) }
	}
	return p
}

// existing refuses a data dir without a store, so that a misspelled one is not made, and one that somebody else has led elsewhere.
func (k Keep) existing() error {
	if err := datadir.CheckLinks(k.DataDir); err != nil {
		return fmt.Errorf("--data.dir %s: %w", k.DataDir, err)
	}
	if _, err := os.Stat(storeDir(k.DataDir)); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("--data.dir %s holds no store", k.DataDir)
	}
	return nil
}

// A Backup is what was backed up.
type Backup struct {
	File   string `json:"file"`
	Groups int    `json:"groups"`
	Series int    `json:"series"`
	// Source says who has given it.
	Source Source `json:"source"`
}

// Backup writes the store into one file: as the relay has it that runs on the data dir, or as it lies there. A relay that cannot be asked is no
// reason to do without: what it has acknowledged lies there.
func (k Keep) Backup(ctx context.Context, file string) (Backup, error) {
	if err := datadir.CheckLinks(k.DataDir); err != nil {
		return Backup{}, fmt.Errorf("--data.dir %s: %w", k.DataDir, err)
	}
	running, err := relayapi.NewControl(k.DataDir)
	if err != nil {
		return Backup{}, err
	}
	source := FromRelay
	s, err := keep.ReceiveBackup(ctx, file, running.Backup)
	if isAbsent(err) || errors.Is(err, relayapi.ErrNoRelay) {
		source = FromFiles
		if err := k.existing(); err != nil { // a member of a cluster has it in etcd, and has to run
			return Backup{}, err
		}
		s, err = keep.Backup(ctx, k.place("backing up"), file)
	}
	if err != nil {
		return Backup{}, explainStoreError(k.DataDir, explainControl(err))
	}
	return Backup{File: file, Groups: s.Groups, Series: s.Series, Source: source}, nil
}

// Restore makes the store of an empty data dir from a backup, and says on out what it holds.
func (k Keep) Restore(ctx context.Context, file string, out io.Writer) error {
	if err := datadir.CheckLinks(k.DataDir); err != nil {
		return fmt.Errorf("--data.dir %s: %w", k.DataDir, err)
	}
	s, err := keep.Restore(ctx, k.place("restoring"), file)
	if backup, ok := errors.AsType[*keep.BackupError](err); ok {
		return fmt.Errorf("%w; the data dir was not touched: restore another backup", backup)
	}
	if err != nil {
		return explainStoreError(k.DataDir, err)
	}
	_, err = fmt.Fprintf(out, "%s: %s, %d series, under a new store id\n", k.DataDir, commandline.Count(s.Groups, "group"), s.Series)
	return err
}

// Repair makes a damaged store one that a relay starts with, and says on out what was kept and what is missing.
func (k Keep) Repair(ctx context.Context, out io.Writer) error {
	if err := k.existing(); err != nil {
		return err
	}
	r, err := keep.Repair(ctx, k.place("repairing"))
	if err != nil {
		return explainStoreError(k.DataDir, err)
	}
	lines := r.Report("store", "relay-server acknowledge-loss --data.dir "+strconv.Quote(k.DataDir))
	if r.Loss != nil {
		lines = append(lines, "the next start gives the store a new id, so that agents send again what they have")
	}
	_, err = fmt.Fprintln(out, strings.Join(lines, "\n"))
	return err
}

// AcknowledgeLoss takes note of what the store has lost, also while a relay runs on the data dir, and says on out what that is.
func (k Keep) AcknowledgeLoss(out io.Writer) error {
	if err := k.existing(); err != nil {
		return err
	}
	losses, err := keep.AcknowledgeLoss(k.place(""))
	if err != nil {
		return explainStoreError(k.DataDir, err)
	}
	_, err = fmt.Fprintln(out, strings.Join(wal.ReportAcknowledged(losses), "\n"))
	return err
}
