//go:build linux

package e2e_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Rows 26 to 42: what a PushProx lists, what its own protocol did, and what happens when somebody goes away.

// fetchRaw writes a request as it is and reads the answer.
func fetchRaw(address, request string) (response, error) {
	c, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return response{}, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, request); err != nil {
		return response{}, err
	}
	method, _, _ := strings.Cut(request, " ")
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		return response{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return response{resp.StatusCode, resp.Header, string(body)}, err
}

// TestTunnelRowsClients is rows 26 to 29: the list has everybody who is attached, for as long as they are, scraped or not,
// and nobody gets into it without a certificate.
func TestTunnelRowsClients(t *testing.T) {
	t.Parallel()
	r := startRelay(t)
	startAgent(t, r, "site-a", configOf("127.0.0.1:1", "metrics"))
	// 29: there is no /poll to register at.
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		if got, err := fetch(method, r.url+"/poll", nil); err != nil || got.status != 404 && got.status != 405 {
			t.Errorf("%s /poll: %d, %v, want 404 or 405", method, got.status, err)
		}
	}
	got, err := fetch(http.MethodGet, r.url+"/clients", nil)
	if err != nil || got.status != http.StatusOK || got.header.Get("Content-Type") != "application/json" {
		t.Fatalf("/clients: %d %v, %v", got.status, got.header, err)
	}
	var clients []targetGroup
	if err := json.Unmarshal([]byte(got.body), &clients); err != nil {
		t.Fatal(err)
	}
	// 27: nobody has scraped yet. 28: so there is nothing that a scrape would have to bring back.
	if diff := cmp.Diff([]targetGroup{{Targets: []string{"127.0.0.1"}, Labels: map[string]string{}}}, clients); diff != "" {
		t.Errorf("/clients (-want +got):\n%s", diff)
	}
}

// TestTunnelRowsPush is rows 32 to 35: there is no /push to answer scrapes at, and what is sent there is not kept.
func TestTunnelRowsPush(t *testing.T) {
	t.Parallel()
	r := startRelay(t)
	before := vitalsOf(t, r.url)
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
	address := strings.TrimPrefix(r.url, "http://")
	for _, tt := range tests {
		head := fmt.Sprintf("POST /push HTTP/1.1\r\nHost: relay\r\n%sContent-Length: %d\r\n\r\n", tt.header, tt.body)
		for range 4 {
			// The relay may answer and close before it has taken all of a large body: then the answer can be lost.
			got, err := fetchRaw(address, head+strings.Repeat("\x00", tt.body))
			if tt.body < 1<<20 && err != nil || err == nil && got.status != 404 && got.status != 405 {
				t.Errorf("%d %s: %d, %v, want 404 or 405", tt.number, tt.what, got.status, err)
			}
		}
	}
	// A body that never comes holds nothing either.
	if got, err := fetchRaw(address, "POST /push HTTP/1.1\r\nHost: relay\r\nContent-Length: 1\r\n\r\n"); err != nil || got.status != 404 && got.status != 405 {
		t.Errorf("a body that never comes: %d, %v, want 404 or 405", got.status, err)
	}
	before.wantRest(t)
}

// TestTunnelRowsTwins is rows 30 and 31: of two agents with one identity the newest has the session, and the other does
// not take it back at once. Scrapes go on.
func TestTunnelRowsTwins(t *testing.T) {
	t.Parallel()
	address := serveHandler(t, &rowsTarget{})
	r := startRelay(t)
	dir := r.issue(t, "site-a")
	first := startAgentWith(t, r, "site-a", configOf(address, "metrics"), certificateFlags(dir)...)
	url := r.targetURL("site-a", "metrics", address)
	wantScraped(t, patience, url, rowsBody)

	scraping, stop := context.WithCancel(t.Context())
	var failed []error
	var loop sync.WaitGroup
	loop.Go(func() {
		for scraping.Err() == nil {
			if err := scrapedAs(url, rowsBody); err != nil {
				failed = append(failed, err)
			}
		}
	})
	startAgentWith(t, r, "site-a", configOf(address, "metrics"), certificateFlags(dir)...)
	eventually(t, patience, "the first agent says why it is out", func() error {
		return warned(first.log.String(), []string{"ended the session", "second agent"})
	})
	// Whoever took over keeps the session: for much longer than an ordinary reconnect takes nothing changes hands.
	session := r.session(t, "site-a")
	for range 20 {
		wantScraped(t, patience, url, rowsBody)
		<-time.After(100 * time.Millisecond)
	}
	stop()
	loop.Wait()
	r.wantSameSession(t, session)
	wantSeries(t, r.url, `relay_sessions_ended_total{reason="superseded"}`, 1)
	// The one scrape that was just being handed to the first agent may fail, and does so with a reason.
	if len(failed) > 1 || len(failed) == 1 && !strings.Contains(failed[0].Error(), "agent_offline") {
		t.Errorf("%d scrapes failed: %v", len(failed), failed)
	}
}

// TestTunnelRowsGone is rows 36 to 38: who is gone is known to be gone at once, and who comes back answers at once.
func TestTunnelRowsGone(t *testing.T) {
	t.Parallel()
	address := serveHandler(t, &rowsTarget{})
	r := startRelay(t)
	a := startAgent(t, r, "site-a", configOf(address, "metrics"))
	url := r.targetURL("site-a", "metrics", address)
	wantScraped(t, patience, url, rowsBody)

	// 36: PushProx waits for the scraper's timeout.
	a.kill(t)
	const timeout = time.Minute
	startedAt := time.Now()
	got, err := scrapeRequest{url: url, timeout: timeout}.do()
	wantReason(t, got, err, 503, "agent_offline")
	if took := time.Since(startedAt); took > timeout/4 {
		t.Errorf("the answer about an agent that is gone took %v", took)
	}

	// 37
	a.start(t)
	if err := scrapedAs(url, rowsBody); err != nil {
		t.Errorf("the first scrape after the agent is back: %v", err)
	}

	// 38: PushProx lets a scrape wait for the agent. Here it is answered at once that the agent is not there yet, with the
	// target still known; what comes after the agent succeeds.
	before := r.session(t, "site-a")
	r.kill(t)
	r.start(t)
	eventually(t, patience, "the agent is back", func() error {
		got, err := scrape(url)
		if err != nil || got.status == 200 {
			return err
		}
		if reason := got.header.Get("X-Relay-Error"); got.status != 503 || reason != "agent_offline" {
			t.Fatalf("a scrape after the relay's restart: %d %s %s, want 200 or 503 agent_offline", got.status, reason, got.body)
		}
		return errNotConnected
	})
	r.wantBack(t, before)
}

// TestTunnelRowsConcurrency is rows 39 to 42: scrapes do not wait for each other, and one that is given up leaves nothing.
func TestTunnelRowsConcurrency(t *testing.T) {
	t.Parallel()
	release := make(chan struct{}) // lets everything go that is held at /held
	asked := make(chan struct{}, 100)
	address := serveHandler(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
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
		io.WriteString(w, rowsBody)
	}))
	r := startRelay(t)
	a := startAgent(t, r, "site-a", configOf(address, "metrics", "slow", "held", "endless"))
	url := func(path string) string { return r.targetURL("site-a", path, address) }
	wantScraped(t, patience, url("metrics"), rowsBody)
	relayBefore, agentBefore := vitalsOf(t, r.url), vitalsOf(t, a.url)

	// 39
	var scrapers sync.WaitGroup
	for range 15 {
		scrapers.Go(func() {
			for range 2 {
				if err := scrapedAs(url("slow"), rowsBody); err != nil {
					t.Errorf("39: %v", err)
				}
			}
		})
	}
	scrapers.Wait()

	// 40: the second ends while the first is held.
	scrapers.Go(func() {
		if err := scrapedAs(url("held"), rowsBody); err != nil {
			t.Errorf("40: %v", err)
		}
	})
	<-asked
	if err := scrapedAs(url("metrics"), rowsBody); err != nil {
		t.Errorf("40: beside a scrape that is held: %v", err)
	}
	close(release)
	scrapers.Wait()

	// 41: there are no polls to give up. What can be given up are scrapes, and connections to the agents' port.
	for range 8 {
		ctx, cancel := context.WithCancel(t.Context())
		scrapers.Go(func() {
			if resp, err := (scrapeRequest{url: url("endless"), timeout: time.Minute}).open(ctx); err == nil {
				resp.Body.Close()
			}
		})
		<-asked
		cancel()
		scrapers.Wait()
		c, err := net.Dial("tcp", r.grpc)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	relayBefore.wantRest(t)
	agentBefore.wantRest(t)

	// 42
	for _, path := range []string{"/", "/-/healthy", "/-/ready"} {
		if got, err := fetch(http.MethodGet, r.url+path, nil); err != nil || got.status != http.StatusOK {
			t.Errorf("GET %s: %d, %v, want 200", path, got.status, err)
		}
	}
}
