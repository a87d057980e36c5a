package enroltest

import (
	"context"
	"errors"
	"net"
	"sync"
)

// Network is one between agents and a relay, in memory, for bubbles of synctest. It is the relay's [net.Listener].
type Network struct {
	ready  chan net.Conn
	closed chan struct{}
	once   sync.Once

	mu   sync.Mutex
	down bool // guarded by mu
}

// NewNetwork returns a network that is up.
func NewNetwork() *Network {
	return &Network{ready: make(chan net.Conn), closed: make(chan struct{})}
}

// errDown is what a dial gets while the network is down.
var errDown = errors.New("connection refused")

// SetDown has the network refuse dials from now on, or take them again.
func (n *Network) SetDown(down bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down = down
}

// IsDown says whether it refuses dials.
func (n *Network) IsDown() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.down
}

// Dial opens a connection to the relay.
func (n *Network) Dial(ctx context.Context) (net.Conn, error) {
	if n.IsDown() {
		return nil, errDown
	}
	near, far := net.Pipe()
	select {
	case n.ready <- far:
		return near, nil
	case <-n.closed:
		return nil, errDown
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept is the relay's.
func (n *Network) Accept() (net.Conn, error) {
	select {
	case c := <-n.ready:
		return c, nil
	case <-n.closed:
		return nil, net.ErrClosed
	}
}

// Close ends the network.
func (n *Network) Close() error {
	n.once.Do(func() { close(n.closed) })
	return nil
}

// Addr has no meaning.
func (*Network) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9443} }
