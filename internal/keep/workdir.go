package keep

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"pushrelay/internal/datadir"
	"pushrelay/internal/wal"
)

const (
	workPrefix = ".backup-"
	// unfinishedSuffix is added to the name of a work dir: the backup before it has its own name. It lies beside the directory,
	// and so belongs to whom the backup is to belong.
	unfinishedSuffix = ".unfinished"
	workLock         = "lock"
	// abandonedAfter is the age from which a work dir without a lock is nobody's: that of an earlier release, or of a
	// process that was killed before it came to lock it.
	abandonedAfter = time.Hour
)

// A workDir is where a backup is made, beside the file that it becomes. A lock in it tells one that is in use from one whose
// owner was killed.
type workDir struct {
	path string
	lock io.Closer // nil for none
}

func newWorkDir(beside string) (*workDir, error) {
	for {
		path, err := os.MkdirTemp(beside, workPrefix+"*")
		if err != nil {
			return nil, err
		}
		w := &workDir{path: path}
		w.lock, err = wal.TakeLock(w.lockFile())
		if err == nil || errors.Is(err, wal.ErrNoLocks) {
			_, err = os.Stat(w.lockFile())
		}
		if err == nil {
			return w, nil
		}
		w.remove()
		if _, locked := errors.AsType[*wal.LockedError](err); !locked && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		// Somebody who tidies up had the lock before, and took the directory for abandoned.
	}
}

func (w *workDir) lockFile() string { return filepath.Join(w.path, workLock) }

// unfinished is the path of what becomes the backup.
func (w *workDir) unfinished() string { return w.path + unfinishedSuffix }

// finish gives the backup its name.
func (w *workDir) finish(file string) error {
	if err := os.Rename(w.unfinished(), file); err != nil {
		return err
	}
	return datadir.SyncDir(filepath.Dir(file))
}

// remove removes the directory and what is beside it. A backup does not depend on that, and the next one tries again.
func (w *workDir) remove() {
	// By its name, which is no pattern: that of what was found may have been chosen by whoever may write there.
	beside, _ := os.ReadDir(filepath.Dir(w.path)) // What cannot be listed stays.
	for _, file := range beside {
		if strings.HasPrefix(file.Name(), filepath.Base(w.unfinished())) {
			os.Remove(filepath.Join(filepath.Dir(w.path), file.Name())) //nolint:errcheck // See above.
		}
	}
	// Whoever waits for the lock must not get that of a directory that is about to go.
	os.Remove(w.lockFile()) //nolint:errcheck // See above.
	if w.lock != nil {
		w.lock.Close() //nolint:errcheck // Nothing was written.
	}
	os.RemoveAll(w.path) //nolint:errcheck // See above.
}

// RemoveLeftovers removes what killed backups have left in a directory, and nothing of one that is being made. What cannot
// be removed stays.
func RemoveLeftovers(dir string) {
	all, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, d := range all {
		if d.IsDir() && strings.HasPrefix(d.Name(), workPrefix) {
			removeIfAbandoned(filepath.Join(dir, d.Name()))
		}
	}
}

func removeIfAbandoned(path string) {
	found := &workDir{path: path}
	_, err := os.Stat(found.lockFile()) // so that looking makes no lock
	if err == nil {
		found.lock, err = wal.TakeLock(found.lockFile())
	}
	switch {
	case err == nil:
		found.remove()
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, wal.ErrNoLocks):
		if changed, err := lastChange(path); err == nil && time.Since(changed) > abandonedAfter {
			found.remove()
		}
	}
}

// lastChange is when something in a directory was written last.
func lastChange(dir string) (last time.Time, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		stat, err := d.Info()
		if err == nil && stat.ModTime().After(last) {
			last = stat.ModTime()
		}
		return err
	})
	return last, err
}
