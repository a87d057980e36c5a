package wal

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Sync leaves out the times of the file, which nobody reads here and which would cost a write of the file system's journal.
func (f osFile) Sync() error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}
