package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/push"
	"pushrelay/internal/tunnel"
	"pushrelay/internal/tunnel/established"
)

// Bounds of what one member may have here at once. It needs one connection, and another one while it thinks the first is gone.
const (
	maxConnections = 4
	maxStreams     = 2048
)

// lookInterval is how often connections of members that are none any more are closed.
const lookInterval = time.Second

// Server serves the members that dial this one. It is a tunnelserver.Protocol.
type Server struct {
	relayv1.UnimplementedMemberServiceServer

	// static
	cfg      *Config
	budget   *push.Budget // of what others hand on
	grpc     *grpc.Server
	arrivals *established.Listener
	states   *states
	metrics  *metrics
	tasks    sync.WaitGroup // what of streams may end after them; run waits for it

	mu    sync.Mutex
	open  map[*memberConn]bool // guarded by mu
	seats map[string]*seat     // guarded by mu; by member, the stream on which it hands changes on
}

func newServer(cfg *Config, st *states, m *metrics) *Server {
	s := &Server{
		cfg: cfg, budget: cfg.Budget.Share(), arrivals: established.NewListener("members", 64), states: st, metrics: m,
		open: map[*memberConn]bool{}, seats: map[string]*seat{},
	}
	s.grpc = grpc.NewServer(
		grpc.Creds(established.Credentials{}),
		grpc.ConnectionTimeout(tunnel.HandshakeTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: tunnel.PingInterval, Timeout: tunnel.PingTimeout}),
		grpc.ForceServerCodecV2(tunnel.Codec{}),
		grpc.MaxRecvMsgSize(tunnel.MaxMessageBytes),
		grpc.MaxHeaderListSize(tunnel.MaxHeaderBytes),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.InitialWindowSize(tunnel.StreamWindowBytes),
		grpc.InitialConnWindowSize(tunnel.ConnectionWindowBytes),
		grpc.ReadBufferSize(tunnel.ReadBufferBytes),
		grpc.WaitForHandlers(true),
		grpc.UnaryInterceptor(s.membersOnly),
		grpc.StreamInterceptor(s.membersOnlyStream),
	)
	relayv1.RegisterMemberServiceServer(s.grpc, s)
	return s
}

// TLSConfig returns the TLS configuration of a connection that offers [Protocol].
func (s *Server) TLSConfig() *tls.Config { return withProtocol(s.cfg.ServerTLS()) }

// withProtocol returns a configuration that speaks the protocol of members and nothing else.
func withProtocol(config *tls.Config) *tls.Config {
	config = config.Clone()
	config.MinVersion, config.NextProtos = tls.VersionTLS13, []string{Protocol}
	return config
}

// Take takes over a connection after its handshake. It does not wait.
func (s *Server) Take(conn *tls.Conn) {
	c, err := s.admit(conn)
	if err == nil && !s.arrivals.Put(c) {
		err = errors.New("too many connections of members come at once")
		s.leave(c)
	}
	if err != nil {
		conn.Close() //nolint:errcheck // It may come back.
		s.cfg.Logger.Warn("connection of a member refused", slog.String("addr", conn.RemoteAddr().String()), slog.Any("err", err))
	}
}

// A memberConn is a connection of a member that dialled this one.
type memberConn struct {
	*tls.Conn
	member string
	left   func()
}

// AuthType names the way in which the member proved its identity.
func (*memberConn) AuthType() string { return "mtls" }

// Close closes the connection.
func (c *memberConn) Close() error {
	c.left()
	return c.Conn.Close()
}

func (s *Server) admit(conn *tls.Conn) (*memberConn, error) {
	name, err := s.cfg.Identify(conn.ConnectionState())
	switch {
	case err != nil:
		return nil, err
	case !s.cfg.IsMember(name):
		return nil, fmt.Errorf("%q is no member of the cluster", name)
	}
	c := &memberConn{Conn: conn, member: name}
	c.left = sync.OnceFunc(func() { s.leave(c) })
	s.mu.Lock()
	defer s.mu.Unlock()
	has := 0
	for other := range s.open {
		if other.member == name {
			has++
		}
	}
	if has >= maxConnections {
		return nil, fmt.Errorf("member %q has %d connections already", name, has)
	}
	s.open[c] = true
	return c, nil
}

// isConnected says whether a member has a connection to this one.
func (s *Server) isConnected(member string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.open {
		if c.member == member {
			return true
		}
	}
	return false
}

func (s *Server) leave(c *memberConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
}

// run serves until ctx ends.
func (s *Server) run(ctx context.Context) error {
	var looking sync.WaitGroup
	defer s.tasks.Wait()
	defer looking.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	looking.Go(func() {
		defer s.grpc.Stop()
		every(ctx, lookInterval, s.look)
	})
	if err := s.grpc.Serve(s.arrivals); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serving members: %w", err)
	}
	return nil
}

// every calls do again and again until ctx ends.
func every(ctx context.Context, interval time.Duration, do func()) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			do()
		case <-ctx.Done():
			return
		}
	}
}

// look closes the connections of those who are members no more, and has the store forget what processes numbered that are gone.
func (s *Server) look() {
	s.mu.Lock()
	var strangers []*memberConn
	for c := range s.open {
		if !s.cfg.IsMember(c.member) {
			strangers = append(strangers, c)
		}
	}
	s.mu.Unlock()
	for _, c := range strangers {
		c.NetConn().Close() // gRPC sees that, and closes the rest.
	}
	if !s.cfg.Leader().Leads {
		return
	}
	for _, incarnation := range s.cfg.Journals() {
		if s.cfg.Gone(incarnation) {
			forget(s.cfg.Store, "", incarnation, math.MaxUint64)
		}
	}
}

// caller returns the member that a call came from.
func (s *Server) caller(ctx context.Context) (string, error) {
	p, _ := peer.FromContext(ctx)
	c, ok := p.AuthInfo.(*memberConn)
	if !ok {
		return "", status.Error(codes.Unauthenticated, "the call did not come over a connection of a member")
	}
	if !s.cfg.IsMember(c.member) {
		return "", status.Errorf(codes.PermissionDenied, "%q is no member of the cluster any more", c.member)
	}
	return c.member, nil
}

func (s *Server) membersOnly(ctx context.Context, in any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if _, err := s.caller(ctx); err != nil {
		return nil, err
	}
	return handler(ctx, in)
}

func (s *Server) membersOnlyStream(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if _, err := s.caller(stream.Context()); err != nil {
		return err
	}
	return handler(srv, stream)
}
