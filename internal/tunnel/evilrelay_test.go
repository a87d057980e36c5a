package tunnel_test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/s2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"pushrelay/internal/authority"
	"pushrelay/internal/change"
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/grouping"
	"pushrelay/internal/mtls"
	"pushrelay/internal/tunnel"
)

// evilRelay is a relay that says what the test wants.
type evilRelay struct {
	relayv1.UnimplementedRelayServiceServer
	end    *relayv1.SessionEnd      // ends every session at once, if there is one
	refuse bool                     // before it begins
	drains int                      // how often it says that it is about to stop
	later  *relayv1.Later           // the verdict on every change
	denied []*relayv1.TargetsDenied // what it says of the agent's targets, one after the other
	packs  bool                     // it takes packed bodies

	mu       sync.Mutex
	attaches []time.Time // guarded by mu
	changes  int         // guarded by mu; that came
	parts    []string    // guarded by mu; of changes
}

func (e *evilRelay) Attach(stream relayv1.RelayService_AttachServer) error {
	e.mu.Lock()
	e.attaches = append(e.attaches, time.Now())
	e.mu.Unlock()
	if _, err := stream.Recv(); err != nil {
		return err
	}
	if e.refuse {
		refusal, err := status.New(codes.Unavailable, "no").WithDetails(e.end)
		if err != nil {
			return err
		}
		return refusal.Err()
	}
	welcome := &relayv1.Welcome{Session: 1, StoreId: make([]byte, 16), Capabilities: []relayv1.Capability{relayv1.Capability_CAPABILITY_PUSH, relayv1.Capability_CAPABILITY_PUSH_ORIGIN}}
	if e.packs {
		welcome.Capabilities = append(welcome.Capabilities, relayv1.Capability_CAPABILITY_PUSH_S2)
	}
	events := []*relayv1.AttachResponse{{Event: &relayv1.AttachResponse_Welcome{Welcome: welcome}}}
	for range e.drains {
		events = append(events, &relayv1.AttachResponse{Event: &relayv1.AttachResponse_Drain{Drain: &relayv1.Drain{}}})
	}
	for _, denied := range e.denied {
		events = append(events, &relayv1.AttachResponse{Event: &relayv1.AttachResponse_TargetsDenied{TargetsDenied: denied}})
	}
	if e.end != nil {
		events = append(events, &relayv1.AttachResponse{Event: &relayv1.AttachResponse_End{End: e.end}})
	}
	for _, event := range events {
		if err := stream.Send(event); err != nil {
			return err
		}
	}
	beats := time.NewTicker(tunnel.HeartbeatInterval)
	defer beats.Stop()
	for {
		select {
		case <-stream.Context().Done():
			return nil
		case <-beats.C:
			if err := stream.Send(&relayv1.AttachResponse{Event: &relayv1.AttachResponse_Heartbeat{Heartbeat: &relayv1.Heartbeat{}}}); err != nil {
				return err
			}
		}
	}
}

func (e *evilRelay) Push(stream relayv1.RelayService_PushServer) error {
	number := uint64(0)
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		begin := part.GetBegin()
		if begin != nil {
			number = begin.GetChange()
		}
		e.note(part)
		if part.GetEnd() == nil && (begin == nil || begin.Body == nil) {
			continue
		}
		e.mu.Lock()
		e.changes++
		e.mu.Unlock()
		if err := stream.Send(&relayv1.PushResponse{Change: number, Verdict: &relayv1.PushResponse_Later{Later: e.later}}); err != nil {
			return err
		}
	}
}

// note notes what came of a change.
func (e *evilRelay) note(part *relayv1.PushRequest) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch p := part.GetPart().(type) {
	case *relayv1.PushRequest_Begin:
		e.parts = append(e.parts, fmt.Sprintf("begin: %s, %d of %d bytes, body %t of %d", p.Begin.GetEncoding(), p.Begin.GetBodyBytes(), tunnel.BodyBytes(p.Begin), p.Begin.Body != nil, len(p.Begin.GetBody())))
	case *relayv1.PushRequest_Chunk:
		e.parts = append(e.parts, fmt.Sprintf("chunk: %d", len(p.Chunk)))
	case *relayv1.PushRequest_End:
		e.parts = append(e.parts, "end")
	}
}

// counts returns when agents attached, and how many changes came.
func (e *evilRelay) counts() (attaches []time.Time, changes int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append(attaches, e.attaches...), e.changes
}

// under runs a test in a bubble with an agent of a relay of the test's own.
func under(t *testing.T, e relayv1.RelayServiceServer, test func(t *testing.T, agent *dialled, log *logLines)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(time.Millisecond)
		t.Cleanup(n.pumps.Wait)
		t.Cleanup(func() { n.Close() })
		ca := must[*authority.Authority](t)(authority.Create(filepath.Join(t.TempDir(), "authority"), authority.Config{}))
		ensured := must[authority.RelayCertificate](t)(ca.EnsureRelay([]string{"127.0.0.1"}))
		certificates := must[*mtls.Reloader](t)(mtls.NewReloader(mtls.Config{Role: mtls.Relay, Files: ensured.Files}))
		server := grpc.NewServer(grpc.Creds(credentials.NewTLS(mtls.RelayTLSConfig(certificates, nil))))
		relayv1.RegisterRelayServiceServer(server, e)
		var serving sync.WaitGroup
		serving.Go(func() { server.Serve(n) })
		t.Cleanup(func() {
			server.Stop()
			serving.Wait()
		})
		h := &house{t: t, authority: ca, addr: n.Addr().String(), dial: n.Dial, agentLog: &logLines{}}
		scraper := scraperFunc(nil)
		if s, ok := e.(*supersedingRelay); ok {
			s.house, scraper = h, slow(2500*time.Millisecond)
		}
		agent, stop := h.start(ca, "site", scraper)
		test(t, agent, h.agentLog)
		stop()
	})
}

// TestSessionDelaysOfEvilRelays: a relay neither keeps an agent away for ever nor has it dial all the time, however it says so.
func TestSessionDelaysOfEvilRelays(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits for relays that delay")
	}
	const century = 100 * 365 * 24 * 3600
	for name, tt := range map[string]struct {
		end    *durationpb.Duration
		reason relayv1.SessionEndReason
		faulty bool
	}{
		"a century":            {&durationpb.Duration{Seconds: century}, 0, false},
		"superseded":           {&durationpb.Duration{Seconds: century}, relayv1.SessionEndReason_SESSION_END_REASON_SUPERSEDED, false},
		"overflow":             {&durationpb.Duration{Seconds: math.MaxInt64}, 0, true},
		"overflow, superseded": {&durationpb.Duration{Seconds: math.MaxInt64 / 1_000_000_000, Nanos: 854775807}, relayv1.SessionEndReason_SESSION_END_REASON_SUPERSEDED, true},
		"negative":             {&durationpb.Duration{Seconds: -century}, 0, true},
		"negative, superseded": {&durationpb.Duration{Seconds: -century}, relayv1.SessionEndReason_SESSION_END_REASON_SUPERSEDED, true},
		"at once":              {&durationpb.Duration{}, 0, false},
		"no delay":             {nil, 0, false},
	} {
		for _, refuse := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, before a session: %v", name, refuse), func(t *testing.T) {
				e := &evilRelay{end: &relayv1.SessionEnd{Reason: tt.reason, RetryAfter: tt.end}, refuse: refuse}
				under(t, e, func(t *testing.T, _ *dialled, log *logLines) {
					const watched = 10 * time.Minute
					begun := time.Now()
					time.Sleep(watched)
					attaches, _ := e.counts()
					last := begun
					for i, at := range append(attaches, time.Now()) {
						if away := at.Sub(last); away > 5*time.Minute+tunnel.SupersededWait+tunnel.SupersededSpread+tunnel.BackoffCap {
							t.Errorf("the agent stayed away for %s", away)
						}
						if last = at; i >= tunnel.AttachBurst && at.Sub(attaches[i-tunnel.AttachBurst]) < tunnel.AttachWindow {
							t.Errorf("attempts %d to %d took %s", i-tunnel.AttachBurst, i, at.Sub(attaches[i-tunnel.AttachBurst]))
						}
					}
					if most := int(watched / time.Second / 4); len(attaches) > most {
						t.Errorf("the agent attached %d times in %s, want %d at most", len(attaches), watched, most)
					}
					said := 0
					if tt.faulty {
						said = 1
					}
					if lines := log.with("breaks the protocol"); len(lines) != said {
						t.Errorf("the log has of the relay's error: %q, want it said: %d", lines, said)
					}
				})
			})
		}
	}
}

// TestChangeDelaysOfEvilRelays: what a relay wants later comes neither all the time nor never.
func TestChangeDelaysOfEvilRelays(t *testing.T) {
	for name, tt := range map[string]struct {
		later  *durationpb.Duration
		groups int
		most   int // changes that come in 16 s, in 2 s of many groups
		faulty bool
	}{
		"a nanosecond":                 {durationpb.New(1), 1, 161, false},
		"negative":                     {durationpb.New(-time.Hour), 1, 161, true},
		"a nanosecond for many groups": {durationpb.New(1), 400, 2 * 2 * 1000, false},
		"a century":                    {durationpb.New(100 * 365 * 24 * time.Hour), 1, 1, false},
		"overflow":                     {&durationpb.Duration{Seconds: math.MaxInt64}, 1, 1, true},
	} {
		t.Run(name, func(t *testing.T) {
			e := &evilRelay{later: &relayv1.Later{RetryAfter: tt.later}}
			under(t, e, func(t *testing.T, agent *dialled, log *logLines) {
				for i := range tt.groups {
					key := must[grouping.Key](t)(grouping.New(grouping.Label{Name: "job", Value: fmt.Sprint(i)}))
					go agent.spool.Apply(t.Context(), &change.Change{Operation: change.Replace, Key: key, Body: []byte("m 1\n"), At: time.Now()})
				}
				watched := 16 * time.Second
				if tt.groups > 1 {
					watched = 2 * time.Second
				}
				time.Sleep(watched)
				_, came := e.counts()
				if came == 0 || came > tt.most {
					t.Errorf("%d changes came, want 1 to %d", came, tt.most)
				}
				if tt.groups > 1 {
					return
				}
				time.Sleep(5 * time.Minute)
				if _, all := e.counts(); all <= came {
					t.Error("no change came again within five minutes")
				}
				said := 0
				if tt.faulty {
					said = 1
				}
				if lines := log.with("breaks the protocol"); len(lines) != said {
					t.Errorf("the log has of the relay's error: %q, want it said: %d", lines, said)
				}
			})
		})
	}
}

// TestBodiesTravelAsTheRelayTakesThem: a relay that announced it gets bodies as they lie, and small ones within the begin of their change; an earlier
// one gets them as ever (T9).
func TestBodiesTravelAsTheRelayTakesThem(t *testing.T) {
	large := ""
	for i := range 400 {
		large += fmt.Sprintf("m{a=\"%d\"} %d\n", i, 1000003*i)
	}
	block := len(s2.Encode(nil, []byte(large)))
	same := "m 1\n" + strings.Repeat("# a comment\n", tunnel.ChunkBytes/6)
	for _, tt := range []struct {
		name  string
		packs bool
		op    change.Operation
		body  string
		want  []string
	}{
		{"large", true, change.Replace, large, []string{fmt.Sprintf("begin: BODY_ENCODING_S2, %d of %d bytes, body false of 0", block, len(large)), fmt.Sprint("chunk: ", block), "end"}},
		{"large, earlier", false, change.Replace, large, []string{fmt.Sprintf("begin: BODY_ENCODING_UNSPECIFIED, %d of %[1]d bytes, body false of 0", len(large)), fmt.Sprint("chunk: ", len(large)), "end"}},
		{"small", true, change.Merge, "m 1\n", []string{"begin: BODY_ENCODING_UNSPECIFIED, 4 of 4 bytes, body true of 4"}},
		{"small, earlier", false, change.Merge, "m 1\n", []string{"begin: BODY_ENCODING_UNSPECIFIED, 4 of 4 bytes, body false of 0", "chunk: 4", "end"}},
		{"none", true, change.Delete, "", []string{"begin: BODY_ENCODING_UNSPECIFIED, 0 of 0 bytes, body true of 0"}},
		{"none, earlier", false, change.Delete, "", []string{"begin: BODY_ENCODING_UNSPECIFIED, 0 of 0 bytes, body false of 0", "end"}},
		{"of nearly nothing", true, change.Merge, same, []string{fmt.Sprintf("begin: BODY_ENCODING_UNSPECIFIED, %d of %[1]d bytes, body false of 0", len(same)), fmt.Sprint("chunk: ", tunnel.ChunkBytes), fmt.Sprint("chunk: ", len(same)-tunnel.ChunkBytes), "end"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := &evilRelay{packs: tt.packs, later: &relayv1.Later{RetryAfter: durationpb.New(time.Hour)}}
			under(t, e, func(t *testing.T, agent *dialled, _ *logLines) {
				key := must[grouping.Key](t)(grouping.New(grouping.Label{Name: "job", Value: "j"}))
				agent.spool.Apply(t.Context(), &change.Change{Operation: tt.op, Key: key, Body: []byte(tt.body), At: time.Now()})
				time.Sleep(10 * time.Second)
				e.mu.Lock()
				defer e.mu.Unlock()
				if !slices.Equal(e.parts, tt.want) {
					t.Errorf("parts: %q, want %q", e.parts, tt.want)
				}
			})
		})
	}
}

// TestDrainsOfEvilRelays: that a relay is about to stop is said once in a session.
func TestDrainsOfEvilRelays(t *testing.T) {
	under(t, &evilRelay{drains: 10_000}, func(t *testing.T, _ *dialled, log *logLines) {
		time.Sleep(time.Minute)
		if lines := log.with("about to stop"); len(lines) != 1 {
			t.Errorf("the log has %d lines of it, want 1", len(lines))
		}
	})
}

// logger returns what logs to the lines; one that logs nothing for nil.
func (l *logLines) logger() *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(l, nil))
}
