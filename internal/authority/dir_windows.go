package authority

import (
	"math"
	"os"

	"golang.org/x/sys/windows"
)

// noFollow has no counterpart: whoever may make symbolic links on Windows is an administrator.
const noFollow = 0

// waitForLock waits for the lock of an open file; closing the file releases it.
func waitForLock(lock *os.File) error {
	return windows.LockFileEx(windows.Handle(lock.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK, 0, math.MaxUint32, math.MaxUint32, new(windows.Overlapped))
}

// adoptDir has nothing to do: what is created inherits the rights of its directory.
func adoptDir(string, string) error { return nil }

// syncDir has nothing to do: NTFS journals creations and renames.
func syncDir(string) error { return nil }
