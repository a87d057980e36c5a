package tunnel_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// errRefused is what a network answers to a dial whose port nobody has.
var errRefused = errors.New("connection refused")

// mode is what a network does with what is sent.
type mode int

const (
	// carrying brings everything to its end after the latency.
	carrying mode = iota
	// swallowing brings nothing, not even the end of a connection, and answers no dial; what it had then is lost for good,
	// as behind a NAT that forgot its table.
	swallowing
	// refusing ends every dial at once.
	refusing
)

// network is one between agents and a relay for a bubble of synctest: its time is the bubble's, and its bandwidth has no
// bound. It is a net.Listener for the relay.
type network struct {
	latency time.Duration // of each direction
	ctx     context.Context
	cancel  context.CancelFunc
	pumps   sync.WaitGroup
	ready   chan net.Conn // dialled, and not yet accepted

	mu    sync.Mutex
	mode  mode          // guarded by mu
	gone  chan struct{} // guarded by mu; closed when the connections of this time are lost
	dials []time.Time   // guarded by mu; when agents dialled
}

func newNetwork(latency time.Duration) *network {
	n := &network{latency: latency, ready: make(chan net.Conn), gone: make(chan struct{})}
	n.ctx, n.cancel = context.WithCancel(context.Background()) // ended by Close
	return n
}

// set changes the network. Connections that are open when it begins to swallow never bring anything any more.
func (n *network) set(m mode) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if m == swallowing && n.mode != swallowing {
		close(n.gone)
		n.gone = make(chan struct{})
	}
	n.mode = m
}

// Dial is that of an agent.
func (n *network) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	n.mu.Lock()
	n.dials = append(n.dials, time.Now())
	m, gone := n.mode, n.gone
	n.mu.Unlock()
	switch m {
	case swallowing:
		<-ctx.Done()
		return nil, ctx.Err()
	case refusing:
		return nil, errRefused
	case carrying:
	}
	near, nearEnd := net.Pipe()
	far, farEnd := net.Pipe()
	select {
	case n.ready <- far:
	case <-n.ctx.Done():
		return nil, net.ErrClosed
	}
	n.pumps.Go(func() { n.carry(farEnd, nearEnd, gone) })
	n.pumps.Go(func() { n.carry(nearEnd, farEnd, gone) })
	return near, nil
}

// parcel is what travels: bytes, or the end of the connection.
type parcel struct {
	due   time.Time
	bytes []byte
	end   bool
}

// carry brings what comes from one end to the other, until either is closed. What is lost stays where it is until the
// network is closed: neither end learns of the other's.
func (n *network) carry(to, from net.Conn, gone <-chan struct{}) {
	under := make(chan parcel, 1<<14)
	n.pumps.Go(func() {
		defer close(under)
		for {
			buf := make([]byte, 32<<10)
			got, err := from.Read(buf)
			under <- parcel{due: time.Now().Add(n.latency), bytes: buf[:got], end: err != nil}
			if err != nil {
				return
			}
		}
	})
	for p := range under {
		select {
		case <-gone:
			if p.end {
				<-n.ctx.Done()
			}
			continue
		default:
		}
		time.Sleep(time.Until(p.due))
		if len(p.bytes) > 0 {
			to.Write(p.bytes) // whoever closed it knows
		}
		if p.end {
			to.Close()
		}
	}
}

// Accept returns the next connection for the relay.
func (n *network) Accept() (net.Conn, error) {
	select {
	case c := <-n.ready:
		return c, nil
	case <-n.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Close ends the network.
func (n *network) Close() error {
	n.cancel()
	return nil
}

// Addr returns an address without meaning.
func (n *network) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9443} }

// dialled returns when agents dialled since the last call.
func (n *network) dialled() []time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	dials := n.dials
	n.dials = nil
	return dials
}
