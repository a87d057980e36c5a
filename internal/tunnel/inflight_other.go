//go:build !linux

package tunnel

import "net"

// inFlight returns what the system knows of bytes that were written to the connection; nothing where it does not tell.
func inFlight(net.Conn) InFlight { return InFlight{} }
