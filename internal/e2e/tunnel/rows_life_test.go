//go:build linux

package tunnel_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/exporter"
	"pushrelay/internal/e2e/house"
	"pushrelay/internal/e2e/program"
)

// Rows 30 to 42: what a PushProx lists, what its own protocol did, and what happens when somebody goes away.

// fetchRaw writes a request as it is and reads the answer.
func fetchRaw(address, request string) (client.Response, error) {
	c, err := net.DialTimeout("tcp", address, client.Patience)
	if err != nil {
		return client.Response{}, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(client.Patience))
	if _, err := io.WriteString(c, request); err != nil {
		return client.Response{}, err
	}
	method, _, _ := strings.Cut(request, " ")
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		return client.Response{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return client.Response{Status: resp.StatusCode, Header: resp.Header, Body: string(body)}, err
}

// TestTunnelRowsPush is rows 32 to 35: there is no /push to answer scrapes at, and what is sent there is not kept.
func TestTunnelRowsPush(t *testing.T) {
	t.Parallel()
	r := house.StartRelay(t)
	before := house.VitalsOf(t, r.URL)
	tests := []struct {
		number int
		what   string
		header string
		body   int
	}{
		{32, "unknown Id", "Id: unknown\r\nX-Prometheus-Scrape-Timeout-Seconds: 1\r\n", 10},
		{33, "no timeout", "Id: unknown\r\n", 10},
		{34, "garbage", "", 100},
		{35, "30 MB of zeros", "", 30 << 20},
	}
	address := strings.TrimPrefix(r.URL, "http://")
	for _, tt := range tests {
		head := fmt.Sprintf("POST /push HTTP/1.1\r\nHost: relay\r\n%sContent-Length: %d\r\n\r\n", tt.header, tt.body)
		for range 4 {
			// The relay may answer and close before it has taken all of a large body: then the answer can be lost.
			got, err := fetchRaw(address, head+strings.Repeat("\x00", tt.body))
			if tt.body < 1<<20 && err != nil || err == nil && got.Status != 404 && got.Status != 405 {
				t.Errorf("%d %s: %d, %v, want 404 or 405", tt.number, tt.what, got.Status, err)
			}
		}
	}
	// A body that never comes holds nothing either.
	if got, err := fetchRaw(address, "POST /push HTTP/1.1\r\nHost: relay\r\nContent-Length: 1\r\n\r\n"); err != nil || got.Status != 404 && got.Status != 405 {
		t.Errorf("a body that never comes: %d, %v, want 404 or 405", got.Status, err)
	}
	before.WantRest(t)
}

// TestTunnelRowsTwins is rows 30 and 31: of two agents with one identity the newest has the session, and the other does
// not take it back at once. Scrapes go on.
func TestTunnelRowsTwins(t *testing.T) {
	t.Parallel()
	address := exporter.Serve(t, &exporter.Rows{})
	r := house.StartRelay(t)
	dir := r.Issue(t, "site-a")
	first := house.StartAgentWith(t, r, "site-a", house.ConfigOf(address, "metrics"), house.CertificateFlags(dir)...)
	url := r.TargetURL("site-a", "metrics", address)
	client.WantScraped(t, client.Patience, url, exporter.RowsBody)

	scraping, stop := context.WithCancel(t.Context())
	var failed []error
	var loop sync.WaitGroup
	loop.Go(func() {
		for scraping.Err() == nil {
			if err := client.ScrapedAs(url, exporter.RowsBody); err != nil {
				failed = append(failed, err)
			}
		}
	})
	house.StartAgentWith(t, r, "site-a", house.ConfigOf(address, "metrics"), house.CertificateFlags(dir)...)
	client.Eventually(t, client.Patience, "the first agent says why it is out", func() error {
		return program.Warned(first.Log.String(), []string{"ended the session", "second agent"})
	})
	// Whoever took over keeps the session: for much longer than an ordinary reconnect takes nothing changes hands.
	session := r.Session(t, "site-a")
	for range 20 {
		client.WantScraped(t, client.Patience, url, exporter.RowsBody)
		<-time.After(100 * time.Millisecond)
	}
	stop()
	loop.Wait()
	r.WantSameSession(t, session)
	client.WantSeries(t, r.URL, `relay_sessions_ended_total{reason="superseded"}`, 1)
	// The one scrape that was just being handed to the first agent may fail, and does so with a reason.
	if len(failed) > 1 || len(failed) == 1 && !strings.Contains(failed[0].Error(), "agent_offline") {
		t.Errorf("%d scrapes failed: %v", len(failed), failed)
	}
}

// TestTunnelRowsGone is rows 36 to 38: who is gone is known to be gone at once, and who comes back answers at once.
func TestTunnelRowsGone(t *testing.T) {
	t.Parallel()
	address := exporter.Serve(t, &exporter.Rows{})
	r := house.StartRelay(t)
	a := house.StartAgent(t, r, "site-a", house.ConfigOf(address, "metrics"))
	url := r.TargetURL("site-a", "metrics", address)
	client.WantScraped(t, client.Patience, url, exporter.RowsBody)

	// 36: PushProx waits for the scraper's timeout.
	a.Kill(t)
	const timeout = time.Minute
	startedAt := time.Now()
	got, err := client.ScrapeRequest{URL: url, Timeout: timeout}.Do()
	client.WantReason(t, got, err, 503, "agent_offline")
	if took := time.Since(startedAt); took > timeout/4 {
		t.Errorf("the answer about an agent that is gone took %v", took)
	}

	// 37
	a.Start(t)
	if err := client.ScrapedAs(url, exporter.RowsBody); err != nil {
		t.Errorf("the first scrape after the agent is back: %v", err)
	}

	// 38: PushProx lets a scrape wait for the agent. Here it is answered at once that the agent is not there yet, with the
	// target still known; what comes after the agent succeeds.
	before := r.Session(t, "site-a")
	r.Kill(t)
	r.Start(t)
	client.Eventually(t, client.Patience, "the agent is back", func() error {
		got, err := client.Scrape(url)
		if err != nil || got.Status == 200 {
			return err
		}
		if reason := got.Header.Get("X-Relay-Error"); got.Status != 503 || reason != "agent_offline" {
			t.Fatalf("a scrape after the relay's restart: %d %s %s, want 200 or 503 agent_offline", got.Status, reason, got.Body)
		}
		return house.ErrNotConnected
	})
	r.WantBack(t, before)
}

// TestTunnelRowsConcurrency is rows 39 to 42: scrapes do not wait for each other, and one that is given up leaves nothing.
func TestTunnelRowsConcurrency(t *testing.T) {
	t.Parallel()
	release := make(chan struct{}) // lets everything go that is held at /held
	asked := make(chan struct{}, 100)
	address := exporter.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		switch req.URL.Path {
		case "/held":
			asked <- struct{}{}
			select {
			case <-release:
			case <-req.Context().Done():
			}
		case "/endless":
			asked <- struct{}{}
			<-req.Context().Done()
		case "/slow":
			<-time.After(200 * time.Millisecond)
		}
		io.WriteString(w, exporter.RowsBody)
	}))
	r := house.StartRelay(t)
	a := house.StartAgent(t, r, "site-a", house.ConfigOf(address, "metrics", "slow", "held", "endless"))
	url := func(path string) string { return r.TargetURL("site-a", path, address) }
	client.WantScraped(t, client.Patience, url("metrics"), exporter.RowsBody)
	relayBefore, agentBefore := house.VitalsOf(t, r.URL), house.VitalsOf(t, a.URL)

	// 39
	var scrapers sync.WaitGroup
	for range 15 {
		scrapers.Go(func() {
			for range 2 {
				if err := client.ScrapedAs(url("slow"), exporter.RowsBody); err != nil {
					t.Errorf("39: %v", err)
				}
			}
		})
	}
	scrapers.Wait()

	// 40: the second ends while the first is held.
	scrapers.Go(func() {
		if err := client.ScrapedAs(url("held"), exporter.RowsBody); err != nil {
			t.Errorf("40: %v", err)
		}
	})
	<-asked
	if err := client.ScrapedAs(url("metrics"), exporter.RowsBody); err != nil {
		t.Errorf("40: beside a scrape that is held: %v", err)
	}
	close(release)
	scrapers.Wait()

	// 41: there are no polls to give up. What can be given up are scrapes, and connections to the agents' port.
	for range 8 {
		ctx, cancel := context.WithCancel(t.Context())
		scrapers.Go(func() {
			if resp, err := (client.ScrapeRequest{URL: url("endless"), Timeout: time.Minute}).Open(ctx); err == nil {
				resp.Body.Close()
			}
		})
		<-asked
		cancel()
		scrapers.Wait()
		c, err := net.Dial("tcp", r.GRPC)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	relayBefore.WantRest(t)
	agentBefore.WantRest(t)

	// 42
	for _, path := range []string{"/", "/-/healthy", "/-/ready"} {
		if got, err := client.Fetch(http.MethodGet, r.URL+path, nil); err != nil || got.Status != http.StatusOK {
			t.Errorf("GET %s: %d, %v, want 200", path, got.Status, err)
		}
	}
}
