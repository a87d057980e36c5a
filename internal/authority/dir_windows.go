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
