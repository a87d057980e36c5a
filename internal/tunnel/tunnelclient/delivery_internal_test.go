package tunnelclient

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/scrape"
)

// relayEnd is the relay's end of an agent's calls. Calls end when the relay ends them, or an earlier release takes the end of one.
type relayEnd struct {
	relayv1.RelayServiceClient
	opened chan *callEnd
	room   int // parts that a call takes before somebody reads them
}

func (r *relayEnd) DeliverScrape(context.Context, ...grpc.CallOption) (relayv1.RelayService_DeliverScrapeClient, error) {
	call := &callEnd{parts: make(chan any, r.room), over: make(chan struct{})}
	call.end = sync.OnceFunc(func() { close(call.over) })
	r.opened <- call
	return call, nil
}

// callEnd is one call. parts has what the agent sends: the parts, and nil where it sends no more.
type callEnd struct {
	relayv1.RelayService_DeliverScrapeClient
	parts chan any
	over  chan struct{}
	end   func()
}

func (c *callEnd) Send(r *relayv1.DeliverScrapeRequest) error { return c.SendMsg(r) }

func (c *callEnd) SendMsg(m any) error {
	select {
	case <-c.over:
		return io.EOF
	case c.parts <- m:
		return nil
	}
}

func (c *callEnd) RecvMsg(any) error {
	<-c.over
	return io.EOF
}

func (c *callEnd) CloseSend() error {
	c.parts <- nil
	c.end()
	return nil
}

// reference returns the scrape that the call was opened for, which comes first.
func (c *callEnd) reference(t *testing.T) uint64 {
	t.Helper()
	return part(t, c).GetReference().GetScrape()
}

// takeAnswer takes a whole answer and what the agent says of its body.
func (c *callEnd) takeAnswer(t *testing.T) {
	t.Helper()
	if part(t, c).GetHead().GetStatus() != http.StatusOK {
		t.Fatal("an answer does not begin with the target's head")
	}
	<-c.parts // the body is a chunk
	if got := part(t, c).GetEnd().GetBodyBytes(); got != uint64(len(answered)) {
		t.Fatalf("the answer ends after %d bytes, want %d", got, len(answered))
	}
}

func part(t *testing.T, c *callEnd) *relayv1.DeliverScrapeRequest {
	t.Helper()
	m, ok := (<-c.parts).(*relayv1.DeliverScrapeRequest)
	if !ok {
		t.Fatalf("the agent sent %v, want a message", m)
	}
	return m
}

const answered = "m 1\n"

// scraped is a session with a relay that announced the capabilities, and its target, which answers when it may.
func scraped(t *testing.T, capabilities ...relayv1.Capability) (s *session, relay *relayEnd, answers chan struct{}) {
	t.Helper()
	relay = &relayEnd{opened: make(chan *callEnd, 16), room: 16}
	answers = make(chan struct{}, 16)
	s = &session{
		link: &Link{cfg: Config{MaxConcurrentScrapes: 4, Scraper: scraperFunc(func(ctx context.Context, _ *scrape.Request) (*scrape.Response, error) {
			select {
			case <-answers:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
			return &scrape.Response{Status: http.StatusOK, ContentLength: -1, Body: io.NopCloser(strings.NewReader(answered))}, nil
		})}},
		client: relay, welcome: &relayv1.Welcome{Session: 1, Capabilities: capabilities},
		running: map[uint64]context.CancelFunc{}, deliveries: map[uint64]*delivery{},
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	s.ctx, s.end = ctx, cancel
	t.Cleanup(func() { s.scrapes.Wait() })
	return s, relay, answers
}

type scraperFunc func(ctx context.Context, r *scrape.Request) (*scrape.Response, error)

func (f scraperFunc) Scrape(ctx context.Context, r *scrape.Request) (*scrape.Response, error) {
	return f(ctx, r)
}

func (s *session) ask(number, deliverOn uint64) {
	s.startScrape(&relayv1.ScrapeRequest{Scrape: number, Target: "t", Timeout: durationpb.New(time.Minute), DeliverOn: deliverOn})
}

// TestAnswersGoWhereTheRelayWantsThem: on the call that it names, or on a new one where that is not open or still answers.
func TestAnswersGoWhereTheRelayWantsThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, relay, answers := scraped(t, relayv1.Capability_CAPABILITY_DELIVER_AGAIN)
		var calls []*callEnd
		opened := func(want uint64) *callEnd {
			t.Helper()
			call := <-relay.opened
			t.Cleanup(call.end)
			calls = append(calls, call)
			if got := call.reference(t); got != want {
				t.Fatalf("a call was opened for scrape %d, want %d", got, want)
			}
			return call
		}
		s.ask(1, 0)
		answers <- struct{}{}
		first := opened(1)
		first.takeAnswer(t)
		for n := range uint64(3) { // again and again on the first call
			s.ask(2+n, 1)
			answers <- struct{}{}
			first.takeAnswer(t)
		}
		s.ask(5, 99) // a call that is not open
		answers <- struct{}{}
		opened(5).takeAnswer(t)

		for len(first.parts) < cap(first.parts) { // a relay that does not read holds the next answer up
			first.parts <- nil
		}
		s.ask(6, 1)
		answers <- struct{}{}
		synctest.Wait()
		if got := s.answering(1); got != 6 {
			t.Fatalf("the first call answers scrape %d, want 6", got)
		}
		s.ask(7, 1) // a call that still answers
		answers <- struct{}{}
		opened(7).takeAnswer(t)

		first.end()
		synctest.Wait() // the agent knows
		s.ask(8, 1)     // a call that has ended
		answers <- struct{}{}
		opened(8).takeAnswer(t)
		for _, call := range calls {
			call.end()
		}
		s.scrapes.Wait()
		if len(relay.opened) != 0 || len(s.deliveries) != 0 || len(s.running) != 0 {
			t.Errorf("%d calls more were opened, %d deliveries and %d scrapes are left", len(relay.opened), len(s.deliveries), len(s.running))
		}
	})
}

// answering returns what the call answers that was opened for a scrape; 0 if nothing, or if there is no such call.
func (s *session) answering(opened uint64) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.deliveries[opened]; d != nil {
		return d.scrape
	}
	return 0
}

// TestCallIsFreeBeforeItsAnswerEnds: the relay may ask for the next scrape as soon as it has the last part of an answer.
func TestCallIsFreeBeforeItsAnswerEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, relay, answers := scraped(t, relayv1.Capability_CAPABILITY_DELIVER_AGAIN)
		relay.room = 3 // reference, head and body: the last part waits
		s.ask(1, 0)
		answers <- struct{}{}
		call := <-relay.opened
		t.Cleanup(call.end)
		synctest.Wait()
		if s.answering(1) != 0 || len(call.parts) < relay.room {
			t.Fatalf("the call still answers scrape %d, %d parts were sent", s.answering(1), len(call.parts))
		}
		s.mu.Lock()
		if len(s.running) != 0 {
			t.Errorf("%d scrapes are in progress whose last part is being sent", len(s.running))
		}
		s.mu.Unlock()
		call.reference(t)
		call.end()
	})
}

// TestEarlierRelayIsToldTheEnd: a relay of an earlier release is sent the end of each call, and no second answer on it.
func TestEarlierRelayIsToldTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, relay, answers := scraped(t, 99)
		for n := range uint64(3) {
			s.ask(n+1, 0)
			answers <- struct{}{}
			call := <-relay.opened
			if got := call.reference(t); got != n+1 {
				t.Fatalf("a call was opened for scrape %d, want %d", got, n+1)
			}
			call.takeAnswer(t)
			if end := <-call.parts; end != nil {
				t.Errorf("after its answer a call goes on with %v", end)
			}
		}
	})
}

// TestEndOfACallEndsNoOtherScrape: what has no call yet goes on when another one's call ends.
func TestEndOfACallEndsNoOtherScrape(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, relay, answers := scraped(t, relayv1.Capability_CAPABILITY_DELIVER_AGAIN)
		s.ask(1, 0)
		answers <- struct{}{}
		call := <-relay.opened
		call.reference(t)
		call.takeAnswer(t)
		s.ask(2, 0) // its target does not answer yet, and no call is its own
		call.end()
		synctest.Wait() // the agent knows
		s.mu.Lock()
		if len(s.deliveries) != 0 {
			t.Errorf("%d calls are open after the only one has ended", len(s.deliveries))
		}
		s.mu.Unlock()
		answers <- struct{}{}
		other := <-relay.opened
		if got := other.reference(t); got != 2 {
			t.Fatalf("a call was opened for scrape %d, want 2", got)
		}
		other.takeAnswer(t)
		other.end()
	})
}

// TestNumbersAreUsedOnce: a relay that asks twice under one number, or keeps more calls than it takes, makes the agent hold no more.
func TestNumbersAreUsedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, relay, answers := scraped(t, relayv1.Capability_CAPABILITY_DELIVER_AGAIN)
		s.ask(1, 0)
		s.ask(1, 0) // in progress
		answers <- struct{}{}
		answers <- struct{}{}
		call := <-relay.opened
		call.reference(t)
		call.takeAnswer(t)
		s.ask(1, 0) // its call is open
		s.mu.Lock()
		running := len(s.running)
		s.mu.Unlock()
		if running != 0 || len(relay.opened) != 0 {
			t.Errorf("%d scrapes of a number that is in use are in progress, and %d calls were opened for it", running, len(relay.opened))
		}
		call.end()
	})
}
