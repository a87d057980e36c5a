package tunnelserver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"maps"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"pushrelay/internal/enrol"
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/httpserver"
	"pushrelay/internal/mtls"
	"pushrelay/internal/tunnel"
)

// maxHandshakes bounds the handshakes that compute: a storm of agents then waits for its turn in its own sockets, and the
// sessions that are there keep their share of the processors. One that waits for the network has no turn, see [turnConn].
const maxHandshakes = 64

// connection is one connection of an agent. Its pointer is its identity: every call on the connection sees the same one.
type connection struct {
	credentials.TLSInfo
	peer      mtls.PeerID
	conn      *tunnel.Conn
	number    int         // of the connections that the agent had when it came, with this one
	patience  *time.Timer // closes it unless a session begins
	waste     *httpserver.Waste
	attaching atomic.Bool // there is, or was, an attempt to open a session on it
}

// AuthType names the way in which the agent proved its identity.
func (*connection) AuthType() string { return "mtls" }

func (c *connection) addr() string { return c.conn.RemoteAddr().String() }

// certificate is the agent's.
func (c *connection) certificate() *x509.Certificate { return c.State.PeerCertificates[0] }

func (c *connection) notAfter() time.Time { return c.certificate().NotAfter }

// serial is the number of the agent's certificate.
func (c *connection) serial() string { return mtls.Serial(c.certificate()) }

// close closes the socket, whatever state TLS and HTTP/2 are in.
func (c *connection) close() {
	c.conn.Close() //nolint:errcheck // It is over either way.
}

// connectionOf returns the connection that a call came on.
func connectionOf(ctx context.Context) (*connection, error) {
	if p, ok := peer.FromContext(ctx); ok {
		if c, ok := p.AuthInfo.(*connection); ok {
			return c, nil
		}
	}
	return nil, status.Error(codes.Unauthenticated, "the call did not come over mutual TLS")
}

// countWaste counts the calls of a connection that come to nothing: those that the agent gives up, and those that are refused. Those that bring the
// answers to scrapes do too when a scraper gives up, which is no fault of the agent's: DeliverScrape says which count.
func countWaste(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	err := handler(srv, stream)
	if err != nil && info.FullMethod != relayv1.RelayService_DeliverScrape_FullMethodName {
		if conn, unknown := connectionOf(stream.Context()); unknown == nil {
			conn.waste.Add()
		}
	}
	return err
}

// countUnaryWaste is countWaste for the other calls.
func countUnaryWaste(ctx context.Context, in any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	out, err := handler(ctx, in)
	if err != nil {
		if conn, unknown := connectionOf(ctx); unknown == nil {
			conn.waste.Add()
		}
	}
	return out, err
}

// unknownCall answers calls that there are none of, so that they are counted as well.
func unknownCall(any, grpc.ServerStream) error {
	return status.Error(codes.Unimplemented, "the relay has no such call")
}

// relayCredentials does the TLS handshake of accepted connections. gRPC's own would not tell the connection of a call.
type relayCredentials struct {
	config    *tls.Config
	others    map[string]Protocol // by the name that connections offer
	slots     chan struct{}
	gate      *gate
	admission *admission
	refusals  *refusals
	// attachesRefused counts those of agents that are too many.
	attachesRefused prometheus.Counter
}

func newCredentials(cfg *Config, g *gate, a *admission, m *metrics) *relayCredentials {
	others := protocols(cfg)
	return &relayCredentials{
		config:    tlsConfig(cfg, others),
		others:    others,
		slots:     make(chan struct{}, maxHandshakes),
		gate:      g,
		admission: a,
		refusals:  newRefusals(cfg.Logger, m),

		attachesRefused: m.attachesRefused,
	}
}

// protocols returns those of the port beside that of agents.
func protocols(cfg *Config) map[string]Protocol {
	others := maps.Clone(cfg.Protocols)
	if cfg.Enrolment == nil {
		return others
	}
	if others == nil {
		others = map[string]Protocol{}
	}
	others[enrol.Protocol] = cfg.Enrolment
	return others
}

// tlsConfig returns the configuration of the port: that of agents for all but those that offer another protocol (I3, C17).
func tlsConfig(cfg *Config, others map[string]Protocol) *tls.Config {
	config := mtls.RelayTLSConfig(cfg.Certificates, cfg.Revoked)
	agents := config.GetConfigForClient
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		for _, name := range hello.SupportedProtos {
			if other := others[name]; other != nil {
				return other.TLSConfig(), nil
			}
		}
		return agents(hello)
	}
	return config
}

// ServerHandshake verifies the agent. gRPC has set the connection's deadline, which leaves the socket open when it is over: what
// is still in it tells why nothing came. A connection of another protocol ends here for gRPC, and is handed over.
func (c *relayCredentials) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	defer c.gate.leave(raw)
	tracked := tunnel.Track(raw)
	turns := &turnConn{Conn: tracked, raw: raw, gate: c.gate, slots: c.slots}
	conn := tls.Server(tunnel.NewBurstReader(turns), c.config)
	err := turns.shakeHands(conn)
	if other := c.others[conn.ConnectionState().NegotiatedProtocol]; err == nil && other != nil {
		raw.SetDeadline(time.Time{}) //nolint:errcheck // It was the handshake's.
		other.Take(conn)
		return nil, nil, credentials.ErrConnDispatched
	}
	var id mtls.PeerID
	if err == nil {
		id, err = mtls.PeerIDFromState(conn.ConnectionState())
	}
	if err != nil {
		c.refusals.add(tracked, conn.ConnectionState(), err)
		conn.Close() //nolint:errcheck // The handshake's error says more.
		return nil, nil, err
	}
	info := credentials.TLSInfo{
		State:          conn.ConnectionState(),
		CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
	}
	return c.admit(conn, &connection{TLSInfo: info, peer: id, conn: tracked, waste: httpserver.NewWaste()})
}

// errTooMany ends a handshake of an agent that has connections beyond what is worth an answer.
var errTooMany = errors.New("the agent has too many connections")

// admit counts a connection, which has a while to begin a session.
func (c *relayCredentials) admit(conn net.Conn, known *connection) (net.Conn, credentials.AuthInfo, error) {
	agent := known.peer.Agent
	admitted := &admittedConn{Conn: conn, waste: known.waste, left: sync.OnceFunc(func() { c.admission.leave(agent) })}
	known.number = c.admission.connect(agent)
	if known.number > maxConnections+maxRefused {
		admitted.Close() //nolint:errcheck // Nobody is told.
		c.attachesRefused.Inc()
		return nil, nil, errTooMany
	}
	known.patience = time.AfterFunc(tunnel.HandshakeTimeout, func() {
		known.close()
		admitted.left() // gRPC may have given the connection up before it knew this one
	})
	return admitted, known, nil
}

// turnConn is a connection whose handshake has a turn while it computes, and none while it waits for what the other side
// sends. Otherwise some silent connections, which anybody can open, would keep every agent out.
type turnConn struct {
	net.Conn
	raw    net.Conn // as it is known at the gate
	gate   *gate
	slots  chan struct{}
	inTurn atomic.Bool // during the handshake
}

// shakeHands does the handshake of the TLS connection over this one, in its turn.
func (c *turnConn) shakeHands(conn *tls.Conn) error {
	c.slots <- struct{}{}
	c.inTurn.Store(true)
	defer func() {
		c.inTurn.Store(false)
		<-c.slots
	}()
	return conn.HandshakeContext(context.Background()) // gRPC hands over no context
}

// Read reads, without a turn while the handshake is in progress.
func (c *turnConn) Read(p []byte) (int, error) {
	if !c.inTurn.Load() {
		return c.Conn.Read(p)
	}
	<-c.slots
	c.gate.awaits(c.raw, time.Now())
	defer func() {
		c.gate.awaits(c.raw, time.Time{})
		c.slots <- struct{}{}
	}()
	return c.Conn.Read(p)
}

// ClientHandshake is not for the relay, which dials nobody.
func (c *relayCredentials) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("the relay dials nobody")
}

// Info describes the protocol.
func (c *relayCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone returns the same credentials: they hold nothing that changes.
func (c *relayCredentials) Clone() credentials.TransportCredentials { return c }

// OverrideServerName has no meaning here.
func (c *relayCredentials) OverrideServerName(string) error { return nil }
