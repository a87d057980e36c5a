package tunnelserver

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/metric"
	"pushrelay/internal/monotonic"
	"pushrelay/internal/roster"
	"pushrelay/internal/tunnel"
)

// session is one attached agent. It implements roster.Session.
type session struct {
	// static after open
	server     *Server
	conn       *connection
	agent      string
	startedAt  time.Time
	attachment *roster.Attachment
	path       bool          // the agent honours ScrapeRequest.path
	again      bool          // the agent honours ScrapeRequest.deliver_on
	denials    bool          // the agent takes TargetsDenied
	slots      chan struct{} // one per change in progress
	window     window        // bytes of the bodies of changes that come in or are in progress
	pushing    atomic.Bool   // there is a stream of changes
	// ctx ends with the session; its cause is a *sessionEnd. It is the Attach stream's, less what ends it here.
	ctx    context.Context
	cancel context.CancelCauseFunc

	// stream is received from by run, and sent to by out alone.
	stream relayv1.RelayService_AttachServer
	out    outbox

	inFlight  atomic.Int64 // scrapes and changes in progress
	roundTrip atomic.Int64 // nanoseconds, 0 before the first measurement
	// alive is when the last echo came, or the last part of a scrape or change.
	alive monotonic.Time

	// owned by receive
	targets   announcedTargets  // what came of them
	forgotten tunnel.SpoolState // the last that said how far a journal is passed
	copyAt    string            // the address of a relay that the agent takes for a copy; empty for none

	mu         sync.Mutex
	scrapes    map[uint64]*scrapeCall // guarded by mu; those that no stream answers yet
	lastScrape uint64                 // guarded by mu
	excused    uint64                 // guarded by mu; calls for scrapes that nobody waited for any more
	kept       []*delivery            // guarded by mu; streams between two answers
	dropping   bool                   // guarded by mu; a timer for dropUnused runs
}

func newSession(stream relayv1.RelayService_AttachServer, s *Server, conn *connection, hello *relayv1.Hello) *session {
	ss := &session{
		server:    s,
		conn:      conn,
		agent:     conn.peer.Agent,
		startedAt: time.Now(),
		path:      tunnel.Has(hello.GetCapabilities(), relayv1.Capability_CAPABILITY_SCRAPE_PATH),
		again:     tunnel.Has(hello.GetCapabilities(), relayv1.Capability_CAPABILITY_DELIVER_AGAIN),
		denials:   tunnel.Has(hello.GetCapabilities(), relayv1.Capability_CAPABILITY_TARGETS_DENIED),
		slots:     make(chan struct{}, tunnel.MaxUnacknowledgedChanges),
		window:    newWindow(),
		stream:    stream,
		scrapes:   map[uint64]*scrapeCall{},
		targets:   newAnnouncedTargets(),
	}
	ss.alive.SetNow()
	ss.ctx, ss.cancel = context.WithCancelCause(stream.Context())
	return ss
}

// run serves the session until its stream ends and returns why.
func (ss *session) run(hello *relayv1.Hello) *sessionEnd {
	ss.out.open(ss, &relayv1.AttachResponse{Event: &relayv1.AttachResponse_Welcome{Welcome: ss.welcome(hello)}})
	if hello.GetTargets().GetMore() {
		ss.takeTargets(hello.GetTargets()) // the rest comes
	}
	stop := ss.watch()
	defer stop()
	ss.receive()
	ss.takeCopy("")
	ss.cancel(errConnectionLost)
	return endOf(ss.ctx)
}

// end ends the session and tells the agent why. The agent then closes the connection, or else the relay does.
func (ss *session) end(why *sessionEnd) {
	ss.cancel(why)
	if endOf(ss.ctx) == why {
		ss.enqueue(&relayv1.AttachResponse{Event: &relayv1.AttachResponse_End{End: why.proto()}})
	}
}

// welcome answers the hello. The session is registered: nothing of an earlier one takes effect any more, so that what the
// welcome says of journals is all that there is.
func (ss *session) welcome(hello *relayv1.Hello) *relayv1.Welcome {
	cfg := &ss.server.cfg
	limits := tunnel.LimitsToProto(cfg.Limits)
	limits.MaxConcurrentScrapes = uint32(cfg.Registry.MaxConcurrentScrapes(ss.agent))
	limits.MaxScrapeBodyBytes = uint64(cfg.MaxScrapeBodyBytes)
	limits.AgentLabel = cfg.AgentLabel
	limits.Utf8Names = cfg.Names == metric.UTF8Names
	return &relayv1.Welcome{
		Session:         ss.attachment.Number,
		ProtocolVersion: tunnel.ProtocolVersion,
		Capabilities:    ss.server.capabilities(),
		RelayVersion:    cfg.Version,
		StoreId:         cfg.StoreID[:],
		Limits:          limits,
		Journals:        ss.journals(hello),
		History:         tunnel.HistoryToProto(cfg.History()),
		OwnFamilies:     ss.server.ownFamilies,
	}
}

// journals returns how far the journals were decided that the hello asks after. Those that are not known are left out.
func (ss *session) journals(hello *relayv1.Hello) []*relayv1.JournalState {
	var states []*relayv1.JournalState
	journals, _ := tunnel.JournalIDsFromProto(hello.GetJournalIds()) // a hello that it refuses began no session
	for _, journal := range journals {
		if sequence, digest, ok := ss.server.cfg.Journals.Decided(ss.agent, journal); ok {
			states = append(states, tunnel.JournalToProto(tunnel.JournalState{Journal: journal, Decided: sequence, Digest: digest}))
		}
	}
	return states
}

// takeSpool takes what waits at the agent, and lets go of what will never come again. It is only looked at if it says more
// than before: agents send it with every echo.
func (ss *session) takeSpool(s tunnel.SpoolState) {
	ss.attachment.SetSpoolPending(s.Pending)
	ss.takeCopy(s.CopyAt)
	if s.Journal == ss.forgotten.Journal && s.DecidedThrough <= ss.forgotten.DecidedThrough || !ss.attachment.Current() {
		return
	}
	ss.forgotten = s
	ss.server.cfg.Journals.Forget(ss.agent, s.Journal, s.DecidedThrough)
}

// takeCopy takes what the agent says of another relay with a copy of this relay's store.
func (ss *session) takeCopy(at string) {
	if at == ss.copyAt {
		return
	}
	if at != "" {
		ss.server.log(slog.LevelWarn, ss.agent, "another relay runs on a copy of this relay's store: what is pushed to one of the two is not at the other; stop one of them, or give it an empty --data.dir",
			slog.String("other_relay", at))
	}
	ss.server.metrics.copySeen(ss.copyAt, at)
	ss.copyAt = at
}

// receive takes the agent's events until the stream ends.
func (ss *session) receive() {
	for {
		request, err := ss.stream.Recv()
		if err != nil {
			return
		}
		ss.attachment.Heard()
		switch event := request.GetEvent().(type) {
		case *relayv1.AttachRequest_Targets:
			ss.takeTargets(event.Targets)
		case *relayv1.AttachRequest_HeartbeatEcho:
			ss.takeEcho(event.HeartbeatEcho)
		case *relayv1.AttachRequest_Spool:
			ss.takeSpool(tunnel.SpoolFromProto(event.Spool))
		}
	}
}

// takeEcho measures the round trip and the clock skew.
func (ss *session) takeEcho(echo *relayv1.HeartbeatEcho) {
	now := time.Now()
	ss.alive.SetNow()
	sentAt, echoedAt := echo.GetSentAt().AsTime(), echo.GetEchoedAt().AsTime()
	roundTrip := now.Sub(sentAt)
	if roundTrip < 0 || roundTrip > tunnel.SilenceLimit {
		return // not an echo of ours, or a clock that was set
	}
	ss.roundTrip.Store(int64(roundTrip))
	ss.attachment.Measured(roundTrip, echoedAt.Sub(sentAt.Add(roundTrip/2)))
}

// enqueue sends an event soon, but not before the welcome, and reports whether there was room for it. It never waits.
func (ss *session) enqueue(event *relayv1.AttachResponse) bool { return ss.out.put(ss, event) }

func (ss *session) announceDrain(within time.Duration) {
	ss.enqueue(&relayv1.AttachResponse{Event: &relayv1.AttachResponse_Drain{Drain: &relayv1.Drain{Within: durationpb.New(within)}}})
}

// Supersede ends the session in favour of a newer one. See roster.Session.
func (ss *session) Supersede(by string) {
	ss.end(&sessionEnd{
		reason:       relayv1.SessionEndReason_SESSION_END_REASON_SUPERSEDED,
		message:      "the same identity attached again from " + by,
		supersededBy: by,
	})
}

// Revoke ends the session of an agent that was thrown out. See roster.Session.
func (ss *session) Revoke(reason string) { ss.end(revoked(reason)) }

func revoked(reason string) *sessionEnd {
	return &sessionEnd{reason: relayv1.SessionEndReason_SESSION_END_REASON_REVOKED, message: "this agent is revoked: " + reason}
}

// watch sends heartbeats and ends the session when the agent is silent or its certificate is over (T4, T8), until the
// function that it returns is called. It keeps timers and no goroutine.
func (ss *session) watch() (stop func()) {
	// The first heartbeat comes soon, so that the round trip is known before the first scrapes.
	beat := repeat(time.Duration(rand.Int64N(int64(time.Second))), func() time.Duration {
		if ss.ctx.Err() != nil {
			return 0
		}
		heartbeat := &relayv1.Heartbeat{SentAt: timestamppb.Now()}
		if measured := ss.roundTrip.Load(); measured > 0 {
			heartbeat.RoundTrip = durationpb.New(time.Duration(measured))
		}
		ss.enqueue(&relayv1.AttachResponse{Event: &relayv1.AttachResponse_Heartbeat{Heartbeat: heartbeat}})
		return untilBeat(time.Now())
	})
	life := repeat(tunnel.SilenceLimit, func() time.Duration { return ss.checkLife(time.Now()) })
	expiry := time.AfterFunc(time.Until(ss.conn.notAfter()), func() {
		ss.end(&sessionEnd{
			reason:  relayv1.SessionEndReason_SESSION_END_REASON_CERTIFICATE_EXPIRED,
			message: "the agent's certificate has expired",
		})
	})
	return func() {
		beat.Stop()
		life.Stop()
		expiry.Stop()
	}
}

// untilBeat returns how long to wait for the next heartbeat, which falls on a tick.
func untilBeat(now time.Time) time.Duration {
	latest := now.Add(tunnel.HeartbeatInterval + time.Duration(rand.Int64N(int64(tunnel.HeartbeatJitter))))
	return latest.Truncate(tunnel.HeartbeatTick).Sub(now)
}

// repeat calls f after the delay, and again after each delay that f returns, until that is 0 or the timer is stopped.
func repeat(delay time.Duration, f func() time.Duration) *time.Timer {
	var timer *time.Timer
	set := make(chan struct{}) // f may run before timer is set
	timer = time.AfterFunc(delay, func() {
		<-set
		if next := f(); next > 0 {
			timer.Reset(next)
		}
	})
	close(set)
	return timer
}

// moved notes that a part of a scrape or of a change has come.
func (ss *session) moved() { ss.alive.SetNow() }

// checkLife closes what is dead: a connection that brings nothing, at once and with its socket; a session whose agent
// acknowledges packets but not heartbeats, unless a scrape or a push still makes progress. It returns when to look again,
// 0 for never.
func (ss *session) checkLife(now time.Time) time.Duration {
	if ss.ctx.Err() != nil {
		return 0
	}
	silent := &sessionEnd{reason: relayv1.SessionEndReason_SESSION_END_REASON_TIMEOUT, message: "nothing was heard of the agent for too long"}
	heard := ss.conn.conn.Heard()
	if now.Sub(heard) >= tunnel.SilenceLimit {
		ss.end(silent)
		ss.conn.close()
		return 0
	}
	alive := ss.alive.Load()
	if now.Sub(alive) >= tunnel.SilenceLimit {
		ss.end(silent)
		return 0
	}
	oldest := heard
	if alive.Before(heard) {
		oldest = alive
	}
	return tunnel.SilenceLimit - now.Sub(oldest)
}
