package faultproxy

import (
	"errors"
	"io"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// pieceBytes is how much is copied at once: small, so that a freeze and a cut fall between few bytes.
const pieceBytes = 4 << 10

// maxPieces bounds what is under way in one direction of a connection because of latency: 4 MiB.
const maxPieces = 1024

// link is one connection through the proxy.
type link struct {
	// static
	proxy *Proxy
	near  net.Conn      // towards who dialled
	over  chan struct{} // closed by cut
	life  int64         // bytes after which the link is cut at random, while that happens; 0: never

	copied atomic.Int64 // bytes in both directions

	mu     sync.Mutex
	far    net.Conn // guarded by mu until run begins; towards the address behind, nil while it is dialled
	isOver bool     // guarded by mu
	ending Ending   // guarded by mu; how it was cut
}

func newLink(p *Proxy, near net.Conn) *link {
	narrow(near)
	return &link{proxy: p, near: near, over: make(chan struct{})}
}

func narrow(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		tcp.SetReadBuffer(QueueBytes) //nolint:errcheck // A larger queue is a worse network still.
	}
}

// reach gives the link its far side. If it was cut meanwhile, that side ends as the near one did.
func (l *link) reach(far net.Conn) (alive bool) {
	narrow(far)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isOver {
		end(far, l.ending)
		return false
	}
	l.far = far
	return true
}

// cut ends the link on both sides. It does not wait.
func (l *link) cut(how Ending) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isOver {
		return
	}
	l.isOver, l.ending = true, how
	close(l.over)
	end(l.near, how)
	if l.far != nil {
		end(l.far, how)
	}
}

// run carries both directions until both have ended.
func (l *link) run() {
	var both sync.WaitGroup
	both.Go(func() { l.carry(Up, l.near, l.far) })
	both.Go(func() { l.carry(Down, l.far, l.near) })
	both.Wait()
	l.cut(Finish) // nothing is left to be sent: this only frees the sockets
}

// piece is some bytes under way, or with err the end of them.
type piece struct {
	bytes []byte
	err   error
	due   time.Time // when it arrives
}

// carry copies one direction, with one goroutine that takes bytes in and one that lets them out when they are due.
func (l *link) carry(d Direction, from, to net.Conn) {
	under := make(chan piece, maxPieces)
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(under)
		l.take(d, from, under)
	})
	l.let(d, under, to)
	for range under { // whoever takes in must not wait for somebody who lets nothing out any more
	}
	reading.Wait()
}

// take reads until the sender ends, or the link is cut.
func (l *link) take(d Direction, from net.Conn, under chan<- piece) {
	for l.thawed(d) {
		bytes := make([]byte, pieceBytes)
		n, err := from.Read(bytes)
		passed := time.Now()
		if n > 0 {
			passed = l.proxy.reserve(d, n)
			if !l.wait(passed) {
				return
			}
		}
		conditions, _ := l.proxy.state()
		under <- piece{bytes: bytes[:n], err: err, due: passed.Add(conditions.Latency)}
		if err != nil {
			return
		}
	}
}

// let writes pieces when they are due, and passes the end on, until the link is cut.
func (l *link) let(d Direction, under <-chan piece, to net.Conn) {
	for p := range under {
		if !l.wait(p.due) || !l.thawed(d) {
			return
		}
		if len(p.bytes) > 0 && !l.deliver(p.bytes, to) {
			return
		}
		switch {
		case errors.Is(p.err, io.EOF):
			if tcp, ok := to.(*net.TCPConn); ok {
				tcp.CloseWrite() //nolint:errcheck // Whoever closed already needs no end.
			}
		case p.err != nil:
			l.cut(Reset)
		}
	}
}

// deliver writes bytes, unless they are more than the link has left to live: then it is cut behind the last one that it
// still carries.
func (l *link) deliver(bytes []byte, to net.Conn) (alive bool) {
	after := l.copied.Add(int64(len(bytes)))
	if excess := after - l.lifetime(); excess >= 0 {
		to.Write(bytes[:max(0, int64(len(bytes))-excess)]) //nolint:errcheck // The link ends either way.
		l.cut(Reset)
		return false
	}
	if _, err := to.Write(bytes); err != nil {
		// The receiver is gone. What tells the sender takes the way back, which may be frozen.
		if l.thawed(Both &^ l.direction(to)) {
			l.cut(Reset)
		}
		return false
	}
	return true
}

// lifetime returns after how many bytes the link is to be cut, as the network is now.
func (l *link) lifetime() int64 {
	conditions, _ := l.proxy.state()
	lifetime := int64(math.MaxInt64)
	if conditions.MeanBytesToCut > 0 && l.life > 0 {
		lifetime = l.life
	}
	if conditions.BytesToCut > 0 {
		lifetime = min(lifetime, conditions.BytesToCut)
	}
	return lifetime
}

// direction returns the way that leads to the connection.
func (l *link) direction(to net.Conn) Direction {
	if to == l.far {
		return Up
	}
	return Down
}

// thawed waits while the direction is frozen. It reports false when the link was cut meanwhile.
func (l *link) thawed(d Direction) bool {
	for {
		conditions, changed := l.proxy.state()
		if conditions.Freeze&d == 0 {
			break
		}
		select {
		case <-changed:
		case <-l.over:
			return false
		}
	}
	select {
	case <-l.over:
		return false
	default:
		return true
	}
}

// wait waits for a moment. It reports false when the link was cut meanwhile.
func (l *link) wait(until time.Time) bool {
	left := time.Until(until)
	if left <= 0 {
		return true
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.over:
		return false
	}
}
