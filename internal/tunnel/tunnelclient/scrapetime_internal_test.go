package tunnelclient

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/tunnel"
)

// TestTimeOfScrapesIsBounded: a target that does not answer holds a scrape no longer than its time, whatever time the relay gives it.
func TestTimeOfScrapesIsBounded(t *testing.T) {
	for name, tt := range map[string]struct {
		given *durationpb.Duration
		takes time.Duration
	}{
		"usual":    {durationpb.New(time.Minute), time.Minute},
		"century":  {durationpb.New(100 * 365 * 24 * time.Hour), tunnel.MaxScrapeTime},
		"overflow": {&durationpb.Duration{Seconds: math.MaxInt64}, tunnel.MaxScrapeTime},
		"negative": {&durationpb.Duration{Seconds: math.MinInt64}, 0},
		"none":     {nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, relay, _ := scraped(t)
				begun := time.Now()
				s.startScrape(&relayv1.ScrapeRequest{Scrape: 1, Target: "t", Timeout: tt.given})
				call := <-relay.opened
				defer call.end()
				call.reference(t)
				if reason := part(t, call).GetFailure().GetReason(); reason != relayv1.ScrapeFailureReason_SCRAPE_FAILURE_REASON_TIMEOUT {
					t.Errorf("the scrape fails with %v, want its time to be over", reason)
				}
				if took := time.Since(begun); took != tt.takes {
					t.Errorf("the scrape took %s, want %s", took, tt.takes)
				}
			})
		})
	}
}
