package tunnelclient

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"pushrelay/internal/mtls"
	"pushrelay/internal/tunnel"
	"pushrelay/internal/tunnel/relayconn"
)

// dial opens a connection to the relay and proves who is at either end. The connection is the transport of one session:
// gRPC gets it once, and a session whose connection is gone is over.
func (l *Link) dial(a *attempt) (*grpc.ClientConn, *tunnel.Conn, error) {
	raw, err := l.dialTCP(a)
	if err != nil {
		return nil, nil, err
	}
	ready, state, err := l.shakeHands(a.ctx, raw)
	if err != nil {
		raw.Close()
		return nil, nil, fmt.Errorf("TLS handshake with relay %s: %w", l.cfg.Address, a.explain(err))
	}
	cc, err := relayconn.NewClient(ready, state, l.cfg.Address,
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: tunnel.PingInterval, Timeout: tunnel.PingTimeout, PermitWithoutStream: true}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(tunnel.MaxMessageBytes)),
		grpc.WithMaxHeaderListSize(tunnel.MaxHeaderBytes),
		grpc.WithReadBufferSize(tunnel.ReadBufferBytes),
		grpc.WithWriteBufferSize(tunnel.BurstBytes),
		grpc.WithInitialWindowSize(tunnel.AgentWindowBytes),
		grpc.WithInitialConnWindowSize(tunnel.AgentWindowBytes),
	)
	if err != nil {
		raw.Close()
		return nil, nil, err
	}
	return cc, a.conn.Load(), nil
}

// shakeHands proves who is at either end, and returns the connection once the relay has spoken on it.
func (l *Link) shakeHands(ctx context.Context, raw net.Conn) (net.Conn, tls.ConnectionState, error) {
	host, _, err := net.SplitHostPort(l.cfg.Address)
	if err != nil {
		host = l.cfg.Address
	}
	bursts := tunnel.NewBurstWriter(raw)
	conn := tls.Client(bursts, mtls.AgentTLSConfig(l.cfg.Certificates, host))
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, tls.ConnectionState{}, mtls.ExplainHandshake(mtls.Agent, err)
	}
	ready, err := relayconn.AwaitRelay(ctx, conn)
	if err != nil {
		return nil, tls.ConnectionState{}, mtls.ExplainHandshake(mtls.Agent, err)
	}
	return bursts.Over(ready), conn.ConnectionState(), nil
}

func (l *Link) dialTCP(a *attempt) (net.Conn, error) {
	if l.cfg.Proxy == nil {
		conn, err := a.dial(l.addresses.dialNext, l.cfg.Address)
		if err != nil {
			return nil, fmt.Errorf("dialling relay: %w", err)
		}
		return conn, nil
	}
	conn, err := a.dial(l.addresses.dialNext, relayconn.ProxyAddress(l.cfg.Proxy))
	if err != nil {
		return nil, fmt.Errorf("dialling proxy %s: %w", l.cfg.Proxy.Host, err)
	}
	stop := relayconn.EndWith(a.ctx, conn)
	defer stop()
	tunnelled, err := relayconn.Connect(conn, l.cfg.Proxy, l.cfg.Address)
	if err != nil {
		conn.Close() //nolint:errcheck // What the proxy said is the reason.
		return nil, a.explain(err)
	}
	return tunnelled, nil
}
