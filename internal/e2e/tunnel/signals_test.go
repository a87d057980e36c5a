//go:build linux

package tunnel_test

import (
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/exporter"
	"pushrelay/internal/e2e/house"
	"pushrelay/internal/e2e/program"
)

// TestTunnelSignals: agent, relay and target, killed or stopped in the middle of a body.
func TestTunnelSignals(t *testing.T) {
	t.Parallel()
	address := program.FreeAddress(t)
	target := startTarget(t, address)
	r := house.StartRelay(t)
	a := house.StartAgent(t, r, "site-a", house.ConfigOf(address, "whole", "chunked", "length"))
	url := r.URLOf("site-a", address)
	client.WantScraped(t, client.Patience, url("whole"), wholeBody)
	relayBefore, agentBefore, session := house.VitalsOf(t, r.URL), house.VitalsOf(t, a.URL), r.Session(t, "site-a")

	// The target is killed.
	scrapes := []*client.RunningScrape{client.BeginBody(t, url("chunked"), time.Minute), client.BeginBody(t, url("length"), time.Minute)}
	target.Kill(t)
	for _, s := range scrapes {
		s.WantBroken(t, "target killed")
	}
	got, err := client.Scrape(url("whole"))
	client.WantReason(t, got, err, http.StatusBadGateway, "target_unreachable")
	target = startTarget(t, address)
	client.WantScraped(t, client.Patience, url("whole"), wholeBody)

	// The target is stopped: the scrape ends with its time, one that begins meanwhile too.
	s := client.BeginBody(t, url("length"), 3*time.Second)
	target.Suspend(t)
	got, err = client.ScrapeRequest{URL: url("whole"), Timeout: time.Second}.Do()
	client.WantReason(t, got, err, http.StatusGatewayTimeout, "scrape_timeout")
	s.WantBroken(t, "target stopped")
	target.Signal(t, syscall.SIGCONT)
	client.WantScraped(t, client.Patience, url("whole"), wholeBody)

	// The agent is stopped, and then the relay, for less than what counts as gone: everything goes on.
	for _, p := range []*program.Process{a.Process, r.Process} {
		s = client.BeginBody(t, url("chunked"), time.Minute)
		p.Suspend(t)
		<-time.After(time.Second)
		p.Signal(t, syscall.SIGCONT)
		s.WantMore(t)
		s.Resp.Body.Close()
	}
	r.WantSameSession(t, session)
	relayBefore.WantRest(t)
	agentBefore.WantRest(t)

	// The agent is killed.
	s = client.BeginBody(t, url("length"), time.Minute)
	a.Kill(t)
	s.WantBroken(t, "agent killed")
	got, err = client.Scrape(url("whole"))
	client.WantReason(t, got, err, http.StatusServiceUnavailable, "agent_offline")
	a.Start(t)
	if err := client.ScrapedAs(url("whole"), wholeBody); err != nil {
		t.Errorf("the first scrape after the agent is back: %v", err)
	}
	relayBefore.WantRest(t)
	agentBefore = house.VitalsOf(t, a.URL)

	// The relay is killed.
	s = client.BeginBody(t, url("chunked"), time.Minute)
	r.Kill(t)
	s.WantBroken(t, "relay killed")
	r.Start(t)
	client.WantScraped(t, client.Patience, url("whole"), wholeBody)
	agentBefore.WantRest(t)
}

// flaps is how often an agent comes and goes.
const flaps = 100

// TestTunnelFlapping: an agent that comes and goes all the time leaves nothing behind at the relay, and costs other agents
// nothing.
func TestTunnelFlapping(t *testing.T) {
	t.Parallel()
	address := exporter.Serve(t, exporter.NewStaged())
	r := house.StartRelay(t)
	house.StartAgent(t, r, "steady", house.ConfigOf(address, exporter.StagedPaths...))
	dir, web := r.Issue(t, "flapping"), program.FreeAddress(t)
	file := filepath.Join(t.TempDir(), "agent.yml")
	client.WriteFile(t, file, house.ConfigOf(address, exporter.StagedPaths...))
	flapping := program.Command{Path: program.RelayAgent(), Dir: t.TempDir(), Args: append(house.CertificateFlags(dir),
		"--relay.address="+r.GRPC, "--config.file="+file, "--web.listen-address="+web)}
	steady := r.Session(t, "steady")
	var before house.Vitals
	var last time.Time
	for n := range flaps {
		cmd := flapping.Cmd(t)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// Every other one is killed as soon as the relay has it, the others at some earlier moment.
		if n%2 == 0 {
			client.Eventually(t, client.Patience, "flapping agent is attached", func() error {
				for _, s := range house.DecodeData[house.RelaySession](t, client.MustGet(t, r.URL+"/api/v1/agents")) {
					if s.Agent == "flapping" && s.Connected && s.SessionStarted.After(last) {
						last = s.SessionStarted
						return nil
					}
				}
				return house.ErrNotConnected
			})
		} else {
			<-time.After(time.Duration(n%50) * time.Millisecond)
		}
		if err := cmd.Process.Signal(os.Kill); err != nil {
			t.Fatal(err)
		}
		cmd.Wait()
		if n == 0 {
			client.Eventually(t, client.Patience, "the first one is gone", func() error {
				if r.Connected(t, "flapping") {
					return house.ErrStillConnected
				}
				return nil
			})
			before = house.VitalsOf(t, r.URL)
		}
		if n%20 == 0 {
			if err := client.ScrapedAs(r.TargetURL("steady", "metrics", address), exporter.StagedBody); err != nil {
				t.Errorf("scrape of another agent: %v", err)
			}
		}
	}
	before.WantRest(t)
	r.WantSameSession(t, steady)
	got, err := client.Scrape(r.TargetURL("flapping", "metrics", address))
	client.WantReason(t, got, err, http.StatusServiceUnavailable, "agent_offline")
	if groups := r.Discovered(t); len(groups) != 2*len(exporter.StagedPaths) {
		t.Errorf("%d targets are listed, want those of both agents: %d", len(groups), 2*len(exporter.StagedPaths))
	}
}
