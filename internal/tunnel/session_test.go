package tunnel_test

import (
	"context"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/roster"
	"pushrelay/internal/scrape"
)

// TestCallsNeedTheSessionOfTheirConnection: a number that somebody else was given, or nobody, opens nothing (T2).
func TestCallsNeedTheSessionOfTheirConnection(t *testing.T) {
	h := newHouse(t, pusherFunc(noPushes))
	a, b, outside := h.attachRaw("a"), h.attachRaw("b"), h.dialRaw("a")
	ctx := timeout(t, 20*time.Second)
	for _, tt := range []struct {
		name    string
		agent   *rawAgent
		session uint64
	}{
		{"another agent's", b, a.welcome.GetSession()},
		{"one that nobody has", a, a.welcome.GetSession() + 100},
		{"none", a, 0},
		{"its own, on another connection", outside, a.welcome.GetSession()},
	} {
		changes, err := tt.agent.client.Push(ctx)
		if err != nil {
			t.Fatal(err)
		}
		changes.Send(&relayv1.PushRequest{Part: &relayv1.PushRequest_Session{Session: tt.session}})
		if _, err := changes.Recv(); status.Code(err) != codes.FailedPrecondition {
			t.Errorf("%s: Push = %v, want %v", tt.name, err, codes.FailedPrecondition)
		}
		if err := tt.agent.deliver(ctx, tt.session, 1); status.Code(err) != codes.FailedPrecondition {
			t.Errorf("%s: DeliverScrape = %v, want %v", tt.name, err, codes.FailedPrecondition)
		}
	}
	if err := a.attach(ctx, hello()); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("a second session on one connection = %v, want %v", err, codes.FailedPrecondition)
	}
}

// TestNobodyAnswersForAnother: the number of a scrape means something in its own session only (T2).
func TestNobodyAnswersForAnother(t *testing.T) {
	h := newHouse(t, pusherFunc(noPushes))
	a, b := h.attachScraped("a"), h.attachRaw("b")
	ctx := timeout(t, 20*time.Second)
	result := h.scraping(ctx, "a")
	asked := a.scrapeRequest()
	if err := b.deliver(ctx, b.welcome.GetSession(), asked.GetScrape()); status.Code(err) != codes.NotFound {
		t.Errorf("another agent's answer = %v, want %v", err, codes.NotFound)
	}
	select {
	case got := <-result:
		t.Fatalf("the scrape has ended, by another agent's answer: %v", got.err)
	default:
	}
	if err := a.deliver(ctx, a.welcome.GetSession(), asked.GetScrape()); err != nil {
		t.Errorf("the agent's own answer = %v", err)
	}
	if got := <-result; scrape.AsError(ctx, got.err).Reason != scrape.TargetUnreachable {
		t.Errorf("the scrape = %v, want what the agent answered", got.err)
	}
}

func hasTarget(all []roster.Agent, name string) bool {
	for _, a := range all {
		if a.Name == name && len(a.Targets) == 1 {
			return true
		}
	}
	return false
}

// announce tells the relay of one target.
func (a *rawAgent) announce() error {
	set := &relayv1.TargetSet{Targets: []*relayv1.Target{{
		Name: "t", Job: "job", Instance: "i", Address: "localhost:1", Scheme: "http", MetricsPath: "/metrics",
	}}}
	return a.stream.Send(&relayv1.AttachRequest{Event: &relayv1.AttachRequest_Targets{Targets: set}})
}

// scrapeRequest waits for the relay to ask for a scrape.
func (a *rawAgent) scrapeRequest() *relayv1.ScrapeRequest {
	a.t.Helper()
	for {
		if asked := must[*relayv1.AttachResponse](a.t)(a.stream.Recv()).GetScrape(); asked != nil {
			return asked
		}
	}
}

// deliver answers a scrape that the target cannot be reached, and returns what the relay says.
func (a *rawAgent) deliver(ctx context.Context, session, number uint64) error {
	a.t.Helper()
	stream := a.open(ctx, session, number)
	failure := &relayv1.ScrapeFailure{Reason: relayv1.ScrapeFailureReason_SCRAPE_FAILURE_REASON_TARGET_UNREACHABLE, Message: "no"}
	stream.Send(&relayv1.DeliverScrapeRequest{Part: &relayv1.DeliverScrapeRequest_Failure{Failure: failure}})
	_, err := stream.CloseAndRecv()
	return err
}

// TestServeAfterStop: a relay that is told to stop while it starts ends without an error.
func TestServeAfterStop(t *testing.T) {
	h := newHouse(t, pusherFunc(noPushes))
	h.server.Stop()
	listener := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	if err := h.server.Serve(listener); err != nil {
		t.Errorf("Serve after Stop = %v", err)
	}
	if c, err := net.Dial("tcp", listener.Addr().String()); err == nil {
		c.Close()
		t.Error("the listener is open")
	}
}
