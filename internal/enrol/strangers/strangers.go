// Package strangers takes in the connections of those of whom nothing is known yet, who want a certificate.
//
// It promises that whatever they send has a bound: how many they have at once, in all and of one address, how long each of them lasts, how much it
// carries, and that it carries one call. Those of an address that fails often have less. It does not know what they ask for. Start reading at [Port].
package strangers

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"pushrelay/internal/enrol"
	"pushrelay/internal/tunnel/established"
)

// Port serves calls of strangers. It is safe for concurrent use.
type Port struct {
	// static after New
	grpc     *grpc.Server
	arrivals *established.Listener
	attempts *attempts
}

// New returns a port. Register says what is served. It starts nothing.
func New(register func(grpc.ServiceRegistrar)) *Port {
	p := &Port{arrivals: established.NewListener("strangers", maxAttempts), attempts: newAttempts(), grpc: grpc.NewServer(
		grpc.Creds(established.Credentials{}),
		grpc.ConnectionTimeout(enrol.AttemptTimeout),
		grpc.MaxRecvMsgSize(enrol.MaxMessageBytes),
		grpc.MaxHeaderListSize(8<<10),
		grpc.MaxConcurrentStreams(1),
		grpc.InitialWindowSize(64<<10),
		grpc.InitialConnWindowSize(64<<10),
		grpc.ReadBufferSize(4<<10),
		grpc.WriteBufferSize(4<<10),
		grpc.WaitForHandlers(true),
	)}
	register(p.grpc)
	return p
}

// Take takes over a connection after its handshake. It does not wait.
func (p *Port) Take(conn *tls.Conn) {
	attempt, admitted := p.attempts.enter(conn)
	switch {
	case !admitted:
		conn.Close() //nolint:errcheck // There is no room for it, and it may come back.
	case !p.arrivals.Put(attempt):
		attempt.Close() //nolint:errcheck // As above.
	}
}

// Serve serves the connections that [Port.Take] takes until Stop.
func (p *Port) Serve() error {
	if err := p.grpc.Serve(p.arrivals); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serving those who want a certificate: %w", err)
	}
	return nil
}

// Stop closes all connections and waits for what runs.
func (p *Port) Stop() { p.grpc.Stop() }

// Failed counts a failure of whoever made the attempt.
func (p *Port) Failed(a *Attempt) { p.attempts.failed(a) }

// AttemptOf returns the attempt that a call belongs to. There is one call to each.
func AttemptOf(ctx context.Context) (*Attempt, error) {
	p, _ := peer.FromContext(ctx)
	from, ok := p.AuthInfo.(*Attempt)
	if !ok {
		return nil, status.Error(codes.Unauthenticated, "the call did not come over TLS")
	}
	if !from.called.CompareAndSwap(false, true) {
		return nil, status.Error(codes.FailedPrecondition, "a connection is for one call: open another one")
	}
	return from, nil
}
