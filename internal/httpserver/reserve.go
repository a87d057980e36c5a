package httpserver

import (
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/time/rate"

	"pushrelay/internal/monotonic"
)

const (
	// leastReserve and mostReserve bound the reserve, which is an eighth of all descriptors otherwise.
	leastReserve = 4
	mostReserve  = 128
	// lookedAt is how many connections are looked at to find the one to close: all of them, where descriptors are few.
	lookedAt = 1024
	// tellEvery is how often it is logged that descriptors are short.
	tellEvery = 10 * time.Second
)

// A reserve keeps some file descriptors free, whoever connects: without, a few senders of half a body would keep a program
// from answering anybody, and from writing its log. When descriptors are short, the HTTP connection that nothing was heard of
// or sent to for the longest time is closed for each that comes.
type reserve struct {
	limit, kept int // of all descriptors; 0 for no limit
	logger      *slog.Logger

	mu     sync.Mutex
	open   map[*watchedConn]bool // guarded by mu; the HTTP connections
	told   *rate.Limiter
	closed int // guarded by mu; connections that were closed since it was told
}

func newReserve(logger *slog.Logger) *reserve {
	limit := descriptorLimit()
	return &reserve{
		limit: limit, kept: min(max(limit/8, leastReserve), mostReserve), logger: logger,
		open: map[*watchedConn]bool{}, told: rate.NewLimiter(rate.Every(tellEvery), 1),
	}
}

// A share says whose connections a listener accepts.
type share int

const (
	// httpShare may use all but the reserve.
	httpShare share = iota
	// otherShare leaves as much again to HTTP, and its connections are never closed for others.
	otherShare
)

// guard returns a listener that keeps the reserve. One whose descriptor cannot be seen is returned as it is.
func (r *reserve) guard(l net.Listener, whose share) net.Listener {
	visible, ok := l.(syscall.Conn)
	if !ok || r.limit == 0 {
		return l
	}
	raw, err := visible.SyscallConn()
	if err != nil {
		return l
	}
	return &guardedListener{Listener: l, raw: raw, reserve: r, share: whose}
}

type guardedListener struct {
	net.Listener

	raw     syscall.RawConn
	reserve *reserve
	share   share
}

// Accept accepts a connection, and closes another one, or this one, if descriptors are short.
func (l *guardedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			if isOutOfDescriptors(err) {
				l.reserve.makeRoom(nil, 0)
			}
			return nil, err // The server tries again in a moment.
		}
		if conn = l.admit(conn); conn != nil {
			return conn, nil
		}
	}
}

// admit returns the connection as it is to be served; nil if there is no room for it.
func (l *guardedListener) admit(conn net.Conn) net.Conn {
	kept, spared := l.reserve.kept, 0
	var watched *watchedConn
	if l.share == httpShare {
		watched = l.reserve.watch(conn)
		conn = watched
	} else {
		kept, spared = 2*kept, kept // What HTTP has within its own share stays.
	}
	if lowest, ok := lowestFree(l.raw); (!ok || lowest >= l.reserve.limit-kept) && !l.reserve.makeRoom(watched, spared) {
		conn.Close()
		return nil
	}
	return conn
}

// makeRoom closes the HTTP connection that has been silent longest, other than the one given, unless there are no more than
// spared, and reports whether it did.
func (r *reserve) makeRoom(except *watchedConn, spared int) bool {
	r.mu.Lock()
	var silent *watchedConn
	looked := 0
	for c := range r.open {
		if looked++; looked > lookedAt {
			break
		}
		if c != except && (silent == nil || c.movedAt.Load().Before(silent.movedAt.Load())) {
			silent = c
		}
	}
	if len(r.open) <= spared {
		silent = nil
	}
	r.closed++
	closed, tell := r.closed, r.told.Allow()
	if tell {
		r.closed = 0
	}
	r.mu.Unlock()
	if tell {
		r.logger.Warn("file descriptors are short: for each connection that comes the one that was silent longest is closed; allow more (ulimit -n, LimitNOFILE), or see who connects",
			slog.Int("limit", r.limit), slog.Int("closed", closed))
	}
	if silent == nil {
		return false
	}
	silent.Close() //nolint:errcheck // Whoever serves it sees that it is closed.
	return true
}

func (r *reserve) watch(conn net.Conn) *watchedConn {
	w := &watchedConn{Conn: conn, reserve: r}
	w.movedAt.SetNow()
	r.mu.Lock()
	r.open[w] = true
	r.mu.Unlock()
	return w
}

// watchedConn notes when something moved on a connection last.
type watchedConn struct {
	net.Conn

	reserve *reserve
	movedAt monotonic.Time
}

// Read reads and notes that something came.
func (c *watchedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.movedAt.SetNow()
	}
	return n, err
}

// Write writes and notes that something was taken.
func (c *watchedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if n > 0 {
		c.movedAt.SetNow()
	}
	return n, err
}

// CloseWrite ends what is sent and goes on reading, which net/http does so that an early answer arrives.
func (c *watchedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// Close closes the connection and forgets it.
func (c *watchedConn) Close() error {
	c.reserve.mu.Lock()
	delete(c.reserve.open, c)
	c.reserve.mu.Unlock()
	return c.Conn.Close()
}
