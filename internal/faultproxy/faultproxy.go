// Package faultproxy is a bad network on loopback, for tests: a TCP proxy between two programs that can stop copying
// without closing, cut, delay, throttle, lose connections at random and refuse new ones, at any moment and as the test
// says.
//
// It knows no protocol: what it carries are bytes. What it cannot do is lose packets below TCP, so both programs keep a
// connection to the proxy that looks well to their kernels, as behind a middlebox that swallows everything. Start reading
// at [Conditions].
package faultproxy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// Direction is a way through the proxy, seen from who dialled it. The zero value is neither.
type Direction int

// The directions. Both is Up | Down.
const (
	// Up leads from who dialled the proxy to the address behind it.
	Up Direction = 1 << iota
	// Down leads back.
	Down
	// Both is the whole connection.
	Both = Up | Down
)

// Conditions is the state of the network. The zero value carries everything at once. Conditions may be combined.
type Conditions struct {
	// Freeze stops copying in these directions: nothing that was sent arrives, not even the end of a connection, and
	// nobody is told. What was under way arrives when a later [Proxy.Set] lifts the freeze.
	Freeze Direction
	// Latency delays every byte, and every end of a connection, in each direction. A round trip takes twice as long.
	Latency time.Duration
	// BytesPerSecond bounds each direction, shared by all connections; 0 is no bound. The queue in front of the bottleneck
	// is the receive buffer of the proxy's sockets, [QueueBytes] each.
	BytesPerSecond int64
	// MeanBytesToCut cuts each connection that begins under it with a reset, after a random number of bytes in both
	// directions together that is this on average; 0 never does. The numbers follow from [Config.Seed] and the order of
	// the connections.
	MeanBytesToCut int64
	// BytesToCut cuts each connection with a reset after exactly this many bytes in both directions together, counted
	// from its begin; 0 never does.
	BytesToCut int64
	// Refuse resets every new connection as soon as it is accepted.
	Refuse bool
}

// QueueBytes is what a socket of the proxy is asked to take in before the sender has to wait. The kernel doubles it.
const QueueBytes = 64 << 10

// Ending is how a connection is cut.
type Ending int

// The endings.
const (
	// Reset ends with RST: whoever writes or reads gets an error.
	Reset Ending = iota
	// Finish ends with FIN, as if the other side had closed in good order.
	Finish
)

// Config is what a [Proxy] works with.
type Config struct {
	// Address is where accepted connections lead, host:port. Required.
	Address string
	// Seed decides what happens at random; equal seeds and equal traffic give equal cuts.
	Seed uint64
}

// Proxy is a running proxy. It is safe for concurrent use.
type Proxy struct {
	// static after Listen
	address  string
	listener net.Listener
	ctx      context.Context // ends with Close; bounds dialling
	cancel   context.CancelFunc
	running  sync.WaitGroup // the accept loop and all that carries connections; Close waits for it

	mu         sync.Mutex
	conditions Conditions                 // guarded by mu
	changed    chan struct{}              // guarded by mu; closed and replaced by Set
	links      map[*link]bool             // guarded by mu; the open connections
	accepted   int                        // guarded by mu
	random     *rand.Rand                 // guarded by mu
	free       [len(directions)]time.Time // guarded by mu; when the bottleneck of a direction has sent what it was given
}

// directions are the indices of per-direction state.
var directions = [...]Direction{Up, Down}

// Listen starts a proxy on a free port of 127.0.0.1. The caller closes it.
func Listen(cfg Config) (*Proxy, error) {
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0") // binding does not wait
	if err != nil {
		return nil, fmt.Errorf("listening for the faulty network: %w", err)
	}
	p := &Proxy{
		address: cfg.Address, listener: listener, changed: make(chan struct{}), links: map[*link]bool{},
		random: rand.New(rand.NewPCG(cfg.Seed, 0)),
	}
	p.ctx, p.cancel = context.WithCancel(context.Background()) // ended by Close
	p.running.Go(p.accept)
	return p, nil
}

// Addr returns the address to dial instead of the one behind the proxy.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Set changes the network from now on, for open and for new connections.
func (p *Proxy) Set(c Conditions) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conditions = c
	close(p.changed)
	p.changed = make(chan struct{})
}

// Cut ends all open connections, on both sides and whatever is frozen, and returns how many there were. New ones are
// carried as ever. What was under way is lost.
func (p *Proxy) Cut(how Ending) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.cut(how)
	}
	return len(p.links)
}

// Open returns the number of open connections.
func (p *Proxy) Open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

// Accepted returns the number of connections that were accepted so far, refused ones included.
func (p *Proxy) Accepted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.accepted
}

// Close ends all connections and waits until nothing of the proxy is left.
func (p *Proxy) Close() {
	p.cancel()
	p.listener.Close()
	p.Cut(Reset)
	p.running.Wait()
}

// state returns the conditions and a channel that is closed when they change.
func (p *Proxy) state() (Conditions, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.conditions, p.changed
}

func (p *Proxy) accept() {
	for {
		near, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // a connection that ended before it was accepted
		}
		p.mu.Lock()
		p.accepted++
		refuse := p.conditions.Refuse
		p.mu.Unlock()
		if refuse {
			end(near, Reset)
			continue
		}
		p.running.Go(func() { p.carry(near) })
	}
}

// carry connects an accepted connection through and returns when it is over.
func (p *Proxy) carry(near net.Conn) {
	l := newLink(p, near)
	p.mu.Lock()
	p.links[l] = true // from here on Cut ends it
	if mean := p.conditions.MeanBytesToCut; mean > 0 {
		l.life = int64(p.random.ExpFloat64()*float64(mean)) + 1
	}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.links, l)
		p.mu.Unlock()
	}()
	far, err := new(net.Dialer).DialContext(p.ctx, "tcp", p.address)
	if err != nil {
		l.cut(Reset) // as if nothing listened here
		return
	}
	if p.ctx.Err() != nil { // Close may not have seen the link
		l.cut(Reset)
	}
	if l.reach(far) {
		l.run()
	}
}

// reserve takes room for n bytes at the bottleneck of a direction and returns when they have passed it.
func (p *Proxy) reserve(d Direction, n int) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.conditions.BytesPerSecond <= 0 {
		return now
	}
	i := 0
	if d == Down {
		i = 1
	}
	begin := p.free[i]
	if begin.Before(now) {
		begin = now
	}
	p.free[i] = begin.Add(time.Duration(float64(n) / float64(p.conditions.BytesPerSecond) * float64(time.Second)))
	return p.free[i]
}

// end closes a connection in one of the two ways.
func end(c net.Conn, how Ending) {
	if tcp, ok := c.(*net.TCPConn); ok && how == Reset {
		tcp.SetLinger(0) //nolint:errcheck // A connection that is closed already has its end.
	}
	c.Close()
}
