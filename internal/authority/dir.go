package authority

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"pushrelay/internal/datadir"
	"pushrelay/internal/fileowner"
)

// lockName is the file whose lock the processes take turns with. It is never removed: a process that holds the lock of a
// removed file would share it with nobody.
const lockName = ".lock"

// inDir is withLock in a directory that is created if needed.
func inDir(dir string, f func() error) error {
	if err := fileowner.CheckLinks(dir); err != nil {
		return err
	}
	if err := datadir.MakeDir(dir); err != nil {
		return fmt.Errorf("creating directory: %w", err)
	}
	return withLock(dir, f)
}

// withLock calls f while no other process, and no other goroutine of this one, is in withLock of the same directory. f
// must be short: others wait without end. The system releases the lock of a process that dies.
func withLock(dir string, f func() error) error {
	if err := fileowner.CheckLinks(dir); err != nil {
		return err
	}
	lock, err := openLock(dir)
	if err != nil {
		return fmt.Errorf("locking directory: %w", err)
	}
	defer lock.Close() //nolint:errcheck // It releases the lock, which belongs to the open file; nothing was written.
	if err := waitForLock(lock); err != nil {
		return fmt.Errorf("locking directory %q: %w", dir, err)
	}
	return f()
}

// openLock never follows a symbolic link and gives away only a file that it created itself: root runs it in a directory
// where another user can put things.
func openLock(dir string) (*os.File, error) {
	path := filepath.Join(dir, lockName)
	lock, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|noFollow, keyMode)
	if errors.Is(err, fs.ErrExist) {
		lock, err = os.OpenFile(path, os.O_RDWR|noFollow, 0)
		if errors.Is(err, syscall.ELOOP) {
			err = fmt.Errorf("%q is a link, which it never is by itself: find out who put it there, and remove it", path)
		}
		return lock, err
	}
	if err != nil {
		return nil, err
	}
	if err := fileowner.Adopt(lock, dir); err != nil {
		lock.Close() //nolint:errcheck // Nothing was written.
		return nil, err
	}
	return lock, nil
}

// createFile writes a file that must not exist and syncs it. A file that could not be written whole is removed.
func createFile(path string, text []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|noFollow, mode)
	if err != nil {
		return fmt.Errorf("writing file: %w", err)
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = fileowner.Adopt(f, filepath.Dir(path))
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("writing file: %w", errors.Join(err, os.Remove(path)))
	}
	return nil
}
