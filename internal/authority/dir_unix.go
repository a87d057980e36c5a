//go:build unix

package authority

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
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

// adoptDir is adopt for a directory that was just created.
func adoptDir(created, parent string) error {
	f, err := os.OpenFile(created, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // Nothing was written.
	return adopt(f, parent)
}

// adopt gives what this process just created to the owner of the directory that it is in, if this process is root and the
// owner is not: a command that root runs beside the relay must not leave files that the relay's user cannot read.
func adopt(created *os.File, dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	stat, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("finding the owner of %q: %w", dir, err)
	}
	owner, ok := stat.Sys().(*syscall.Stat_t)
	if !ok || owner.Uid == 0 {
		return nil
	}
	if err := created.Chown(int(owner.Uid), int(owner.Gid)); err != nil {
		return fmt.Errorf("giving %q to the owner of %q: %w", created.Name(), dir, err)
	}
	return nil
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
