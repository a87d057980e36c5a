package tunnel_test

import (
	"context"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/scrape"
)

// TestScrapesGivenUpSlowNoAgent: scrapers who give up, however many, keep nobody from the agent: its calls that come to nothing then are theirs.
func TestScrapesGivenUpSlowNoAgent(t *testing.T) {
	inBubble(t, time.Millisecond, func(t *testing.T, h *house, _ *network) {
		var answers atomic.Bool
		link, _ := h.start(h.authority, "site", scraperFunc(func(ctx context.Context, _ *scrape.Request) (*scrape.Response, error) {
			if !answers.Load() {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return answer(io.NopCloser(strings.NewReader("m 1\n")))(ctx, nil)
		}))
		waitFor(t, "attached", 5*time.Second, func() bool { return link.Status().Connected })
		for range 2000 {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Millisecond) // about when the agent begins to answer
			h.scrape(ctx, "site")
			cancel()
		}
		answers.Store(true)
		begun := time.Now()
		if _, body, err := h.scrape(timeout(t, time.Minute), "site"); err != nil || string(body) != "m 1\n" || time.Since(begun) > time.Second {
			t.Errorf("a scrape brings %q, %v, after %s", body, err, time.Since(begun))
		}
	})
}

// TestCallsThatComeToNothing: an agent that makes more of them than can be meant is read as slowly as they may come, whichever calls they are; another
// agent meanwhile is not. Those that are given up are in hostile's TestRapidResets.
func TestCallsThatComeToNothing(t *testing.T) {
	for name, call := range map[string]func(ctx context.Context, a *rawAgent){
		"for no scrape": func(ctx context.Context, a *rawAgent) {
			stream, err := a.client.DeliverScrape(ctx)
			if err == nil {
				reference := &relayv1.ScrapeReference{Session: a.welcome.GetSession(), Scrape: 1 << 40}
				stream.Send(&relayv1.DeliverScrapeRequest{Part: &relayv1.DeliverScrapeRequest_Reference{Reference: reference}})
				stream.CloseAndRecv()
			}
		},
		"without a reference": func(ctx context.Context, a *rawAgent) {
			stream, err := a.client.DeliverScrape(ctx)
			if err == nil {
				stream.Send(&relayv1.DeliverScrapeRequest{Part: &relayv1.DeliverScrapeRequest_Body{}})
				stream.CloseAndRecv()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, time.Millisecond, func(t *testing.T, h *house, _ *network) {
				a := h.attachRaw("evil")
				ended := a.beat()
				honest, _ := h.start(h.authority, "site", answer(io.NopCloser(strings.NewReader("m 1\n"))))
				waitFor(t, "attached", 5*time.Second, func() bool { return honest.Status().Connected })
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				var calls atomic.Int64
				for range 50 {
					go func() {
						for ctx.Err() == nil {
							call(ctx, a)
							calls.Add(1)
						}
					}()
				}
				time.Sleep(10 * time.Second)
				if came := calls.Load(); came < 512 || came > 512+10*100+512 {
					t.Errorf("%d calls came in 10 s", came)
				}
				begun := time.Now()
				if _, _, err := h.scrape(timeout(t, time.Minute), "site"); err != nil || time.Since(begun) > time.Second {
					t.Errorf("a scrape of another agent: %v, after %s", err, time.Since(begun))
				}
				cancel()
				a.close()
				<-ended
				time.Sleep(10 * time.Second)
			})
		})
	}
}
