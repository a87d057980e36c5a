//go:build unix

package textfile

import (
	"os"
	"syscall"
)

// openFlags open a file to read it. A pipe is opened at once, although nobody writes to it.
const openFlags = os.O_RDONLY | syscall.O_NONBLOCK
