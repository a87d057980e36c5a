package tunnelclient

import (
	"syscall"

	"golang.org/x/sys/unix"

	"pushrelay/internal/tunnel"
)

// boundUnsent keeps the kernel from taking in more than it can send soon (T5). What it has taken is sent in that order: on
// a narrow link a small scrape would wait behind all that its buffer holds of a large one.
func boundUnsent(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, tunnel.UnsentBytes) //nolint:errcheck // A kernel without it works as well, on a wide link.
	})
}
