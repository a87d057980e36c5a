package tunnelserver

import (
	"net"
	"sync"
	"time"
)

// maxUnknown bounds the connections of which it is not known yet who they are of. Those that only wait for their turn to
// compute may be honest agents after an outage: they keep their place, and further ones wait in the kernel. Those that wait for the other
// side make room once they have done so for patienceWithUnknown, the one that has waited longest first: over any line that an agent can
// live with an answer comes sooner.
const (
	maxUnknown          = 2048
	patienceWithUnknown = 3 * time.Second
)

// A gate bounds the connections in the handshake. It is shared by the listener and the credentials. Connections are not
// wrapped: gRPC sets options of the socket where it sees one.
type gate struct {
	max  int
	left chan struct{} // one slot: somebody has left

	mu      sync.Mutex
	unknown map[net.Conn]time.Time // guarded by mu; since when it has waited for the other side, zero while it does not
}

func newGate(most int) *gate {
	return &gate{max: most, left: make(chan struct{}, 1), unknown: map[net.Conn]time.Time{}}
}

// enter takes a connection in once there is room, and reports false if stop is closed before.
func (g *gate) enter(conn net.Conn, stop <-chan struct{}) bool {
	for {
		wait, entered := g.tryEnter(conn, time.Now())
		if entered {
			return true
		}
		select {
		case <-g.left:
		case <-time.After(wait):
		case <-stop:
			return false
		}
	}
}

// tryEnter takes a connection in if there is room, or can be. Otherwise it returns how long it takes at most until it is worth a look.
func (g *gate) tryEnter(conn net.Conn, now time.Time) (wait time.Duration, entered bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.unknown) >= g.max {
		var oldest net.Conn
		since := now
		for c, waiting := range g.unknown {
			if !waiting.IsZero() && !waiting.After(since) {
				oldest, since = c, waiting
			}
		}
		if wait = patienceWithUnknown - now.Sub(since); wait > 0 || oldest == nil {
			return wait, false
		}
		delete(g.unknown, oldest)
		oldest.Close()
	}
	g.unknown[conn] = time.Time{}
	return 0, true
}

// leave lets a connection go, whose handshake has ended.
func (g *gate) leave(conn net.Conn) {
	g.mu.Lock()
	delete(g.unknown, conn)
	g.mu.Unlock()
	select {
	case g.left <- struct{}{}:
	default:
	}
}

// awaits notes from when on a connection waits for the other side; the zero time for not any more.
func (g *gate) awaits(conn net.Conn, since time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, in := g.unknown[conn]; in {
		g.unknown[conn] = since
	}
}

// gatedListener accepts when there is room.
type gatedListener struct {
	net.Listener

	gate   *gate
	closed chan struct{}
	once   sync.Once
}

func newGatedListener(l net.Listener, g *gate) *gatedListener {
	return &gatedListener{Listener: l, gate: g, closed: make(chan struct{})}
}

// Accept accepts a connection and waits until there is room for it.
func (l *gatedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if !l.gate.enter(conn, l.closed) {
		conn.Close()
		return nil, net.ErrClosed
	}
	return conn, nil
}

// Close closes the listener.
func (l *gatedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}
