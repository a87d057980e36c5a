package tunnel

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// inFlight returns what the system knows of bytes that were written to the connection; nothing where it does not tell.
func inFlight(conn net.Conn) InFlight {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return InFlight{}
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return InFlight{}
	}
	var f InFlight
	raw.Control(func(fd uintptr) { //nolint:errcheck // On a closed connection nothing is known.
		bytes, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
		if err != nil {
			return
		}
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return
		}
		f = InFlight{Known: true, Bytes: bytes, Repeats: int(info.Retransmits)}
	})
	return f
}
