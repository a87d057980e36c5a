package keep

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"pushrelay/internal/groupstore"
	"pushrelay/internal/ledger"
	"pushrelay/internal/wal"
)

// Place is where a log is that nobody serves at the moment, or that somebody else does.
type Place struct {
	// Dir is the directory of the log.
	Dir string
	// Release is the one that writes, as in [Config].
	Release string
	// NoLock does without the lock, as in [Config].
	NoLock bool
	// FS is the file system that a repair works on; nil means that of the operating system.
	FS wal.FS
	// Progress is told of the reading, as in [Config]; nil is allowed.
	Progress func(done, total int64)
}

// Summary says what a backup consists of.
type Summary struct {
	// Groups and Series are those of the store.
	Groups, Series int
	// Ledger is the ledger that goes along; nil for none.
	Ledger *ledger.State
}

// Backup writes what the log in a directory holds into one file, which [Restore] makes a store of, and what a ledger says; nil for none. Whoever owns
// the log may go on writing it: everything that was acknowledged before the call is in the backup, and of what comes meanwhile a
// part, in order. The file is replaced whole or not at all.
//
// The files of the log are copied beside the backup first, and removed at the end: only a copy can be read to its end while
// its original grows. What an earlier backup left there that was killed is removed as well.
func Backup(ctx context.Context, from Place, l *ledger.State, file string) (Summary, error) {
	RemoveLeftovers(filepath.Dir(file))
	w, err := newWorkDir(filepath.Dir(file))
	if err != nil {
		return Summary{}, fmt.Errorf("backing up: %w", err)
	}
	defer w.remove()
	r, err := readCopy(ctx, from, w.path)
	if err != nil {
		return Summary{}, fmt.Errorf("backing up: %w", ofOriginal(err, from.Dir))
	}
	r.marks.writer = selfWith(from.Release, l)
	summary, err := writeBackup(ctx, r, l, w.unfinished())
	if err == nil {
		err = w.finish(file)
	}
	if err != nil {
		return Summary{}, fmt.Errorf("backing up: %w", err)
	}
	return summary, nil
}

// ofOriginal says of damage that was found in a copy where it is in the log.
func ofOriginal(err error, dir string) error {
	damaged, ok := errors.AsType[*wal.DamagedError](err)
	if !ok {
		return err
	}
	original := *damaged
	original.File = filepath.Join(dir, filepath.Base(damaged.File))
	return &original
}

// copyAttempts is how often a log is copied anew because a snapshot replaced files under the copying hands.
const copyAttempts = 10

// readCopy copies the log into a directory and reads it there.
func readCopy(ctx context.Context, from Place, work string) (*reading, error) {
	var err error
	for range copyAttempts {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		var r *reading
		if r, err = tryCopy(ctx, from, work); err == nil {
			return r, nil
		}
		var damaged *wal.DamagedError
		if !errors.Is(err, fs.ErrNotExist) && !errors.As(err, &damaged) {
			return nil, err
		}
	}
	return nil, err
}

func tryCopy(ctx context.Context, from Place, work string) (*reading, error) {
	attempt, err := os.MkdirTemp(work, "")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(attempt) //nolint:errcheck // It goes with the directory that it is in.
	names, err := logFiles(from.Dir)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if err := copyFile(filepath.Join(from.Dir, name), filepath.Join(attempt, name)); err != nil {
			return nil, err
		}
	}
	r := &reading{store: groupstore.New(groupstore.Config{})}
	w, found, err := wal.Open(ctx, wal.Config{Dir: attempt, Release: from.Release, NoLock: true, Progress: from.Progress}, r.replay())
	if err != nil {
		return nil, err
	}
	err = r.loaded()
	if r.mended != nil && !found.Lossy {
		err = errors.Join(err, &ContradictionError{Cause: r.mended})
	}
	return r, errors.Join(err, w.Close())
}

const (
	segmentSuffix  = ".log"
	snapshotSuffix = ".snapshot"
)

// logFiles returns the files that a log consists of: its manifest, its newest snapshot, if it has one, and the segments from
// that on. They are numbered by one count, in as many digits for all.
func logFiles(dir string) ([]string, error) {
	all, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	newest := ""
	for _, f := range all {
		if id, ok := strings.CutSuffix(f.Name(), snapshotSuffix); ok {
			newest = max(newest, id)
		}
	}
	var names []string
	for _, f := range all {
		if id, ok := strings.CutSuffix(f.Name(), segmentSuffix); ok && id >= newest {
			names = append(names, f.Name())
		}
	}
	if newest == "" && len(names) == 0 {
		return nil, fmt.Errorf("%q holds no store", dir)
	}
	slices.Sort(names)
	if newest != "" {
		names = append([]string{newest + snapshotSuffix}, names...)
	}
	if slices.ContainsFunc(all, func(f os.DirEntry) bool { return f.Name() == wal.ManifestName }) {
		names = append([]string{wal.ManifestName}, names...)
	}
	return names, nil
}

func copyFile(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close() //nolint:errcheck // Nothing was written.
	target, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	return errors.Join(err, target.Close())
}

// writeBackup writes what was read, without the ID.
func writeBackup(ctx context.Context, r *reading, l *ledger.State, file string) (Summary, error) {
	cut, err := r.store.Cut(func() error { return nil })
	if err != nil {
		return Summary{}, err
	}
	w, err := wal.CreateSnapshot(nil, file)
	if err != nil {
		return Summary{}, err
	}
	defer w.Abort() // does nothing after Commit
	if _, err := writeStore(ctx, w, r.marks.ofBackup(), cut); err != nil {
		return Summary{}, err
	}
	if err := addLedger(w, l); err != nil {
		return Summary{}, err
	}
	summary := summaryOf(r)
	summary.Ledger = l
	return summary, w.Commit(ctx)
}

func summaryOf(r *reading) Summary {
	stats := r.store.Stats()
	return Summary{Groups: stats.Groups, Series: stats.Series, Ledger: r.ledger.state()}
}

// ErrStoreExists means that a backup was to be restored where there is a store already. Nothing was changed.
var ErrStoreExists = errors.New("there is a store already: a backup is restored into an empty data dir")

// A BackupError says that a backup cannot be used. The directory that it was to be restored into was not touched.
type BackupError struct {
	// File is the path of the backup.
	File string
	err  error
}

// Error names the file and what is wrong with it.
func (e *BackupError) Error() string { return fmt.Sprintf("restoring from %q: %v", e.File, e.err) }

// Unwrap returns what is wrong.
func (e *BackupError) Unwrap() error { return e.err }

// Restore makes a log of a backup, in a directory that has none. The store that it holds has an ID of its own, and all else
// of the one that was backed up. PutBack is handed the ledger of the backup, if it has one, when all of the backup is read and the directory is known to
// have no store; there is none as long as it has not returned nil. Nil is for whoever knows that there is no ledger.
func Restore(ctx context.Context, to Place, file string, putBack func(*ledger.State) error) (Summary, error) {
	p, err := newPasses(to.Progress, file, 2)
	if err != nil {
		return Summary{}, &BackupError{File: file, err: err}
	}
	r := &reading{store: groupstore.New(groupstore.Config{})}
	err = wal.ReadSnapshot(ctx, nil, file, p.count(r.backup))
	if err == nil {
		err = r.loaded()
	}
	if err != nil {
		return Summary{}, &BackupError{File: file, err: err}
	}
	w, found, err := wal.Open(ctx, wal.Config{Dir: to.Dir, Release: to.Release, NoLock: to.NoLock}, wal.Replay{})
	if err != nil {
		return Summary{}, fmt.Errorf("restoring into %q: %w", to.Dir, err)
	}
	if found.SnapshotPayloads+found.Payloads > 0 {
		return Summary{}, errors.Join(fmt.Errorf("restoring into %q: %w", to.Dir, ErrStoreExists), w.Close())
	}
	summary := summaryOf(r)
	if summary.Ledger != nil && putBack != nil {
		err = putBack(summary.Ledger)
	}
	if err == nil {
		err = writeRestored(ctx, w, file, self(to.Release), p)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return Summary{}, fmt.Errorf("restoring into %q: %w", to.Dir, err)
	}
	p.finish()
	return summary, nil
}

// writeRestored writes a new ID and the payloads of the backup as the first snapshot. The backup may be of an earlier release,
// as it says itself then.
func writeRestored(ctx context.Context, l *wal.Log, file string, by writer, p *passes) error {
	w, err := l.Rotate()
	if err != nil {
		return err
	}
	defer w.Abort() // does nothing after Commit
	first := marks{writer: by}
	rand.Read(first.id[:])
	payloads, err := first.payloads()
	if err != nil {
		return err
	}
	for _, payload := range payloads {
		if err := w.Add(payload); err != nil {
			return err
		}
	}
	add := func(payload []byte) error {
		payload, err := ofLog(payload)
		if err != nil || payload == nil {
			return err
		}
		return w.Add(payload)
	}
	if err := wal.ReadSnapshot(ctx, nil, file, p.count(add)); err != nil {
		return err
	}
	return w.Commit(ctx)
}

// ofLog returns a payload of a backup as a log has it; nil for a part of a ledger, which none has.
func ofLog(payload []byte) ([]byte, error) {
	switch {
	case bytes.HasPrefix(payload, []byte{ledgerPayload}):
		return nil, nil
	case bytes.HasPrefix(payload, []byte{writerPayload}):
		if by := writerOf(payload[1:]); by.Format == backupFormat {
			by.Format = logFormat
			return by.payload()
		}
	}
	return payload, nil
}

// passes tells the progress of reading a file several times.
type passes struct {
	report      func(done, total int64)
	done, total int64
}

func newPasses(report func(done, total int64), file string, times int64) (*passes, error) {
	if report == nil {
		report = func(int64, int64) {}
	}
	stat, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	return &passes{report: report, total: times * stat.Size()}, nil
}

// count returns a sink that tells how far it is. What is no payload is left out: it is little, and made up for at the end.
func (p *passes) count(sink func([]byte) error) func([]byte) error {
	return func(payload []byte) error {
		p.done = min(p.done+int64(len(payload)), p.total-1)
		p.report(p.done, p.total)
		return sink(payload)
	}
}

func (p *passes) finish() { p.report(p.total, p.total) }
