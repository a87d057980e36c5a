//go:build linux

package program

import (
	"fmt"
	"net"
	"sync"
	"testing"
)

// ports has what is left of this process' block of ports.
var ports = struct {
	mu         sync.Mutex // guards what is below
	next, last int
	held       []net.Listener // on the first port of each block: while it listens, no other process of tests takes the block
}{}

// Blocks lie below the range that the kernel takes for outgoing connections: one of those could otherwise hold the port of a program that is killed and
// started again. Packages of tests run side by side, so each process has blocks of its own.
const firstPort, endOfPorts, portsOfBlock = 20000, 32000, 200

// nextPort returns a port that was never handed out, here or in another process of tests that still runs; 0 if there is none.
func nextPort() int {
	ports.mu.Lock()
	defer ports.mu.Unlock()
	for first := firstPort; ports.next == ports.last; first += portsOfBlock {
		if first >= endOfPorts {
			return 0
		}
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", first)); err == nil {
			ports.held = append(ports.held, l)
			ports.next, ports.last = first, first+portsOfBlock-1
		}
	}
	ports.next++
	return ports.next
}

// FreeAddress returns a loopback address that nothing listens on.
func FreeAddress(t testing.TB) string {
	t.Helper()
	for port := nextPort(); port != 0; port = nextPort() {
		address := fmt.Sprintf("127.0.0.1:%d", port)
		l, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		l.Close()
		return address
	}
	t.Fatal("no free port found")
	return ""
}
