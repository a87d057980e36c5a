package ledger

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"pushrelay/internal/datadir"
)

// A fileJournal keeps records in a file, which this process alone writes. What is not static is guarded by [Ledger.writing].
type fileJournal struct {
	// Static after construction.
	cfg   Config
	state *State

	lock  io.Closer // nil without
	file  *os.File  // where the next record goes; nil if the file has to be made anew, from memory
	sum   uint32    // of the last line
	sweep Sweep
}

func openFileJournal(cfg Config) (*fileJournal, error) {
	lock, err := cfg.takeLock()
	if err != nil {
		return nil, err
	}
	f := &fileJournal{cfg: cfg, lock: lock}
	if err := f.read(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// read reads the file. One whose end is not sound, or whose format is an earlier one, is written anew with the next record.
func (f *fileJournal) read() error {
	content, err := readFile(f.cfg.Dir)
	if err != nil {
		return err
	}
	f.state = content.state()
	if !content.sound || content.earlier {
		return nil
	}
	f.sum = content.sum
	if f.file, err = openToAppend(filepath.Join(f.cfg.Dir, fileName)); err != nil {
		return fmt.Errorf("opening the ledger: %w", err)
	}
	return nil
}

// State is for [Journal], as all that follows.
func (f *fileJournal) State() *State { return f.state }

// At returns 0: nobody else writes.
func (f *fileJournal) At() uint64 { return 0 }

// Refresh has nothing to find.
func (f *fileJournal) Refresh(context.Context) error { return nil }

// Close ends the writing.
func (f *fileJournal) Close() error {
	var err error
	if f.file != nil {
		err = f.file.Close()
		f.file = nil
	}
	if f.lock != nil {
		err = errors.Join(err, f.lock.Close())
		f.lock = nil
	}
	if err != nil {
		return fmt.Errorf("closing the ledger: %w", err)
	}
	return nil
}

// Append writes records, and lets all of them count once they are on the disk, or none.
//
// If a write fails, nobody knows what of it is on the disk, and what the system says of that file from then on proves nothing. So the next
// record makes the file anew, from memory. Until then a restart may find the record that failed, or not.
func (f *fileJournal) Append(_ context.Context, _ uint64, records []Record) error {
	if f.file == nil || f.sweep.Due(f.state, records[0].At, f.cfg.Grace) {
		return f.rewrite(records)
	}
	lines, sum, err := sealAll(nil, records, f.sum)
	if err != nil {
		return err
	}
	_, err = f.file.Write(lines)
	if err == nil {
		err = f.file.Sync()
	}
	if err != nil {
		f.file.Close() //nolint:errcheck // It is not used any more.
		f.file = nil
		return &WriteError{err}
	}
	f.sum = sum
	f.state.Count(records...)
	return nil
}

// rewrite makes the file anew, with what is not over and more records.
func (f *fileJournal) rewrite(more []Record) error {
	records := append(f.kept(more[0].At), more...)
	if err := f.replace(records); err != nil {
		return err
	}
	f.state.Begin(records)
	return nil
}

// replace replaces the file.
func (f *fileJournal) replace(records []Record) error {
	text, sum, err := encode(datadir.Head{Version: FormatVersion, Release: f.cfg.Release}, records)
	if err != nil {
		return err
	}
	path := filepath.Join(f.cfg.Dir, fileName)
	if err := datadir.ReplaceFile(path, text); err != nil {
		return &WriteError{err}
	}
	Mark(f.cfg.Dir)
	if f.file != nil {
		f.file.Close() //nolint:errcheck // It was synced, and is another file by now.
	}
	f.sum = sum
	if f.file, err = openToAppend(path); err != nil {
		f.file = nil // The record is there; the next one makes the file anew once more.
	}
	return nil
}

// kept returns the records that a new file has.
func (f *fileJournal) kept(now time.Time) []Record {
	if f.cfg.Grace == 0 {
		return f.state.Records()
	}
	return f.state.Live(now, f.cfg.Grace)
}

// Mark makes the marker of a data dir if it is missing: there was a ledger from now on. Where that fails, as on a full disk, a loss of the ledger would not
// be noticed, which is no reason to refuse what was written.
func Mark(dir string) {
	if !isThere(dir, markerName) {
		datadir.ReplaceFile(filepath.Join(dir, markerName), []byte("a ledger of certificates was begun here\n")) //nolint:errcheck // See above.
	}
}

// WriteFile makes the ledger of a data dir what a state says, whatever was there before: that of a relay which no longer shares one. The error is a
// [*LockedError] while another process has it open.
func WriteFile(cfg Config, s *State) error {
	lock, err := cfg.takeLock()
	if err != nil {
		return err
	}
	f := &fileJournal{cfg: cfg, state: s, lock: lock}
	return errors.Join(f.replace(s.Records()), f.Close())
}

// encode returns a whole file, and the checksum of its last line.
func encode(h datadir.Head, records []Record) (text []byte, sum uint32, err error) {
	if text, sum, err = seal(h, 0); err != nil {
		return nil, 0, err
	}
	return sealAll(text, records, sum)
}

// sealAll adds records as lines to a text whose last one has the given checksum.
func sealAll(text []byte, records []Record, before uint32) (longer []byte, sum uint32, err error) {
	for _, r := range records {
		var line []byte
		if line, before, err = seal(r, before); err != nil {
			return nil, 0, err
		}
		text = append(text, line...)
	}
	return text, before, nil
}

// openToAppend opens the file, through no link.
func openToAppend(path string) (*os.File, error) {
	f, err := openFile(path, os.O_WRONLY|os.O_APPEND)
	if err != nil {
		return nil, err
	}
	if stat, err := f.Stat(); err != nil || !stat.Mode().IsRegular() {
		return nil, errors.Join(fmt.Errorf("%q is no regular file", path), err, f.Close())
	}
	return f, nil
}
