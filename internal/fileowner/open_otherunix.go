//go:build unix && !linux

package fileowner

import "golang.org/x/sys/unix"

// searchFlags open a directory to go on from it.
const searchFlags = unix.O_RDONLY
