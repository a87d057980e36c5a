package strangers

import (
	"net"
	"sync"
)

// arrivals is the listener of connections that the agents' port hands over.
type arrivals struct {
	waiting chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

func newArrivals() *arrivals {
	return &arrivals{waiting: make(chan net.Conn, maxAttempts), closed: make(chan struct{})}
}

// put hands a connection over, and reports whether there was room for it.
func (l *arrivals) put(conn net.Conn) bool {
	select {
	case <-l.closed:
		return false
	default:
	}
	select {
	case l.waiting <- conn:
		return true
	default:
		return false
	}
}

// Accept returns the next connection.
func (l *arrivals) Accept() (net.Conn, error) {
	select {
	case conn := <-l.waiting:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close ends it. Connections that wait end by themselves.
func (l *arrivals) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr returns an address that nobody dials.
func (l *arrivals) Addr() net.Addr { return &net.UnixAddr{Name: "enrolment", Net: "unix"} }
