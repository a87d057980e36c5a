//go:build unix

package httpserver

import (
	"errors"
	"math"
	"syscall"

	"golang.org/x/sys/unix"
)

// descriptorLimit is how many descriptors the process may have; 0 for no limit.
func descriptorLimit() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > math.MaxInt32 {
		return 0
	}
	return int(limit.Cur)
}

// lowestFree returns the lowest descriptor that is free: all below it are in use. It is false if there is none.
func lowestFree(used syscall.RawConn) (lowest int, ok bool) {
	err := used.Control(func(fd uintptr) {
		copied, err := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return
		}
		lowest, ok = copied, true
		unix.Close(copied) //nolint:errcheck // It was only to see which one it is.
	})
	return lowest, ok || err != nil // A listener that was closed meanwhile says nothing.
}

func isOutOfDescriptors(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}
