//go:build linux

package e2e_test

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// A running scrape is one whose scraper has read some of its body and may read on.
type runningScrape struct {
	resp *http.Response
}

// beginBody scrapes a body without end and reads some of it.
func beginBody(t testing.TB, url string, timeout time.Duration) *runningScrape {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout+patience)
	t.Cleanup(cancel)
	resp, err := scrapeRequest{url: url, timeout: timeout}.open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("scrape = %d %s", resp.StatusCode, resp.Header.Get("X-Relay-Error"))
	}
	s := &runningScrape{resp}
	s.wantMore(t)
	return s
}

// wantMore reads more than what may be on its way.
func (s *runningScrape) wantMore(t testing.TB) {
	t.Helper()
	if _, err := io.CopyN(io.Discard, s.resp.Body, 16<<10); err != nil {
		t.Fatalf("reading on: %v", err)
	}
}

// wantBroken reads to the end, which must not be that of a whole body.
func (s *runningScrape) wantBroken(t testing.TB, what string) {
	t.Helper()
	if n, err := io.Copy(io.Discard, s.resp.Body); err == nil {
		t.Errorf("%s: the scrape ended as if it were whole, %d bytes later", what, n)
	}
}

// TestTunnelSignals: agent, relay and target, killed or stopped in the middle of a body.
func TestTunnelSignals(t *testing.T) {
	t.Parallel()
	address := freeAddress(t)
	target := startTarget(t, address)
	r := startRelay(t)
	a := startAgent(t, r, "site-a", configOf(address, "whole", "chunked", "length"))
	url := r.urlOf("site-a", address)
	wantScraped(t, patience, url("whole"), wholeBody)
	relayBefore, agentBefore, session := vitalsOf(t, r.url), vitalsOf(t, a.url), r.session(t, "site-a")

	// The target is killed.
	scrapes := []*runningScrape{beginBody(t, url("chunked"), time.Minute), beginBody(t, url("length"), time.Minute)}
	target.kill(t)
	for _, s := range scrapes {
		s.wantBroken(t, "target killed")
	}
	got, err := scrape(url("whole"))
	wantReason(t, got, err, http.StatusBadGateway, "target_unreachable")
	target = startTarget(t, address)
	wantScraped(t, patience, url("whole"), wholeBody)

	// The target is stopped: the scrape ends with its time, one that begins meanwhile too.
	s := beginBody(t, url("length"), 3*time.Second)
	target.suspend(t)
	got, err = scrapeRequest{url: url("whole"), timeout: time.Second}.do()
	wantReason(t, got, err, http.StatusGatewayTimeout, "scrape_timeout")
	s.wantBroken(t, "target stopped")
	target.signal(t, syscall.SIGCONT)
	wantScraped(t, patience, url("whole"), wholeBody)

	// The agent is stopped, and then the relay, for less than what counts as gone: everything goes on.
	for _, p := range []*process{a.process, r.process} {
		s = beginBody(t, url("chunked"), time.Minute)
		p.suspend(t)
		<-time.After(time.Second)
		p.signal(t, syscall.SIGCONT)
		s.wantMore(t)
		s.resp.Body.Close()
	}
	r.wantSameSession(t, session)
	relayBefore.wantRest(t)
	agentBefore.wantRest(t)

	// The agent is killed.
	s = beginBody(t, url("length"), time.Minute)
	a.kill(t)
	s.wantBroken(t, "agent killed")
	got, err = scrape(url("whole"))
	wantReason(t, got, err, http.StatusServiceUnavailable, "agent_offline")
	a.start(t)
	if err := scrapedAs(url("whole"), wholeBody); err != nil {
		t.Errorf("the first scrape after the agent is back: %v", err)
	}
	relayBefore.wantRest(t)
	agentBefore = vitalsOf(t, a.url)

	// The relay is killed.
	s = beginBody(t, url("chunked"), time.Minute)
	r.kill(t)
	s.wantBroken(t, "relay killed")
	r.start(t)
	wantScraped(t, patience, url("whole"), wholeBody)
	agentBefore.wantRest(t)
}

// flaps is how often an agent comes and goes.
const flaps = 200

// TestTunnelFlapping: an agent that comes and goes all the time leaves nothing behind at the relay, and costs other agents
// nothing.
func TestTunnelFlapping(t *testing.T) {
	t.Parallel()
	address := serveHandler(t, newStagedTarget())
	r := startRelay(t)
	startAgent(t, r, "steady", configOf(address, stagedPaths...))
	dir, web := r.issue(t, "flapping"), freeAddress(t)
	file := filepath.Join(t.TempDir(), "agent.yml")
	writeFile(t, file, configOf(address, stagedPaths...))
	flapping := command{path: programs.relayAgent, dir: t.TempDir(), args: append(certificateFlags(dir),
		"--relay.address="+r.grpc, "--config.file="+file, "--web.listen-address="+web)}
	steady := r.session(t, "steady")
	var before vitals
	var last time.Time
	for n := range flaps {
		cmd := flapping.cmd(t)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// Every other one is killed as soon as the relay has it, the others at some earlier moment.
		if n%2 == 0 {
			eventually(t, patience, "flapping agent is attached", func() error {
				for _, s := range decodeData[relaySession](t, mustGet(t, r.url+"/api/v1/agents")) {
					if s.Agent == "flapping" && s.Connected && s.SessionStarted.After(last) {
						last = s.SessionStarted
						return nil
					}
				}
				return errNotConnected
			})
		} else {
			<-time.After(time.Duration(n%50) * time.Millisecond)
		}
		if err := cmd.Process.Signal(os.Kill); err != nil {
			t.Fatal(err)
		}
		cmd.Wait()
		if n == 0 {
			eventually(t, patience, "the first one is gone", func() error {
				if r.connected(t, "flapping") {
					return errStillConnected
				}
				return nil
			})
			before = vitalsOf(t, r.url)
		}
		if n%20 == 0 {
			if err := scrapedAs(r.targetURL("steady", "metrics", address), stagedBody); err != nil {
				t.Errorf("scrape of another agent: %v", err)
			}
		}
	}
	before.wantRest(t)
	r.wantSameSession(t, steady)
	got, err := scrape(r.targetURL("flapping", "metrics", address))
	wantReason(t, got, err, http.StatusServiceUnavailable, "agent_offline")
	if groups := r.discovered(t); len(groups) != 2*len(stagedPaths) {
		t.Errorf("%d targets are listed, want those of both agents: %d", len(groups), 2*len(stagedPaths))
	}
}
