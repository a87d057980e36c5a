package tunnel

import (
	"net"
	"sync/atomic"
	"time"

	"pushrelay/internal/monotonic"
)

// Conn is the transport of one session. It knows when the last byte came, and what was under way when it ended.
type Conn struct {
	net.Conn

	heard monotonic.Time // when the last byte came
	stuck atomic.Int64   // see Stuck
}

// InFlight is what this end's system knows of bytes that were written and that the other end's has not acknowledged.
type InFlight struct {
	// Known says that the system tells.
	Known bool
	Bytes int
	// Repeats is how often the oldest of them were sent again since anything was acknowledged.
	Repeats int
}

// stuckRepeats is from how many repetitions on bytes count as stuck: they take seconds.
const stuckRepeats = 3

// Track returns the connection with its life watched from now on.
func Track(c net.Conn) *Conn {
	tracked := &Conn{Conn: c}
	tracked.heard.SetNow()
	return tracked
}

// Read reads from the connection and notes the time.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.heard.SetNow()
	}
	return n, err
}

// Close closes the connection, and notes before that whether anything is stuck: a closed socket tells nothing.
func (c *Conn) Close() error {
	if f := c.InFlight(); f.Repeats >= stuckRepeats {
		c.stuck.Store(int64(f.Bytes))
	}
	return c.Conn.Close()
}

// Heard returns when the last byte came, with a monotonic reading.
func (c *Conn) Heard() time.Time { return c.heard.Load() }

// InFlight returns what is under way now.
func (c *Conn) InFlight() InFlight { return inFlight(c.Conn) }

// Stuck returns how many bytes were under way when the connection was closed, if they had been sent again and again; else 0.
func (c *Conn) Stuck() int { return int(c.stuck.Load()) }
