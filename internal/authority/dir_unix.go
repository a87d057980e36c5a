//go:build unix

package authority

import (
	"errors"
	"os"

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
