//go:build linux

package tunnel_test

import (
	"crypto/rand"
	"fmt"
	"io"
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

// TestTunnelLatency: a scrape through a network with a round trip of 100 ms takes about one round trip, whatever the size
// of its body up to the receive window, and the margin for the way back follows the round trip.
func TestTunnelLatency(t *testing.T) {
	t.Parallel()
	const latency = 50 * time.Millisecond          // each way
	body := strings.Repeat("latency 1\n", 100<<10) // 1 MB
	address := exporter.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-r.Context().Done()
			return
		}
		fmt.Fprint(w, body)
	}))
	r := house.StartRelay(t)
	s := house.StartSite(t, r, "site-a", house.ConfigOf(address, "metrics", "slow"))
	s.Network.Set(faultproxy.Conditions{Latency: latency})
	url := r.TargetURL("site-a", "metrics", address)
	// A machine that is busy adds to each scrape, and is not busy all the time; three round trips would be those of windows that are too small.
	client.Eventually(t, time.Minute, "1 MB takes about one round trip", func() error {
		startedAt := time.Now()
		if err := client.ScrapedAs(url, body); err != nil {
			return err
		}
		took := time.Since(startedAt)
		if took < 2*latency {
			t.Fatalf("a scrape took %v, less than a round trip: the network has no latency", took)
		}
		if took > 3*2*latency {
			return fmt.Errorf("%w: it took %v", client.ErrScrape, took)
		}
		return nil
	})
	// The reason arrives before the scraper gives up: whatever the answer takes on its way back is taken off the time
	// that the target gets. The round trip is known after the first heartbeat.
	client.Eventually(t, client.Patience, "the round trip is measured", func() error {
		value, _, err := client.ValueOf(r.URL, `relay_agent_round_trip_seconds{agent="site-a"}`)
		if err == nil && value < (2*latency).Seconds() {
			err = fmt.Errorf("%w: it is %v", client.ErrScrape, value)
		}
		return err
	})
	got, err := client.ScrapeRequest{URL: r.TargetURL("site-a", "slow", address), Timeout: 2 * time.Second}.Do()
	client.WantReason(t, got, err, http.StatusGatewayTimeout, "scrape_timeout")
}

// TestTunnelNarrow: while a backlog of pushes goes through a link of 1 Mbit/s, every scrape succeeds and the session stays
// (T5).
func TestTunnelNarrow(t *testing.T) {
	t.Parallel()
	const megabit = 1_000_000 / 8 // bytes per second
	const pushes, pushBytes = 16, 100_000
	address := exporter.Serve(t, exporter.NewStaged())
	r := house.StartRelay(t, "--push.timeout=2m")
	// Every push waits for its verdict: what is acknowledged has come through the narrow link.
	s := house.StartSite(t, r, "site-a", house.ConfigOf(address, exporter.StagedPaths...), "--push.wait=2m")
	relayBefore, agentBefore, session := house.VitalsOf(t, r.URL), house.VitalsOf(t, s.URL), r.Session(t, "site-a")
	s.Network.Set(faultproxy.Conditions{BytesPerSecond: megabit})

	var backlog sync.WaitGroup
	startedAt := time.Now()
	for n := range pushes {
		backlog.Go(func() {
			var body strings.Builder
			for line := 0; body.Len() < pushBytes; line++ {
				var token [48]byte // or it would be packed
				rand.Read(token[:])
				fmt.Fprintf(&body, "narrow{line=\"%d\",token=\"%x\"} %d\n", line, token, line)
			}
			got, err := client.FetchPatiently(http.MethodPut, fmt.Sprintf("%s/metrics/job/narrow/n/%d", s.URL, n), body.String())
			if err != nil || got.Status != http.StatusOK {
				t.Errorf("push %d: %d %s, %v", n, got.Status, client.Clip(got.Body), err)
			}
		})
	}
	drained := make(chan struct{})
	go func() {
		backlog.Wait()
		close(drained)
	}()
	url := r.TargetURL("site-a", "metrics", address)
	scrapes, slowest := 0, time.Duration(0)
	for pushing := true; pushing; {
		began := time.Now()
		if err := client.ScrapedAs(url, exporter.StagedBody); err != nil { // in the 10 s that Prometheus gives it
			t.Errorf("scrape beside the backlog, after %v: %v", time.Since(began), err)
		}
		scrapes++
		slowest = max(slowest, time.Since(began))
		select {
		case <-drained:
			pushing = false
		case <-time.After(200 * time.Millisecond):
		}
	}
	took := time.Since(startedAt)
	t.Logf("%d KB went through 1 Mbit/s in %v, beside %d scrapes, the slowest in %v", pushes*pushBytes/1000, took, scrapes, slowest)
	if least := pushes * pushBytes / megabit * time.Second * 8 / 10; took < least {
		t.Errorf("the backlog took %v, less than %v: the link was not narrow", took, least)
	}
	r.WantSameSession(t, session)
	s.Network.Set(faultproxy.Conditions{})
	relayBefore.WantRest(t)
	agentBefore.WantRest(t)
}

// TestTunnelNarrowScrapes: while a body of 2 MB goes through a link of 1 Mbit/s, small scrapes of the same agent take their
// turns with it and do not wait for its end.
func TestTunnelNarrowScrapes(t *testing.T) {
	t.Parallel()
	const megabit = 1_000_000 / 8 // bytes per second
	large := strings.Repeat("large 1\n", 256<<10)
	address := exporter.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/large" {
			io.WriteString(w, large)
			return
		}
		io.WriteString(w, exporter.StagedBody)
	}))
	r := house.StartRelay(t)
	s := house.StartSite(t, r, "site-a", house.ConfigOf(address, "large", "small"))
	session := r.Session(t, "site-a")
	s.Network.Set(faultproxy.Conditions{BytesPerSecond: megabit})
	done := make(chan error, 1)
	go func() {
		got, err := client.ScrapeRequest{URL: r.TargetURL("site-a", "large", address), Timeout: client.Patience}.Do()
		if err == nil && got.Body != large {
			err = fmt.Errorf("%w: %d with %d bytes", client.ErrScrape, got.Status, len(got.Body))
		}
		done <- err
	}()
	var slowest time.Duration
	for scrapes := 0; ; scrapes++ {
		select {
		case err := <-done:
			t.Logf("beside the large body %d small scrapes, the slowest in %v", scrapes, slowest)
			if err != nil || scrapes < 3 {
				t.Errorf("the large body beside %d small ones: %v", scrapes, err)
			}
			r.WantSameSession(t, session)
			return
		case <-time.After(200 * time.Millisecond):
		}
		began := time.Now()
		if err := client.ScrapedAs(r.TargetURL("site-a", "small", address), exporter.StagedBody); err != nil { // in the 10 s that Prometheus gives it
			t.Errorf("a small scrape, after %v: %v", time.Since(began), err)
		}
		slowest = max(slowest, time.Since(began))
	}
}
