package relaytest_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/agent"
	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/exporter"
	"pushrelay/internal/faultproxy"
	"pushrelay/internal/relaytest"
)

// startBehind starts a relay and an agent that comes to it through a network of its own.
func startBehind(t *testing.T, config string) (*relaytest.Relay, *faultproxy.Proxy) {
	t.Helper()
	r := relaytest.Start(t, relaytest.Options(t))
	network, err := faultproxy.Listen(faultproxy.Config{Address: r.GRPCAddr().String()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(network.Close)
	a := r.StartAgent(t, "site-a", configured(t, config)).Restart(t, func(o *agent.Options) { o.RelayAddresses = []string{network.Addr()} })
	r.WaitFor(t, a, "site-a")
	return r, network
}

// sessionOf returns when the session of the agent began.
func sessionOf(t *testing.T, r *relaytest.Relay) string {
	t.Helper()
	var known struct {
		Data []struct {
			SessionStarted string `json:"session_started"`
		} `json:"data"`
	}
	if err := json.Unmarshal([]byte(client.MustGet(t, r.URL+"/api/v1/agents")), &known); err != nil || len(known.Data) != 1 {
		t.Fatalf("the agents of the relay: %+v, %v", known, err)
	}
	return known.Data[0].SessionStarted
}

// TestTunnelLatency: a scrape through a network with a round trip of 100 ms takes about one round trip, whatever the size
// of its body up to the receive window, and the margin for the way back follows the round trip.
func TestTunnelLatency(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits for a heartbeat")
	}
	const latency = 50 * time.Millisecond          // each way
	body := strings.Repeat("latency 1\n", 100<<10) // 1 MB
	address := exporter.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-r.Context().Done()
			return
		}
		fmt.Fprint(w, body)
	}))
	r, network := startBehind(t, targetsAt(address, "metrics", "slow"))
	network.Set(faultproxy.Conditions{Latency: latency})
	url := targetURL(r, "site-a", "metrics", address)
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
	got, err := client.ScrapeRequest{URL: targetURL(r, "site-a", "slow", address), Timeout: 2 * time.Second}.Do()
	client.WantReason(t, got, err, http.StatusGatewayTimeout, "scrape_timeout")
}

// TestTunnelNarrowScrapes: while a body of 2 MB goes through a link of 1 Mbit/s, small scrapes of the same agent take their
// turns with it and do not wait for its end.
func TestTunnelNarrowScrapes(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes as long as the narrow way")
	}
	const megabit = 1_000_000 / 8 // bytes per second
	large := strings.Repeat("large 1\n", 256<<10)
	address := exporter.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/large" {
			io.WriteString(w, large)
			return
		}
		io.WriteString(w, exporter.StagedBody)
	}))
	r, network := startBehind(t, targetsAt(address, "large", "small"))
	session := sessionOf(t, r)
	network.Set(faultproxy.Conditions{BytesPerSecond: megabit})
	done := make(chan error, 1)
	go func() {
		got, err := client.ScrapeRequest{URL: targetURL(r, "site-a", "large", address), Timeout: client.Patience}.Do()
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
			if now := sessionOf(t, r); now != session {
				t.Errorf("the session of %s ended, another one began at %s", session, now)
			}
			return
		case <-time.After(200 * time.Millisecond):
		}
		began := time.Now()
		if err := client.ScrapedAs(targetURL(r, "site-a", "small", address), exporter.StagedBody); err != nil { // in the 10 s that Prometheus gives it
			t.Errorf("a small scrape, after %v: %v", time.Since(began), err)
		}
		slowest = max(slowest, time.Since(began))
	}
}
