//go:build linux

package tunnel_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/exporter"
	"pushrelay/internal/e2e/house"
	"pushrelay/internal/faultproxy"
)

// randomBody is what is scraped while connections are cut at random: about as long as a connection lives.
var randomBody = strings.Repeat("random 1\n", 10<<10)

// A sufferer is an agent on a network that cuts its connections at random, with what came of scraping it and pushing to
// it all the time.
type sufferer struct {
	*house.Site
	before        house.Vitals
	whole, broken int // scrapes
	acknowledged  int // the last push that was answered with success
	attempted     int // the last push
	wrong         []error
}

// TestTunnelRandomCuts: while connections are cut at random, no scrape that is not whole looks whole, no push that was
// acknowledged is lost, and every agent comes back.
func TestTunnelRandomCuts(t *testing.T) {
	t.Parallel()
	address := exporter.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/length" {
			w.Header().Set("Content-Length", fmt.Sprint(len(randomBody)))
		}
		for part := range strings.Lines(randomBody) {
			w.Write([]byte(part))
		}
	}))
	r := house.StartRelay(t)
	var sufferers []*sufferer
	for n := range 4 {
		s := &sufferer{Site: house.StartSite(t, r, fmt.Sprintf("site-%d", n), house.ConfigOf(address, "length", "chunked"))}
		client.Push(t, s.URL+"/metrics/job/j", "random 0\n") // the stream of changes stays open from the first one on
		s.before = house.VitalsOf(t, s.URL)
		sufferers = append(sufferers, s)
	}
	relayBefore := house.VitalsOf(t, r.URL)

	var suffering sync.WaitGroup
	for _, s := range sufferers {
		s.Network.Set(faultproxy.Conditions{MeanBytesToCut: 500_000})
		s.Network.Cut(faultproxy.Reset) // those that are open were not to be cut
		suffering.Go(func() { s.suffer(t.Context(), r, address) })
	}
	suffering.Wait()
	for _, s := range sufferers {
		s.Network.Set(faultproxy.Conditions{})
	}

	for _, s := range sufferers {
		t.Logf("%s: %d cuts; %d scrapes whole, %d broken off or refused; %d pushes, the last of them acknowledged is %d",
			s.Name, s.cuts(), s.whole, s.broken, s.attempted, s.acknowledged)
		if !s.hasSeenAll() {
			t.Errorf("%s: not all that there is to see within %v", s.Name, sufferAtMost)
		}
		for _, err := range s.wrong {
			t.Errorf("%s: %v", s.Name, err)
		}
		client.WantScraped(t, 25*time.Second, r.TargetURL(s.Name, "length", address), randomBody)
		client.Eventually(t, client.Patience, "the last acknowledged push", func() error {
			value, _, err := client.ValueOf(r.URL, fmt.Sprintf("random{agent=%q, instance=\"\", job=\"j\"}", s.Name))
			if err == nil && (int(value) < s.acknowledged || int(value) > s.attempted) {
				err = fmt.Errorf("%w: the relay has push %v, acknowledged was %d of %d", client.ErrScrape, value, s.acknowledged, s.attempted)
			}
			return err
		})
		s.before.WantRest(t)
	}
	relayBefore.WantRest(t)
}

// How long a sufferer suffers, and then until it has seen all that there is to see.
const (
	sufferAtLeast = 12 * time.Second
	sufferAtMost  = 2 * time.Minute
)

func (s *sufferer) cuts() int { return s.Network.Accepted() - 1 }

// hasSeenAll says whether connections were cut, and what that and the times between bring was seen.
func (s *sufferer) hasSeenAll() bool {
	return s.cuts() >= 2 && s.whole > 0 && s.broken > 0 && s.acknowledged > 0
}

// suffer scrapes and pushes in turn.
func (s *sufferer) suffer(ctx context.Context, r *house.Relay, address string) {
	begun := time.Now()
	for n := 1; time.Since(begun) < sufferAtLeast || !s.hasSeenAll() && time.Since(begun) < sufferAtMost; n++ {
		path := []string{"length", "chunked"}[n%2]
		got, err := client.Scrape(r.TargetURL(s.Name, path, address))
		switch {
		case err == nil && got.Status == http.StatusOK && got.Body == randomBody:
			s.whole++
		case err != nil:
			s.broken++
		case got.Status >= 500 && got.Header.Get("X-Relay-Error") != "":
			s.broken++
		default:
			s.wrong = append(s.wrong, fmt.Errorf("%w: %d with %d bytes of %d", client.ErrScrape, got.Status, len(got.Body), len(randomBody)))
		}
		s.attempted = n
		pushed, err := client.Fetch(http.MethodPut, s.URL+"/metrics/job/j", strings.NewReader(fmt.Sprintf("random %d\n", n)))
		switch {
		case err == nil && pushed.Status < 300:
			s.acknowledged = n
		case err != nil || pushed.Status < 500:
			s.wrong = append(s.wrong, fmt.Errorf("push %d: %d %s, %w", n, pushed.Status, client.Clip(pushed.Body), err))
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}
