package tunnel_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/scrape"
	"pushrelay/internal/tunnel"
)

// again is the capability of a side that answers several scrapes on one call.
const again = relayv1.Capability_CAPABILITY_DELIVER_AGAIN

// attachScraped attaches an agent with one target.
func (h *house) attachScraped(name string, capabilities ...relayv1.Capability) *rawAgent {
	h.t.Helper()
	greeting := hello()
	greeting.Capabilities = capabilities
	_, a := h.greet(name, greeting)
	if err := a.announce(); err != nil {
		h.t.Fatal(err)
	}
	eventually(h.t, "the target is known", func() bool { return hasTarget(h.registry.Agents(), name) })
	return a
}

// open opens a call for the answer to a scrape of a session.
func (a *rawAgent) open(ctx context.Context, session, number uint64) relayv1.RelayService_DeliverScrapeClient {
	a.t.Helper()
	call := must[relayv1.RelayService_DeliverScrapeClient](a.t)(a.client.DeliverScrape(ctx))
	reference := &relayv1.ScrapeReference{Session: session, Scrape: number}
	if err := call.Send(&relayv1.DeliverScrapeRequest{Part: &relayv1.DeliverScrapeRequest_Reference{Reference: reference}}); err != nil {
		a.t.Fatal(err)
	}
	return call
}

// answerOn sends a whole answer.
func answerOn(t *testing.T, call relayv1.RelayService_DeliverScrapeClient, body string) {
	t.Helper()
	for _, part := range []*relayv1.DeliverScrapeRequest{
		{Part: &relayv1.DeliverScrapeRequest_Head{Head: &relayv1.ScrapeHead{Status: 200}}},
		{Part: &relayv1.DeliverScrapeRequest_Body{Body: []byte(body)}},
		{Part: &relayv1.DeliverScrapeRequest_End{End: &relayv1.ScrapeEnd{BodyBytes: uint64(len(body))}}},
	} {
		if err := call.Send(part); err != nil {
			t.Fatal(err)
		}
	}
}

// scraping scrapes an agent in the background.
func (h *house) scraping(ctx context.Context, agent string) <-chan scraped {
	done := make(chan scraped, 1)
	go func() {
		_, body, err := h.scrape(ctx, agent)
		done <- scraped{string(body), err}
	}()
	return done
}

type scraped struct {
	body string
	err  error
}

// firstAnswer has an agent answer a first scrape, and returns the call that did and the scrape's number.
func (h *house) firstAnswer(ctx context.Context, name string, a *rawAgent) (relayv1.RelayService_DeliverScrapeClient, uint64) {
	h.t.Helper()
	result := h.scraping(ctx, name)
	asked := a.scrapeRequest()
	call := a.open(ctx, a.welcome.GetSession(), asked.GetScrape())
	answerOn(h.t, call, "m 0\n")
	if got := <-result; got.err != nil || got.body != "m 0\n" || asked.GetDeliverOn() != 0 {
		h.t.Fatalf("the first scrape, asked for on call %d = %+v", asked.GetDeliverOn(), got)
	}
	return call, asked.GetScrape()
}

// TestCallsAreKeptForFurtherAnswers: an agent that can is asked again on the call that has answered. Any other has its call ended.
func TestCallsAreKeptForFurtherAnswers(t *testing.T) {
	h := newHouse(t, pusherFunc(noPushes))
	ctx := timeout(t, 20*time.Second)

	a := h.attachScraped("new", again)
	call, opened := h.firstAnswer(ctx, "new", a)
	for n := range 3 {
		result := h.scraping(ctx, "new")
		if asked := a.scrapeRequest(); asked.GetDeliverOn() != opened {
			t.Fatalf("a later scrape is to be answered on call %d, want %d", asked.GetDeliverOn(), opened)
		}
		body := strings.Repeat(fmt.Sprintf("m %d\n", n+1), 1000*n+1)
		answerOn(t, call, body)
		if got := <-result; got.err != nil || got.body != body {
			t.Fatalf("a later scrape = %d bytes, %v, want %d", len(got.body), got.err, len(body))
		}
	}

	old := h.attachScraped("old")
	for range 2 {
		result := h.scraping(ctx, "old")
		asked := old.scrapeRequest()
		call := old.open(ctx, old.welcome.GetSession(), asked.GetScrape())
		answerOn(t, call, "m 1\n")
		if got := <-result; got.err != nil || got.body != "m 1\n" || asked.GetDeliverOn() != 0 {
			t.Fatalf("a scrape of an agent of an earlier release, asked for on call %d = %+v", asked.GetDeliverOn(), got)
		}
		if err := call.RecvMsg(new(relayv1.DeliverScrapeResponse)); err != nil {
			t.Errorf("the call of an agent of an earlier release ended with %v", err)
		}
	}
}

// TestKeptCallEndsWithAScrapeThatIsGivenUp: the agent learns it by the end of the call and by a word that cannot overtake the
// request, and the next scrape has nothing to do with that call.
func TestKeptCallEndsWithAScrapeThatIsGivenUp(t *testing.T) {
	h := newHouse(t, pusherFunc(noPushes))
	ctx := timeout(t, 20*time.Second)
	a := h.attachScraped("site", again)
	call, _ := h.firstAnswer(ctx, "site", a)

	impatient, giveUp := context.WithCancel(ctx)
	result := h.scraping(impatient, "site")
	given := a.scrapeRequest()
	giveUp()
	if got := <-result; !errors.Is(impatient.Err(), context.Canceled) || got.err == nil {
		t.Errorf("a scrape that was given up = %+v", got)
	}
	for cancelled := false; !cancelled; {
		event := must[*relayv1.AttachResponse](t)(a.stream.Recv())
		cancelled = event.GetScrapeCancel().GetScrape() == given.GetScrape()
	}
	if err := call.RecvMsg(new(relayv1.DeliverScrapeResponse)); status.Code(err) != codes.Canceled {
		t.Errorf("the call ended with %v, want %v", err, codes.Canceled)
	}

	result = h.scraping(ctx, "site")
	asked := a.scrapeRequest()
	if asked.GetDeliverOn() != 0 {
		t.Errorf("the next scrape is to be answered on call %d, which has ended", asked.GetDeliverOn())
	}
	answerOn(t, a.open(ctx, a.welcome.GetSession(), asked.GetScrape()), "m 2\n")
	if got := <-result; got.err != nil || got.body != "m 2\n" {
		t.Errorf("the next scrape = %+v", got)
	}
}

// TestBrokenCallIsNotUsedAgain: a call that ended while it was kept, as something on the way may end one, costs no scrape.
func TestBrokenCallIsNotUsedAgain(t *testing.T) {
	inBubble(t, 0, func(t *testing.T, h *house, _ *network) {
		a := h.attachScraped("site", again)
		ctx := timeout(t, time.Minute)
		broken, breakOff := context.WithCancel(ctx)
		h.firstAnswer(broken, "site", a)
		breakOff()
		time.Sleep(tunnel.DeliveryIdle / 2) // the relay knows
		result := h.scraping(ctx, "site")
		asked := a.scrapeRequest()
		if asked.GetDeliverOn() != 0 {
			t.Fatalf("a scrape is to be answered on call %d, which has ended", asked.GetDeliverOn())
		}
		answerOn(t, a.open(ctx, a.welcome.GetSession(), asked.GetScrape()), "m 1\n")
		if got := <-result; got.err != nil || got.body != "m 1\n" {
			t.Errorf("a scrape after the call ended = %+v", got)
		}
		a.close()
	})
}

// TestKeptCallEndsWithItsSession: whoever waits for an answer on a kept call is told at once that another process attached.
func TestKeptCallEndsWithItsSession(t *testing.T) {
	h := newHouse(t, pusherFunc(noPushes))
	ctx := timeout(t, 20*time.Second)
	a := h.attachScraped("site", again)
	h.firstAnswer(ctx, "site", a)
	result := h.scraping(ctx, "site")
	a.scrapeRequest()
	another := hello()
	another.ProcessId[0] = 1
	h.greet("site", another)
	select {
	case got := <-result:
		if scrape.AsError(ctx, got.err).Reason != scrape.AgentOffline || !strings.Contains(got.err.Error(), "attached again") {
			t.Errorf("a scrape of the earlier session = %v, want %s and why", got.err, scrape.AgentOffline)
		}
	case <-time.After(2 * time.Second): // the relay closes the connection later than that
		t.Error("a scrape of the earlier session goes on")
	}
}

// TestUnusedCallsEnd: an agent that nobody scrapes has no call but that of its session.
func TestUnusedCallsEnd(t *testing.T) {
	inBubble(t, 0, func(t *testing.T, h *house, _ *network) {
		a := h.attachScraped("site", again)
		ctx := timeout(t, time.Hour)
		call, opened := h.firstAnswer(ctx, "site", a)
		for range 10 {
			time.Sleep(tunnel.DeliveryIdle - time.Millisecond)
			result := h.scraping(ctx, "site")
			if asked := a.scrapeRequest(); asked.GetDeliverOn() != opened {
				t.Fatalf("a call was not kept for less than %v: a scrape is to be answered on %d, want %d", tunnel.DeliveryIdle, asked.GetDeliverOn(), opened)
			}
			answerOn(t, call, "m 2\n")
			if got := <-result; got.err != nil {
				t.Fatal(got.err)
			}
		}
		used := time.Now()
		if err := call.RecvMsg(new(relayv1.DeliverScrapeResponse)); err != nil {
			t.Errorf("an unused call ended with %v", err)
		}
		if kept := time.Since(used); kept < tunnel.DeliveryIdle || kept > 2*tunnel.DeliveryIdle {
			t.Errorf("a call was kept for %v without use, want %v to %v", kept, tunnel.DeliveryIdle, 2*tunnel.DeliveryIdle)
		}
		a.close()
	})
}

// TestAnswersNeverMix: scrapes at once, of which some are given up at any moment, each get their own answer or none.
func TestAnswersNeverMix(t *testing.T) {
	h := newHouse(t, pusherFunc(noPushes))
	// Each answer is its request's, over and over, behind a head that says how often.
	h.attach("site", scraperFunc(func(ctx context.Context, r *scrape.Request) (*scrape.Response, error) {
		number := r.Header.Get("X-Number")
		if strings.HasSuffix(number, "7") {
			return nil, scrape.Errorf(scrape.TargetUnreachable, "refused %s", number)
		}
		pause := time.Duration(rand.Int64N(int64(2 * time.Millisecond)))
		body := io.MultiReader(strings.NewReader(strings.Repeat(number, 1000)), waiting{ctx, pause}, strings.NewReader(number))
		return &scrape.Response{Status: 200, Header: http.Header{"Etag": {number}}, ContentLength: -1, Body: io.NopCloser(body)}, nil
	}))
	ctx := timeout(t, time.Minute)
	var all sync.WaitGroup
	for worker := range 4 { // half of what the agent allows: those that were given up end a little later
		all.Go(func() {
			for n := range 150 {
				number := fmt.Sprintf("%d-%04d", worker, n)
				patience, giveUp := context.WithCancel(ctx)
				if n%3 == 0 {
					time.AfterFunc(time.Duration(rand.Int64N(int64(3*time.Millisecond))), giveUp)
				}
				resp, err := h.registry.Scrape(patience, &scrape.Request{Agent: "site", Target: "t", Method: http.MethodGet, Header: http.Header{"X-Number": {number}}})
				var body []byte
				if err == nil {
					body, err = io.ReadAll(resp.Body)
					resp.Body.Close()
					if got := resp.Header.Get("Etag"); got != number {
						t.Errorf("scrape %s got the head of %s", number, got)
					}
				}
				failed := scrape.AsError(patience, err)
				switch {
				case patience.Err() != nil: // as it may have been when err came
				case strings.HasSuffix(number, "7"):
					if err == nil || failed.Message != "refused "+number {
						t.Errorf("scrape %s = %d bytes, %v, want its own refusal", number, len(body), err)
					}
				case err != nil || string(body) != strings.Repeat(number, 1001):
					t.Errorf("scrape %s = %d bytes, %v, want its own %d", number, len(body), err, 1001*len(number))
				}
				giveUp()
			}
		})
	}
	all.Wait()
}

// waiting is a reader that brings nothing and ends after a pause, or fails with its context.
type waiting struct {
	ctx   context.Context
	pause time.Duration
}

func (w waiting) Read([]byte) (int, error) {
	select {
	case <-time.After(w.pause):
		return 0, io.EOF
	case <-w.ctx.Done():
		return 0, w.ctx.Err()
	}
}
