package tunnelclient

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/monotonic"
	"pushrelay/internal/mtls"
	"pushrelay/internal/spool"
	"pushrelay/internal/target"
	"pushrelay/internal/tunnel"
)

// outboundEvents bounds the events that wait for the relay.
const outboundEvents = 64

// session is one connection to the relay and the Attach stream on it.
type session struct {
	// static after open
	link     *Link
	cc       *grpc.ClientConn
	conn     *tunnel.Conn
	client   relayv1.RelayServiceClient
	stream   relayv1.RelayService_AttachClient
	welcome  *relayv1.Welcome
	material *mtls.Material  // that it was opened with
	ctx      context.Context // ends with the session; its cause says why
	end      func(cause error)
	// toldTargets is the version of the targets that the hello had; 0 if it had none, because there are none yet or too many
	// for one message: on a narrow link they would take the time of the attempt.
	toldTargets uint64

	// out takes the events for the relay; owned by send, which alone writes to the stream.
	out chan *relayv1.AttachRequest
	// announced wakes send to announce the newest targets. One slot: whoever waits stands for all.
	announced chan struct{}

	roundTrip atomic.Int64   // nanoseconds, as the relay measured it; 0 before the first measurement
	alive     monotonic.Time // the relay's last heartbeat, the last chunk of a scrape that it took, or its last verdict
	scrapes   sync.WaitGroup // the goroutines that answer scrapes
	changes   *changeStream  // nil if the relay takes no pushes, or there is no spool
	// spoolChanged wakes the report on the spool. One slot.
	spoolChanged chan struct{}

	mu         sync.Mutex
	running    map[uint64]context.CancelFunc // guarded by mu; scrapes in progress
	deliveries map[uint64]*delivery          // guarded by mu; all that are open, by the scrape that they were opened for
	next       target.Set                    // guarded by mu; what to announce
}

// open dials the relay and attaches, in one attempt. On error nothing is left open.
func (l *Link) open(ctx context.Context, a *attempt) (*session, error) {
	s, err := l.connect(ctx, a)
	if err != nil {
		return nil, err
	}
	if err := s.attachIn(a); err != nil {
		return nil, err
	}
	return s, nil
}

// connect dials the relay for a session, which is still to be attached. The session ends with ctx.
func (l *Link) connect(ctx context.Context, a *attempt) (*session, error) {
	material := l.cfg.Certificates.Material()
	cc, conn, err := l.dial(a)
	if err != nil {
		return nil, err
	}
	s := &session{
		link: l, cc: cc, conn: conn, client: relayv1.NewRelayServiceClient(cc), material: material,
		out:        make(chan *relayv1.AttachRequest, outboundEvents),
		announced:  make(chan struct{}, 1),
		running:    map[uint64]context.CancelFunc{},
		deliveries: map[uint64]*delivery{},

		spoolChanged: make(chan struct{}, 1),
	}
	s.alive.SetNow()
	s.ctx, s.end = context.WithCancelCause(ctx)
	return s, nil
}

// attachIn attaches within an attempt. On error nothing is left open.
func (s *session) attachIn(a *attempt) error {
	// The session outlives the attempt, and ends with it only if there is no welcome by then.
	impatient := context.AfterFunc(a.ctx, func() { s.end(context.Cause(a.ctx)) })
	err := s.attach()
	impatient()
	if err != nil {
		s.end(err)
		s.close()
	}
	return err
}

// attach sends the hello and waits for the welcome.
func (s *session) attach() error {
	stream, err := s.client.Attach(s.ctx)
	if err != nil {
		return s.explain(err)
	}
	hello := &relayv1.Hello{
		ProtocolVersion: tunnel.ProtocolVersion,
		Capabilities:    capabilities,
		AgentVersion:    s.link.cfg.Version,
		ProcessId:       s.link.cfg.Process.id[:],
		Attach:          s.link.cfg.Process.attempts.Add(1),
	}
	var journal spool.JournalID
	if s.link.cfg.Spool != nil {
		journal = s.link.cfg.Spool.Journal()
		hello.JournalIds = tunnel.JournalIDsToProto([][16]byte{journal})
	}
	targets, version := s.link.announcedTargets()
	if parts := tunnel.TargetSets(targets); version > 0 && len(parts) == 1 {
		hello.Targets, s.toldTargets = parts[0], version
	}
	if err := stream.Send(&relayv1.AttachRequest{Event: &relayv1.AttachRequest_Hello{Hello: hello}}); err != nil {
		_, err = stream.Recv() // has the relay's reason; Send has only io.EOF
		return s.explain(err)
	}
	first, err := stream.Recv()
	if err != nil {
		return s.explain(err)
	}
	s.welcome = first.GetWelcome()
	if s.welcome.GetSession() == 0 {
		return errors.New("relay answered the hello with something else than a welcome")
	}
	s.stream = stream
	if s.link.cfg.Spool == nil || !tunnel.Has(s.welcome.GetCapabilities(), relayv1.Capability_CAPABILITY_PUSH) {
		return nil
	}
	welcome, err := tunnel.WelcomeFromProto(s.welcome)
	if err != nil {
		return err
	}
	return s.attachSpool(welcome, journal)
}

// capabilities are what this agent can do.
var capabilities = []relayv1.Capability{
	relayv1.Capability_CAPABILITY_SCRAPE,
	relayv1.Capability_CAPABILITY_SCRAPE_PATH,
	relayv1.Capability_CAPABILITY_DELIVER_AGAIN,
	relayv1.Capability_CAPABILITY_TARGETS_DENIED,
}

// run serves the session until it ends, and returns why. Nothing of the session is left when it returns.
func (s *session) run() error {
	var streams sync.WaitGroup
	streams.Go(func() { s.end(s.receive()) })
	streams.Go(func() { s.end(s.send()) })
	if s.changes != nil {
		s.changes.begin()
	}
	s.watch()
	err := context.Cause(s.ctx)
	s.close()
	streams.Wait()
	if s.changes != nil {
		s.changes.close()
	}
	s.scrapes.Wait()
	return err
}

// close closes the connection; every stream on it ends.
func (s *session) close() {
	s.cc.Close()   //nolint:errcheck // The session is over either way.
	s.conn.Close() //nolint:errcheck // As above.
}

// receive takes the relay's events until the stream ends.
func (s *session) receive() error {
	drains := false
	for {
		response, err := s.stream.Recv()
		if err != nil {
			return s.explain(err)
		}
		switch event := response.GetEvent().(type) {
		case *relayv1.AttachResponse_Scrape:
			s.startScrape(event.Scrape)
		case *relayv1.AttachResponse_ScrapeCancel:
			s.cancelScrape(event.ScrapeCancel.GetScrape())
		case *relayv1.AttachResponse_Heartbeat:
			s.alive.SetNow()
			s.roundTrip.Store(int64(max(0, event.Heartbeat.GetRoundTrip().AsDuration())))
			echo := &relayv1.HeartbeatEcho{SentAt: event.Heartbeat.GetSentAt(), EchoedAt: timestamppb.Now()}
			s.enqueue(&relayv1.AttachRequest{Event: &relayv1.AttachRequest_HeartbeatEcho{HeartbeatEcho: echo}})
			s.reportSpool()
		case *relayv1.AttachResponse_TargetsDenied:
			s.link.takeDenied(event.TargetsDenied)
		case *relayv1.AttachResponse_End:
			return &endedError{end: event.End}
		case *relayv1.AttachResponse_Drain:
			if drains {
				continue
			}
			drains = true
			s.link.cfg.Logger.Info("relay is about to stop", slog.String("addr", s.link.cfg.Address), slog.Duration("within", event.Drain.GetWithin().AsDuration()))
			if s.changes != nil && s.changes.ctx.Err() == nil {
				s.changes.feed.Drain()
			}
		}
	}
}

// explain returns why a stream ended, in words for the agent's operator.
func (s *session) explain(err error) error {
	if cause := context.Cause(s.ctx); cause != nil {
		return cause
	}
	st, ok := status.FromError(err)
	if !ok {
		return fmt.Errorf("session with relay: %w", err)
	}
	for _, detail := range st.Details() {
		if end, ok := detail.(*relayv1.SessionEnd); ok {
			return &endedError{end: end}
		}
	}
	// Without gRPC's codes, which say nothing to a person.
	return fmt.Errorf("session with relay: %s%s", tunnel.Text(st.Message()), stuckHint(s.conn.Stuck()))
}

// fullPacket is a size that a way with room for small packets only may not carry.
const fullPacket = 1000

// stuckHint says what it may mean that so many bytes were never acknowledged. It is empty if nothing large was under way.
func stuckHint(bytes int) string {
	if bytes < fullPacket {
		return ""
	}
	return fmt.Sprintf(" (%d bytes were under way and never acknowledged: if this comes again while small pushes pass, packets of full size do not: is the MTU on the way smaller than this machine's?)", bytes)
}

// send writes events for the relay until the session ends. It alone writes to the stream.
func (s *session) send() error {
	for {
		var events []*relayv1.AttachRequest
		select {
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		case event := <-s.out:
			events = []*relayv1.AttachRequest{event}
		case <-s.announced:
			s.mu.Lock()
			next := s.next
			s.mu.Unlock()
			for _, part := range tunnel.TargetSets(next) {
				events = append(events, &relayv1.AttachRequest{Event: &relayv1.AttachRequest_Targets{Targets: part}})
			}
		}
		for _, event := range events {
			if s.stream.Send(event) != nil {
				<-s.ctx.Done() // receive has the reason
				return context.Cause(s.ctx)
			}
		}
	}
}

// enqueue hands an event to send. It never waits: a relay that does not read is dead, and watch will see that.
func (s *session) enqueue(event *relayv1.AttachRequest) {
	select {
	case s.out <- event:
	default:
	}
}

// announce sends the targets soon; the newest set wins.
func (s *session) announce(targets target.Set) {
	s.mu.Lock()
	s.next = targets
	s.mu.Unlock()
	select {
	case s.announced <- struct{}{}:
	default:
	}
}

// moved notes that the relay has taken a part of a scrape, or decided a change.
func (s *session) moved() { s.alive.SetNow() }

var errSilent = errors.New("nothing was heard of the relay for too long")

// watch ends the session when the relay is silent (T4): a connection that brings nothing, or heartbeats that fail to come
// while no scrape makes progress either.
func (s *session) watch() {
	look := time.NewTimer(tunnel.SilenceLimit)
	defer look.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case now := <-look.C:
			alive := s.alive.Load()
			if heard := s.conn.Heard(); heard.Before(alive) {
				alive = heard
			}
			left := tunnel.SilenceLimit - now.Sub(alive)
			if left <= 0 {
				s.end(fmt.Errorf("%w%s", errSilent, stuckHint(s.conn.InFlight().Bytes)))
				return
			}
			look.Reset(left)
		}
	}
}
