package httpserver

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// What is done for whoever still sends when the answer is on its way. Closing then would reset the connection, and most
// clients send all before they read: they would see the reset and never the answer.
const (
	// discardBytes and discardTime bound what is read of one request and thrown away, in no more memory than a piece of it.
	discardBytes = 16 << 20
	discardTime  = 5 * time.Second
	// discardsAtOnce bounds how many connections are read so; one more is closed at once.
	discardsAtOnce = 64
)

// connListener hands out connections that are a [conn].
type connListener struct {
	net.Listener
	server *Server

	closeBelow func() error  // closes what is below, once
	stopped    atomic.Bool   // it accepts nothing any more
	end        func()        // closes ended, once
	ended      chan struct{} // closed when nothing more comes of it
	free       func()        // closes closed, once
	closed     chan struct{} // closed by Close
}

func newConnListener(l net.Listener, s *Server) *connListener {
	ended, closed := make(chan struct{}), make(chan struct{})
	return &connListener{
		Listener: l, server: s, closeBelow: sync.OnceValue(l.Close),
		end: sync.OnceFunc(func() { close(ended) }), ended: ended, free: sync.OnceFunc(func() { close(closed) }), closed: closed,
	}
}

// Accept waits for the next connection; after stop it waits for Close.
func (l *connListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		if l.stopped.Load() {
			l.end()
			<-l.closed // Until then its server goes on with what was accepted.
		}
		return nil, err
	}
	newcomer := &conn{Conn: c, server: l.server, waste: NewWaste()}
	l.server.newcomers.come(newcomer)
	return newcomer, nil
}

// stop closes what is below: nothing is accepted any more.
func (l *connListener) stop() {
	l.stopped.Store(true)
	l.closeBelow() //nolint:errcheck // Close returns it.
}

// Close ends Accept for good.
func (l *connListener) Close() error {
	l.free()
	return l.closeBelow()
}

// conn is a connection of the server, below TLS if there is TLS.
type conn struct {
	net.Conn
	server *Server
	waste  *Waste
	unread atomic.Bool // there is a request whose body was not read to its end, as far as is known

	settled atomic.Bool // it is no newcomer any more
}

// Read reads, once the connection may be read.
func (c *conn) Read(p []byte) (int, error) {
	c.waste.Rest()
	return c.Conn.Read(p)
}

// CloseWrite ends the answer, and then reads on if the request did not end yet. net/http calls it where a request was not
// read to its end, but not through TLS.
func (c *conn) CloseWrite() error {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return nil
	}
	err := half.CloseWrite()
	if err == nil && c.unread.Swap(false) {
		c.discard()
	}
	return err
}

// Close closes the connection once its request has been read, or at once if it is called again, or to cut off what is left at the end:
// a handler may still be reading then, whose read and its deadline stand in the way of ours.
func (c *conn) Close() error {
	c.waste.Close()
	if c.unread.Load() && c.server.ending.Err() == nil {
		c.CloseWrite() //nolint:errcheck // Of a connection that is broken nothing is read either.
	}
	return c.Conn.Close()
}

// discard reads what still comes, until the other end has read its answer and closes.
func (c *conn) discard() {
	select {
	case c.server.discards <- struct{}{}:
		defer func() { <-c.server.discards }()
	default:
		return
	}
	ctx, cancel := context.WithTimeout(c.server.ending, discardTime)
	defer cancel()
	deadline, _ := ctx.Deadline()
	if c.SetReadDeadline(deadline) != nil {
		return
	}
	stop := context.AfterFunc(c.server.ending, func() {
		c.SetReadDeadline(time.Now()) //nolint:errcheck // A closed connection is not read.
	})
	defer stop()
	if _, err := io.CopyN(io.Discard, c.Conn, discardBytes); err == nil {
		<-ctx.Done() // what is left may be in the buffers of both ends, and the answer be read if nothing resets the connection
	}
}

// connKey is the key of a request's context under which its connection is.
type connKey struct{}

// connOf returns the connection of a request's context; nil if that is of no [Server].
func connOf(ctx context.Context) *conn {
	c, _ := ctx.Value(connKey{}).(*conn)
	return c
}

// withConn puts the connection into the contexts of its requests.
func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, below(c))
}

// below returns the connection below TLS.
func below(c net.Conn) *conn {
	if secured, ok := c.(*tls.Conn); ok {
		c = secured.NetConn()
	}
	return c.(*conn)
}

// observeState notes that a request begins or has ended. Until it is known that its body was read it counts as unread: so
// does one that never reaches a handler of ours, such as one without the password.
func observeState(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateActive:
		secured, ok := c.(*tls.Conn)
		below(c).unread.Store(!ok || secured.ConnectionState().NegotiatedProtocol != "h2") // HTTP/2 can end one request alone
	case http.StateIdle:
		below(c).unread.Store(false)
		below(c).settle()
	case http.StateHijacked, http.StateClosed:
		below(c).settle()
	case http.StateNew:
	}
}
