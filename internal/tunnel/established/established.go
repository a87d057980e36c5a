// Package established tells gRPC of connections whose TLS handshake is done: those that the agents' port hands over to a service of another protocol,
// and those that were dialled for one.
//
// It verifies nothing: whoever makes a connection of a [Listener], or dials, has done that. Start reading at [Listener].
package established

import (
	"context"
	"errors"
	"net"
	"sync"

	"google.golang.org/grpc/credentials"
)

// Listener is a listener of connections that are put into it. It is made by [NewListener] and safe for concurrent use.
type Listener struct {
	name    string
	waiting chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

// NewListener returns a listener in which so many connections may wait to be accepted. The name is that of its address, which nobody dials.
func NewListener(name string, room int) *Listener {
	return &Listener{name: name, waiting: make(chan net.Conn, room), closed: make(chan struct{})}
}

// Put hands a connection over, and reports whether there was room for it. It does not wait.
func (l *Listener) Put(conn net.Conn) bool {
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
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.waiting:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close ends it. Connections that wait are to end by themselves.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr returns an address that nobody dials.
func (l *Listener) Addr() net.Addr { return &net.UnixAddr{Name: l.name, Net: "unix"} }

// Credentials takes connections as they are. Each is a [credentials.AuthInfo] as well, by which the calls on it know who is on the other end.
type Credentials struct{}

var _ credentials.TransportCredentials = Credentials{}

// ServerHandshake returns the connection as it is.
func (Credentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	info, ok := conn.(credentials.AuthInfo)
	if !ok {
		return nil, nil, errors.New("a connection of which nobody knows whose it is")
	}
	return conn, info, nil
}

// ClientHandshake returns the connection as it is.
func (c Credentials) ClientHandshake(_ context.Context, _ string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return c.ServerHandshake(conn)
}

// Info describes the protocol.
func (Credentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone returns the same credentials: they hold nothing.
func (c Credentials) Clone() credentials.TransportCredentials { return c }

// OverrideServerName has no meaning here.
func (Credentials) OverrideServerName(string) error { return nil }
