// Package tunnelserver is the relay's end of the tunnel: the gRPC service that agents dial into.
//
// A session implements scrape.Scraper by asking its agent; changes that agents send go to a push.Applier. The package
// knows no store. Every stream has one goroutine that receives and one that sends; queues are bounded, and a full one
// fails what it was for and nothing else. Start reading at [Server], then session.go.
package tunnelserver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/history"
	"pushrelay/internal/loglimit"
	"pushrelay/internal/metric"
	"pushrelay/internal/mtls"
	"pushrelay/internal/push"
	"pushrelay/internal/roster"
	"pushrelay/internal/tunnel"
)

// closeGrace is how long a connection stays open after its session ended, so that the reason reaches the agent. The agent
// closes it as soon as it knows.
const closeGrace = 5 * time.Second

// Config is what a [Server] works with. All fields are required unless they say otherwise.
type Config struct {
	// Certificates are the relay's.
	Certificates *mtls.Reloader
	// Revoked says which certificates are refused, in the handshake and as long as a session lives; nil refuses none.
	Revoked mtls.Revoked
	// Enrolment gives certificates to agents; nil for a relay that gives none.
	Enrolment Enrolment
	// Protocols are the other protocols that the port speaks beside those of agents, by the name that connections offer (ALPN).
	Protocols map[string]Protocol
	// Registry takes the sessions.
	Registry *roster.Registry
	// Applier takes the changes that agents send.
	Applier push.Applier
	// Budget bounds the bodies of all pushes, those over HTTP included. What comes from agents takes at most half of it (T21).
	Budget *push.Budget
	// Timeout is how long a change may take until it is decided; 0 for no bound. What takes longer may come again later.
	Timeout time.Duration
	// Journals is asked how far agents' journals were decided, and told how far they are passed.
	Journals Journals
	// Limits are announced to agents and applied to what they send.
	Limits exposition.Limits
	// AgentLabel, Names and OwnFamilies are announced, so that agents can refuse what this relay would. OwnFamilies are the types, by name, of
	// the families that are exposed beside the groups, none if a push of another type is taken all the same.
	AgentLabel  string
	Names       metric.NameScheme
	OwnFamilies map[string]metric.Type
	// MaxScrapeBodyBytes is announced; the scrape handler applies it.
	MaxScrapeBodyBytes int64
	// StoreID identifies the store that pushes go to.
	StoreID [16]byte
	// History returns where that store has been. Its present epoch never changes.
	History func() history.History
	// Version is the relay's, for people.
	Version string
	Logger  *slog.Logger
	// Registerer takes the server's metrics.
	Registerer prometheus.Registerer
}

// Journals knows how far changes with an origin were decided (T12).
type Journals interface {
	// Decided returns the highest sequence of the agent's journal that was decided, and the digest of that change; ok is
	// false for a journal that was not met. It must not be behind any change that took effect before it was called.
	Decided(agent string, journal [16]byte) (sequence uint64, digest change.Digest, ok bool)
	// Forget says that the agent will never send changes of the journal again that are numbered up to through.
	Forget(agent string, journal [16]byte, through uint64)
}

// Protocol is another protocol on the port, told apart by what a connection offers.
type Protocol interface {
	// TLSConfig returns the TLS configuration of a connection that offers the protocol.
	TLSConfig() *tls.Config
	// Take takes over such a connection after its handshake. It does not wait.
	Take(conn *tls.Conn)
}

// Enrolment is what is needed of enrolserver.Server.
type Enrolment interface {
	// Protocol is [enrol.Protocol].
	Protocol
	// CanSign reports whether certificates are renewed here.
	CanSign() bool
	// Renew issues the next certificate after the verified one of a session. Its error travels as a status.
	Renew(certificate *x509.Certificate, request []byte, address string) (*relayv1.IssuedCertificate, error)
}

// Server serves agents. It is safe for concurrent use.
type Server struct {
	relayv1.UnimplementedRelayServiceServer

	// static after New
	cfg     Config
	metrics *metrics
	epoch   history.EpochID // the store's
	grpc    *grpc.Server
	budget  *push.Budget  // of agents' bodies
	changes chan struct{} // one per change that is being decided
	// ownFamilies are the same in each welcome.
	ownFamilies []*relayv1.OwnFamily

	// senders counts the goroutines that send to an Attach stream. They may end after their handler has returned; Stop
	// waits for them.
	senders   sync.WaitGroup
	storm     storm
	gate      *gate
	admission *admission
	lines     *loglimit.Limiter // by agent

	mu       sync.Mutex
	sessions map[*connection]*session // guarded by mu
	draining bool                     // guarded by mu
}

// New returns a server. It starts nothing.
func New(cfg Config) *Server {
	s := &Server{
		cfg: cfg, metrics: newMetrics(cfg.Registerer, cfg.Certificates), sessions: map[*connection]*session{}, epoch: cfg.History().Current(),
		budget: cfg.Budget.Share(), changes: make(chan struct{}, maxChangesInFlight),
		gate: newGate(maxUnknown), admission: newAdmission(), lines: loglimit.New(), ownFamilies: tunnel.OwnFamiliesToProto(cfg.OwnFamilies),
	}
	if share := s.budget.Size(); share > 0 && (cfg.Limits.MaxDecompressedBytes == 0 || cfg.Limits.MaxDecompressedBytes > share) {
		s.cfg.Limits.MaxDecompressedBytes = share // a body beyond it could never be taken, and agents should know
	}
	s.grpc = grpc.NewServer(
		grpc.Creds(newCredentials(&s.cfg, s.gate, s.admission, s.metrics)),
		grpc.ConnectionTimeout(tunnel.HandshakeTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: tunnel.PingInterval, Timeout: tunnel.PingTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: tunnel.MinPingInterval, PermitWithoutStream: true}),
		grpc.ForceServerCodecV2(tunnel.Codec{}),
		grpc.MaxRecvMsgSize(tunnel.MaxMessageBytes),
		grpc.MaxHeaderListSize(tunnel.MaxHeaderBytes),
		grpc.MaxConcurrentStreams(tunnel.MaxStreams),
		grpc.InitialWindowSize(tunnel.StreamWindowBytes),
		grpc.InitialConnWindowSize(tunnel.ConnectionWindowBytes),
		grpc.ReadBufferSize(tunnel.ReadBufferBytes),
		grpc.WaitForHandlers(true),
		grpc.StreamInterceptor(countWaste),
		grpc.UnaryInterceptor(countUnaryWaste),
		grpc.UnknownServiceHandler(unknownCall),
	)
	relayv1.RegisterRelayServiceServer(s.grpc, s)
	return s
}

// Serve accepts agents on the listener until Stop. It closes the listener.
func (s *Server) Serve(listener net.Listener) error {
	err := s.grpc.Serve(newGatedListener(listener, s.gate))
	if err != nil && !errors.Is(err, grpc.ErrServerStopped) { // that is for one that was stopped before
		return fmt.Errorf("serving agents: %w", err)
	}
	return nil
}

// Drain tells the agents that the relay stops, takes no new sessions, and waits until nothing is in flight or ctx ends;
// then it ends the sessions. Scrapes must have been stopped at the registry before. Stop comes next: GracefulStop of gRPC
// would forbid agents the very calls that it waits for (T7).
func (s *Server) Drain(ctx context.Context) {
	s.mu.Lock()
	s.draining = true
	open := make([]*session, 0, len(s.sessions))
	for _, ss := range s.sessions {
		open = append(open, ss)
	}
	s.mu.Unlock()

	deadline, _ := ctx.Deadline()
	for _, ss := range open {
		ss.announceDrain(time.Until(deadline))
	}
	idle := time.NewTicker(20 * time.Millisecond)
	defer idle.Stop()
	for _, ss := range open {
		for ss.inFlight.Load() > 0 && ctx.Err() == nil {
			select {
			case <-idle.C:
			case <-ss.ctx.Done():
				ss.inFlight.Store(0)
			case <-ctx.Done():
			}
		}
	}
	for _, ss := range open {
		ss.end(&sessionEnd{reason: relayv1.SessionEndReason_SESSION_END_REASON_DRAINING, message: "relay is stopping"})
	}
	// The agents take the reason and close; Stop would cut them off.
	for s.attached() > 0 && ctx.Err() == nil {
		<-idle.C
	}
}

func (s *Server) attached() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

// Stop closes all connections and waits until nothing of them is left.
func (s *Server) Stop() {
	s.grpc.Stop()
	s.senders.Wait()
	s.storm.stop()
}

// Attach opens a session. See relay.proto.
func (s *Server) Attach(stream relayv1.RelayService_AttachServer) error {
	conn, err := connectionOf(stream.Context())
	if err != nil {
		return err
	}
	if !conn.attaching.CompareAndSwap(false, true) {
		return status.Error(codes.FailedPrecondition, "the connection has a session already")
	}
	ss, hello, err := s.begin(stream, conn)
	if err != nil {
		time.AfterFunc(closeGrace, conn.close) // a connection is for one attempt
		return err
	}
	defer s.close(ss)
	end := ss.run(hello)
	s.metrics.ended(end)
	s.log(slog.LevelInfo, ss.agent, "agent detached", slog.String("addr", conn.addr()), slog.String("reason", end.name()), slog.Duration("duration", time.Since(ss.startedAt).Round(time.Millisecond)))
	return end.status().Err()
}

// log logs a line about an agent that the agent can bring about.
func (s *Server) log(level slog.Level, agent, message string, attrs ...slog.Attr) {
	s.lines.Log(s.cfg.Logger, level, agent, message, append([]slog.Attr{slog.String("agent", agent)}, attrs...)...)
}

// begin opens a session on a connection that has none.
func (s *Server) begin(stream relayv1.RelayService_AttachServer, conn *connection) (*session, *relayv1.Hello, error) {
	if end := s.admission.attach(conn); end != nil {
		s.metrics.attachesRefused.Inc()
		s.log(slog.LevelWarn, conn.peer.Agent, "agent refused", slog.String("addr", conn.addr()), slog.String("reason", "too_often"), slog.String("detail", end.message))
		return nil, nil, end.status().Err()
	}
	hello, err := s.receiveHello(stream)
	if err != nil {
		return nil, nil, err
	}
	ss, err := s.open(stream, conn, hello)
	if err == nil {
		conn.patience.Stop()
	}
	return ss, hello, err
}

// receiveHello waits for the first message, not for ever: the connection of an agent that sends none is closed.
func (s *Server) receiveHello(stream relayv1.RelayService_AttachServer) (*relayv1.Hello, error) {
	first, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	hello := first.GetHello()
	_, journalsErr := tunnel.JournalIDsFromProto(hello.GetJournalIds())
	switch {
	case hello == nil:
		return nil, status.Error(codes.InvalidArgument, "the first message of Attach must be a hello")
	case len(hello.GetProcessId()) != 16:
		return nil, status.Errorf(codes.InvalidArgument, "the hello's process_id has %d bytes, want 16", len(hello.GetProcessId()))
	case journalsErr != nil:
		return nil, status.Error(codes.InvalidArgument, journalsErr.Error())
	case hello.GetProtocolVersion() < tunnel.ProtocolVersion:
		end := &sessionEnd{
			reason:  relayv1.SessionEndReason_SESSION_END_REASON_INCOMPATIBLE,
			message: fmt.Sprintf("agent speaks protocol version %d, this relay speaks %d: upgrade the agent", hello.GetProtocolVersion(), tunnel.ProtocolVersion),
		}
		return nil, end.status().Err()
	}
	return hello, nil
}

// open makes the session current on its connection and with the registry.
func (s *Server) open(stream relayv1.RelayService_AttachServer, conn *connection, hello *relayv1.Hello) (*session, error) {
	ss := newSession(stream, s, conn, hello)
	s.mu.Lock()
	if s.draining {
		s.mu.Unlock()
		end := &sessionEnd{reason: relayv1.SessionEndReason_SESSION_END_REASON_DRAINING, message: "relay is stopping"}
		return nil, end.status().Err()
	}
	// The connection goes with its session (T2), a little later, so that the reason arrives; also when the agent does not
	// read, and nothing can be sent.
	context.AfterFunc(ss.ctx, func() { time.AfterFunc(closeGrace, conn.close) })
	s.sessions[conn] = ss // not current before it has an attachment
	s.mu.Unlock()

	targets, announced := ss.helloTargets(hello)
	registration := roster.Registration{
		Targets:             targets,
		HasTargets:          announced,
		Agent:               ss.agent,
		Session:             ss,
		ProcessID:           [16]byte(hello.GetProcessId()),
		Attach:              hello.GetAttach(),
		Version:             tunnel.Version(hello.GetAgentVersion()),
		RemoteAddress:       conn.addr(),
		CertificateNotAfter: conn.notAfter(),
		CertificateSerial:   conn.serial(),
		TrustDomain:         conn.peer.TrustDomain,
	}
	if s.cfg.Revoked != nil {
		registration.Refused = func() (string, bool) { return s.cfg.Revoked(conn.peer, conn.State.VerifiedChains) }
	}
	attachment, err := s.cfg.Registry.Register(registration)
	if err != nil {
		return nil, s.refuse(ss, err)
	}
	s.mu.Lock()
	ss.attachment = attachment
	s.mu.Unlock()
	s.storm.attach()
	s.log(slog.LevelInfo, ss.agent, "agent attached", slog.String("addr", conn.addr()), slog.String("version", tunnel.Version(hello.GetAgentVersion())), slog.Uint64("session", ss.attachment.Number))
	return ss, nil
}

// refuse ends a session that has not begun, since its certificate was revoked after the handshake, its name is another's or may be, or its process has begun a
// later one, and returns the error of its call.
func (s *Server) refuse(ss *session, reason error) error {
	end, code := refusal(reason)
	ss.cancel(end)
	s.mu.Lock()
	delete(s.sessions, ss.conn)
	s.mu.Unlock()
	s.log(slog.LevelWarn, ss.agent, "agent refused", slog.String("audit", "refused"), slog.String("addr", ss.conn.addr()), slog.String("serial", ss.conn.serial()), slog.String("reason", code),
		slog.String("detail", reason.Error()))
	return end.status().Err()
}

// close forgets the session.
func (s *Server) close(ss *session) {
	ss.out.close()
	ss.attachment.Close()
	s.mu.Lock()
	delete(s.sessions, ss.conn)
	s.mu.Unlock()
}

// sessionOn returns the session of the number if it is current, on the connection that the call came on (T2).
func (s *Server) sessionOn(ctx context.Context, number uint64) (*session, error) {
	conn, err := connectionOf(ctx)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ss := s.sessions[conn]
	if ss == nil || ss.attachment == nil || ss.attachment.Number != number || ss.ctx.Err() != nil {
		return nil, status.Errorf(codes.FailedPrecondition, "session %d is not current on this connection", number)
	}
	return ss, nil
}
