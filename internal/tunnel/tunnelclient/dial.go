package tunnelclient

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"pushrelay/internal/mtls"
	"pushrelay/internal/tunnel"
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
	cc, err := grpc.NewClient("passthrough:///"+l.cfg.Address,
		grpc.WithTransportCredentials(&established{state: state}),
		grpc.WithContextDialer(once(ready)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: tunnel.PingInterval, Timeout: tunnel.PingTimeout, PermitWithoutStream: true}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(tunnel.MaxMessageBytes)),
		grpc.WithMaxHeaderListSize(tunnel.MaxHeaderBytes),
		grpc.WithReadBufferSize(tunnel.ReadBufferBytes),
		grpc.WithWriteBufferSize(tunnel.BurstBytes),
		grpc.WithInitialWindowSize(tunnel.AgentWindowBytes),
		grpc.WithInitialConnWindowSize(tunnel.AgentWindowBytes),
		grpc.WithIdleTimeout(0),
		grpc.WithDisableServiceConfig(),
		grpc.WithNoProxy(), // dialTCP has seen to it
	)
	if err != nil {
		raw.Close()
		return nil, nil, fmt.Errorf("preparing the session: %w", err)
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
	ready, err := awaitRelay(ctx, conn)
	if err != nil {
		return nil, tls.ConnectionState{}, err
	}
	return bursts.Over(ready), conn.ConnectionState(), nil
}

// awaitRelay waits until the relay has spoken. With TLS 1.3 the agent's handshake is done before the relay looks at the
// agent's certificate, and a refusal is an error of the first read; gRPC would write first and lose it. The relay speaks
// first in HTTP/2, so that this costs no round trip.
func awaitRelay(ctx context.Context, conn net.Conn) (net.Conn, error) {
	stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) }) //nolint:errcheck // A closed connection needs no deadline.
	defer stop()
	reader := bufio.NewReaderSize(conn, 16)
	if _, err := reader.Peek(1); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, mtls.ExplainHandshake(mtls.Agent, err)
	}
	return &readAheadConn{Conn: conn, reader: reader}, nil
}

// errSpent keeps gRPC from dialling again behind the session's back.
var errSpent = errors.New("a session has one connection, and it is gone")

// once returns a dialer that hands the connection out a single time.
func once(conn net.Conn) func(context.Context, string) (net.Conn, error) {
	ready := make(chan net.Conn, 1)
	ready <- conn
	return func(context.Context, string) (net.Conn, error) {
		select {
		case c := <-ready:
			return c, nil
		default:
			return nil, errSpent
		}
	}
}

func (l *Link) dialTCP(a *attempt) (net.Conn, error) {
	if l.cfg.Proxy == nil {
		conn, err := a.dial(l.addresses.dialNext, l.cfg.Address)
		if err != nil {
			return nil, fmt.Errorf("dialling relay: %w", err)
		}
		return conn, nil
	}
	conn, err := a.dial(l.addresses.dialNext, proxyAddress(l.cfg.Proxy))
	if err != nil {
		return nil, fmt.Errorf("dialling proxy %s: %w", l.cfg.Proxy.Host, err)
	}
	stop := context.AfterFunc(a.ctx, func() { conn.SetDeadline(time.Unix(1, 0)) }) //nolint:errcheck // A closed connection needs no deadline.
	defer stop()
	tunnelled, err := connect(conn, l.cfg.Proxy, l.cfg.Address)
	if err != nil {
		conn.Close() //nolint:errcheck // What the proxy said is the reason.
		return nil, a.explain(err)
	}
	return tunnelled, nil
}

// readAheadConn reads first what came together with what was waited for.
type readAheadConn struct {
	net.Conn
	reader *bufio.Reader
}

// Read reads from the buffer and then from the connection.
func (c *readAheadConn) Read(p []byte) (int, error) { return c.reader.Read(p) }

// established tells gRPC of a TLS connection whose handshake is done. gRPC's own handshake would hide why it failed.
type established struct {
	state tls.ConnectionState
}

// ClientHandshake returns the connection as it is.
func (e *established) ClientHandshake(_ context.Context, _ string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return conn, credentials.TLSInfo{
		State:          e.state,
		CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
	}, nil
}

// ServerHandshake is not for the agent, whom nobody dials.
func (e *established) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("nobody dials the agent")
}

// Info describes the protocol.
func (e *established) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone returns the same credentials: they hold nothing that changes.
func (e *established) Clone() credentials.TransportCredentials { return e }

// OverrideServerName has no meaning after the handshake.
func (e *established) OverrideServerName(string) error { return nil }
