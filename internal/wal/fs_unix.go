//go:build unix

package wal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// noFollow keeps root from being led out of a directory in which another user can make links.
const noFollow = unix.O_NOFOLLOW

// SyncDir makes what was created, renamed and removed in the directory survive a power cut.
func (osFS) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func lock(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EWOULDBLOCK):
			return &LockedError{Path: f.Name(), PID: owner(f)}
		case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.ENOLCK), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EINVAL):
			return fmt.Errorf("locking %q: %w: %w", f.Name(), ErrNoLocks, err)
		default:
			return fmt.Errorf("locking %q: %w", f.Name(), err)
		}
	}
}

func unlock(f *os.File) error {
	return os.NewSyscallError("flock", unix.Flock(int(f.Fd()), unix.LOCK_UN))
}

// adopt gives a new file to the owner of its directory, if this process is root and the owner is not.
func adopt(created *os.File, dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	stat, err := os.Stat(dir)
	if err != nil {
		return err
	}
	owner, ok := stat.Sys().(*syscall.Stat_t)
	if !ok || owner.Uid == 0 {
		return nil
	}
	return created.Chown(int(owner.Uid), int(owner.Gid))
}

// adoptDir is adopt for a directory that was just made. It opens no link that took its place.
func adoptDir(created string) error {
	d, err := os.OpenFile(created, os.O_RDONLY|unix.O_DIRECTORY|noFollow, 0)
	if err != nil {
		return err
	}
	return errors.Join(adopt(d, filepath.Dir(created)), d.Close())
}
