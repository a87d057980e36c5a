package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"

	"pushrelay/internal/tunnel"
	"pushrelay/internal/tunnel/established"
)

const (
	// dialTimeout bounds one attempt, with its handshake.
	dialTimeout = 2 * time.Second
	// backoffBase and backoffMost are how long it takes until the next attempt.
	backoffBase = 100 * time.Millisecond
	backoffMost = 2 * time.Second
)

// client has one connection to each member that something was asked of. It is safe for concurrent use.
type client struct {
	cfg *Config // static

	mu     sync.Mutex
	conns  map[string]*grpc.ClientConn // guarded by mu; by member
	closed bool                        // guarded by mu
}

func newClient(cfg *Config) *client {
	return &client{cfg: cfg, conns: map[string]*grpc.ClientConn{}}
}

var errClosed = errors.New("this relay is stopping")

// conn returns the connection to a member. It is dialled when something is asked over it, and again whenever it is gone.
func (c *client) conn(member string) (*grpc.ClientConn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errClosed
	}
	if cc := c.conns[member]; cc != nil {
		return cc, nil
	}
	cc, err := grpc.NewClient("passthrough:///"+member,
		grpc.WithTransportCredentials(established.Credentials{}),
		grpc.WithContextDialer(func(ctx context.Context, member string) (net.Conn, error) { return c.dial(ctx, member) }),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: backoffBase, Multiplier: 1.6, Jitter: 0.2, MaxDelay: backoffMost},
			MinConnectTimeout: dialTimeout,
		}),
		grpc.WithIdleTimeout(0),
		grpc.WithDisableServiceConfig(),
		grpc.WithNoProxy(),
		grpc.WithInitialWindowSize(tunnel.StreamWindowBytes),
		grpc.WithInitialConnWindowSize(tunnel.ConnectionWindowBytes),
		grpc.WithReadBufferSize(tunnel.ReadBufferBytes),
		grpc.WithMaxHeaderListSize(tunnel.MaxHeaderBytes),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(tunnel.Codec{}), grpc.MaxCallRecvMsgSize(tunnel.MaxMessageBytes)),
	)
	if err != nil {
		return nil, fmt.Errorf("preparing the connection to member %q: %w", member, err)
	}
	c.conns[member] = cc
	return cc, nil
}

// peerConn is a connection to a member that this one dialled.
type peerConn struct{ net.Conn }

// AuthType names the way in which the member proved its identity.
func (peerConn) AuthType() string { return "mtls" }

// dial connects to a member, and finds out that it is the one.
func (c *client) dial(ctx context.Context, member string) (net.Conn, error) {
	address, ok := c.cfg.Address(member)
	if !ok {
		return nil, fmt.Errorf("dialling member %q: its address is not known", member)
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("dialling member %q: %w", member, err)
	}
	conn := tls.Client(tunnel.NewBurstReader(raw), withProtocol(c.cfg.ClientTLS()))
	if err := c.shakeHands(ctx, conn, member); err != nil {
		raw.Close() // The handshake's error says more.
		return nil, fmt.Errorf("dialling member %q at %s: %w", member, address, err)
	}
	return peerConn{conn}, nil
}

func (c *client) shakeHands(ctx context.Context, conn *tls.Conn, member string) error {
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	name, err := c.cfg.Identify(conn.ConnectionState())
	switch {
	case err != nil:
		return err
	case name != member:
		return fmt.Errorf("it is member %q", name)
	default:
		return nil
	}
}

// reset closes the connection to a member, so that nobody waits on it any more; the next one who asks dials anew.
func (c *client) reset(member string) {
	c.mu.Lock()
	cc := c.conns[member]
	delete(c.conns, member)
	c.mu.Unlock()
	if cc != nil {
		cc.Close() //nolint:errcheck // It is over either way.
	}
}

// isUp says whether there is a connection to a member.
func (c *client) isUp(member string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	cc := c.conns[member]
	return cc != nil && cc.GetState() == connectivity.Ready
}

// closeStrangers closes the connections to those who are members no more.
func (c *client) closeStrangers() {
	c.mu.Lock()
	var strangers []string
	for member := range c.conns {
		if !c.cfg.IsMember(member) {
			strangers = append(strangers, member)
		}
	}
	c.mu.Unlock()
	for _, member := range strangers {
		c.reset(member)
	}
}

// close closes all connections, for good.
func (c *client) close() {
	c.mu.Lock()
	c.closed = true
	conns := c.conns
	c.conns = nil
	c.mu.Unlock()
	for _, cc := range conns {
		cc.Close() //nolint:errcheck // As in reset.
	}
}
