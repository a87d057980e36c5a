package tunnel

import (
	"net"
	"sync/atomic"
	"time"
)

// Conn is the transport of one session. It knows when the last byte came.
type Conn struct {
	net.Conn

	heard atomic.Int64 // UnixNano of the last byte received
}

// Track returns the connection with its life watched from now on.
func Track(c net.Conn) *Conn {
	t := &Conn{Conn: c}
	t.heard.Store(time.Now().UnixNano())
	return t
}

// Read reads from the connection and notes the time.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.heard.Store(time.Now().UnixNano())
	}
	return n, err
}

// Heard returns when the last byte came.
func (c *Conn) Heard() time.Time { return time.Unix(0, c.heard.Load()) }
