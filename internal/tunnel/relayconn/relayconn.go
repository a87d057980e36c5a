// Package relayconn is what the agent's two ways to a relay share, that of sessions and that of enrolment: an HTTP proxy that is asked to CONNECT,
// the wait for the relay's first byte, and a gRPC client on one connection whose handshake is done.
//
// It knows neither certificates nor sessions, and dials nobody. Start reading at [NewClient].
package relayconn

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
)

// NewClient returns a gRPC client on a connection whose handshake is done, with its TLS state. The client gets the connection once: when it is gone, all
// calls fail. The caller closes both.
func NewClient(conn net.Conn, state tls.ConnectionState, address string, options ...grpc.DialOption) (*grpc.ClientConn, error) {
	cc, err := grpc.NewClient("passthrough:///"+address, append(options,
		grpc.WithTransportCredentials(&established{state: state}),
		grpc.WithContextDialer(once(conn)),
		grpc.WithIdleTimeout(0),
		grpc.WithDisableServiceConfig(),
		grpc.WithNoProxy(), // whoever dialled has seen to it
	)...)
	if err != nil {
		return nil, fmt.Errorf("preparing the connection: %w", err)
	}
	return cc, nil
}

// AwaitRelay waits until the relay has spoken, and returns a connection on which it still has to be read. With TLS 1.3 the agent's handshake is done before
// the relay looks at the agent's certificate, and a refusal is an error of the first read; gRPC would write first and lose it. The relay speaks
// first in HTTP/2, so that this costs no round trip.
func AwaitRelay(ctx context.Context, conn net.Conn) (net.Conn, error) {
	stop := EndWith(ctx, conn)
	defer stop()
	reader := bufio.NewReaderSize(conn, 16)
	if _, err := reader.Peek(1); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	return &readAheadConn{Conn: conn, reader: reader}, nil
}

// EndWith ends what is read from or written to a connection when ctx ends, until the function that it returns is called.
func EndWith(ctx context.Context, conn net.Conn) (stop func() bool) {
	return context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) }) //nolint:errcheck // A closed connection needs no deadline.
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
