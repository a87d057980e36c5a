//go:build unix

package authority

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"pushrelay/internal/fileowner"
)

// noFollow opens no symbolic link.
const noFollow = unix.O_NOFOLLOW

// waitForLock waits for the lock of an open file; closing the file releases it.
func waitForLock(lock *os.File) error {
	for {
		if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// adoptDir is [fileowner.Adopt] for a directory that was just created.
func adoptDir(created, parent string) error {
	f, err := os.OpenFile(created, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // Nothing was written.
	return fileowner.Adopt(f, parent)
}

// syncDir makes creations and renames in a directory survive a power cut.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("syncing directory: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("syncing directory %q: %w", dir, err)
	}
	return nil
}
