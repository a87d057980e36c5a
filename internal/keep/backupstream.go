package keep

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"pushrelay/internal/groupstore"
	"pushrelay/internal/ledger"
	"pushrelay/internal/wal"
)

// WriteBackup is for [Keep].
func (d *Disk) WriteBackup(ctx context.Context, out io.Writer, l *ledger.State) error {
	var held marks
	cut, err := d.store.Cut(func() error {
		d.mu.Lock()
		defer d.mu.Unlock()
		held = d.marks.ofBackup()
		held.writer = selfWith(d.cfg.Release, l)
		return nil
	})
	if err != nil {
		return fmt.Errorf("backing up: %w", err)
	}
	return streamBackup(ctx, out, held, cut, l)
}

// streamBackup writes a backup, which holds marks, a cut, and a ledger or none.
func streamBackup(ctx context.Context, out io.Writer, held marks, cut *groupstore.Cut, l *ledger.State) error {
	w, err := wal.StreamSnapshot(out)
	if err != nil {
		return fmt.Errorf("backing up: %w", err)
	}
	defer w.Abort() // does nothing after Commit
	if _, err := writeStore(ctx, w, held, cut); err != nil {
		return fmt.Errorf("backing up: %w", err)
	}
	if err := addLedger(w, l); err != nil {
		return fmt.Errorf("backing up: %w", err)
	}
	if err := w.Commit(ctx); err != nil {
		return fmt.Errorf("backing up: %w", err)
	}
	return nil
}

// ReceiveBackup writes into a file what another process writes by [Keep.WriteBackup], and reads it to its end before the file gets its name, so
// that it is replaced by a whole backup or not at all. Fetch's error is returned as it is.
func ReceiveBackup(ctx context.Context, file string, fetch func(context.Context, io.Writer) error) (Summary, error) {
	RemoveLeftovers(filepath.Dir(file))
	w, err := newWorkDir(filepath.Dir(file))
	if err != nil {
		return Summary{}, fmt.Errorf("backing up: %w", err)
	}
	defer w.remove()
	if err := receive(ctx, w.unfinished(), fetch); err != nil {
		return Summary{}, err
	}
	r := &reading{store: groupstore.New(groupstore.Config{})}
	err = wal.ReadSnapshot(ctx, nil, w.unfinished(), r.backup)
	if err == nil {
		err = r.loaded()
	}
	if err == nil {
		err = w.finish(file)
	}
	if err != nil {
		return Summary{}, fmt.Errorf("backing up: %w", err)
	}
	return summaryOf(r), nil
}

// receive writes the file, and is told by fetch whether all of it came.
func receive(ctx context.Context, path string, fetch func(context.Context, io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("backing up: %w", err)
	}
	defer f.Close() //nolint:errcheck // It is closed below, or it is removed.
	if err := fetch(ctx, f); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("backing up: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("backing up: %w", err)
	}
	return nil
}
