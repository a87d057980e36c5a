//go:build linux

package e2e_test

import (
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"pushrelay/internal/faultproxy"
)

// TestTunnelLatency: a scrape through a network with a round trip of 100 ms takes about one round trip, whatever the size
// of its body up to the receive window, and the margin for the way back follows the round trip.
func TestTunnelLatency(t *testing.T) {
	t.Parallel()
	const latency = 50 * time.Millisecond          // each way
	body := strings.Repeat("latency 1\n", 100<<10) // 1 MB
	address := serveHandler(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-r.Context().Done()
			return
		}
		fmt.Fprint(w, body)
	}))
	r := startRelay(t)
	s := startSite(t, r, "site-a", configOf(address, "metrics", "slow"))
	s.network.Set(faultproxy.Conditions{Latency: latency})
	url := r.targetURL("site-a", "metrics", address)
	var fastest time.Duration
	for n := range 5 {
		startedAt := time.Now()
		if err := scrapedAs(url, body); err != nil {
			t.Fatal(err)
		}
		took := time.Since(startedAt)
		if took < 2*latency {
			t.Fatalf("a scrape took %v, less than a round trip: the network has no latency", took)
		}
		if n == 0 || took < fastest {
			fastest = took
		}
	}
	// A machine that is busy adds to each; three round trips would be those of windows that are too small.
	t.Logf("1 MB through a round trip of %v: the fastest of 5 scrapes took %v", 2*latency, fastest)
	if fastest > 3*2*latency {
		t.Errorf("the fastest scrape took %v, want about the round trip of %v", fastest, 2*latency)
	}
	// The reason arrives before the scraper gives up: whatever the answer takes on its way back is taken off the time
	// that the target gets. The round trip is known after the first heartbeat.
	eventually(t, patience, "the round trip is measured", func() error {
		value, _, err := valueOf(r.url, `relay_agent_round_trip_seconds{agent="site-a"}`)
		if err == nil && value < (2*latency).Seconds() {
			err = fmt.Errorf("%w: it is %v", errScrape, value)
		}
		return err
	})
	got, err := scrapeRequest{url: r.targetURL("site-a", "slow", address), timeout: 2 * time.Second}.do()
	wantReason(t, got, err, http.StatusGatewayTimeout, "scrape_timeout")
}

// TestTunnelNarrow: while a backlog of pushes goes through a link of 1 Mbit/s, every scrape succeeds and the session stays
// (T5).
func TestTunnelNarrow(t *testing.T) {
	t.Parallel()
	const megabit = 1_000_000 / 8 // bytes per second
	const pushes, pushBytes = 16, 100_000
	address := serveHandler(t, newStagedTarget())
	r := startRelay(t, "--push.timeout=2m")
	// Every push waits for its verdict: what is acknowledged has come through the narrow link.
	s := startSite(t, r, "site-a", configOf(address, stagedPaths...), "--push.wait=2m")
	relayBefore, agentBefore, session := vitalsOf(t, r.url), vitalsOf(t, s.url), r.session(t, "site-a")
	s.network.Set(faultproxy.Conditions{BytesPerSecond: megabit})

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
			got, err := fetchPatiently(http.MethodPut, fmt.Sprintf("%s/metrics/job/narrow/n/%d", s.url, n), body.String())
			if err != nil || got.status != http.StatusOK {
				t.Errorf("push %d: %d %s, %v", n, got.status, clip(got.body), err)
			}
		})
	}
	drained := make(chan struct{})
	go func() {
		backlog.Wait()
		close(drained)
	}()
	url := r.targetURL("site-a", "metrics", address)
	scrapes, slowest := 0, time.Duration(0)
	for pushing := true; pushing; {
		began := time.Now()
		if err := scrapedAs(url, stagedBody); err != nil { // in the 10 s that Prometheus gives it
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
	r.wantSameSession(t, session)
	s.network.Set(faultproxy.Conditions{})
	relayBefore.wantRest(t)
	agentBefore.wantRest(t)
}

// TestTunnelNarrowScrapes: while a body of 2 MB goes through a link of 1 Mbit/s, small scrapes of the same agent take their
// turns with it and do not wait for its end.
func TestTunnelNarrowScrapes(t *testing.T) {
	t.Parallel()
	const megabit = 1_000_000 / 8 // bytes per second
	large := strings.Repeat("large 1\n", 256<<10)
	address := serveHandler(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/large" {
			io.WriteString(w, large)
			return
		}
		io.WriteString(w, stagedBody)
	}))
	r := startRelay(t)
	s := startSite(t, r, "site-a", configOf(address, "large", "small"))
	session := r.session(t, "site-a")
	s.network.Set(faultproxy.Conditions{BytesPerSecond: megabit})
	done := make(chan error, 1)
	go func() {
		got, err := scrapeRequest{url: r.targetURL("site-a", "large", address), timeout: patience}.do()
		if err == nil && got.body != large {
			err = fmt.Errorf("%w: %d with %d bytes", errScrape, got.status, len(got.body))
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
			r.wantSameSession(t, session)
			return
		case <-time.After(200 * time.Millisecond):
		}
		began := time.Now()
		if err := scrapedAs(r.targetURL("site-a", "small", address), stagedBody); err != nil { // in the 10 s that Prometheus gives it
			t.Errorf("a small scrape, after %v: %v", time.Since(began), err)
		}
		slowest = max(slowest, time.Since(began))
	}
}

// fetchPatiently is fetch for an answer that may take longer than any other.
func fetchPatiently(method, url, body string) (response, error) {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return response{}, err
	}
	transport := &http.Transport{DisableKeepAlives: true}
	client := &http.Client{Timeout: 2 * time.Minute, Transport: transport}
	resp, err := client.Do(req)
	if err != nil {
		return response{}, err
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	return response{resp.StatusCode, resp.Header, string(content)}, err
}
