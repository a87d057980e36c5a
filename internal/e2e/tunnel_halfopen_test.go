//go:build linux

package e2e_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"pushrelay/internal/faultproxy"
)

// How soon a peer that vanished has to be noticed (T4), and what a busy machine may take in addition.
const (
	noticed   = 45 * time.Second
	tolerance = 10 * time.Second
)

// A vanished agent is one that its relay can no longer hear, or that can no longer hear its relay.
type vanished struct {
	what    string
	site    *site
	relay   *relay
	address string // of the target
	stage   stage
	scrape  *pending
	vanish  func()
	restore func()
	before  vitals       // of the agent
	session relaySession // before it vanished
	// stopped is the program that is stopped itself, and cannot say what it notices.
	stopped *process
}

func (c *vanished) url(path string) string { return c.relay.targetURL(c.site.name, path, c.address) }

// scrapeTimeout is that of the scrapes that are under way when something vanishes.
const scrapeTimeout = 20 * time.Second

// TestTunnelHalfOpen: whoever vanishes without a word is noticed on both sides in time, and comes back by itself. All that
// has to be waited for is waited for at once.
func TestTunnelHalfOpen(t *testing.T) {
	t.Parallel()
	target := newStagedTarget()
	address := serveHandler(t, target)
	config := configOf(address, stagedPaths...)
	r := startRelay(t)
	var cases []*vanished
	add := func(r *relay, what string, at stage) *vanished {
		c := &vanished{what: what, site: startSite(t, r, what, config), relay: r, address: address, stage: at}
		cases = append(cases, c)
		return c
	}
	for name, direction := range map[string]faultproxy.Direction{"up": faultproxy.Up, "down": faultproxy.Down, "both": faultproxy.Both} {
		for _, at := range []stage{idle, requested, inBody} {
			c := add(r, name+"-"+string(at), at)
			c.vanish = func() { c.site.network.Set(faultproxy.Conditions{Freeze: direction}) }
			c.restore = func() { c.site.network.Set(faultproxy.Conditions{}) }
		}
	}
	other := startRelay(t)
	for _, c := range []*vanished{add(r, "stopped-agent", inBody), add(other, "stopped-relay", requested)} {
		c.stopped = c.site.process
		if c.relay == other {
			c.stopped = other.process // it answers its scraper when it goes on
		}
		c.vanish = func() { c.stopped.suspend(t) }
		c.restore = func() { c.stopped.signal(t, syscall.SIGCONT) }
		t.Cleanup(func() { // what is stopped cannot end in good order
			if c.stopped.running() {
				c.restore()
			}
		})
	}
	startAgent(t, r, "stalled", config)

	relayBefore := vitalsOf(t, r.url)
	for _, c := range cases {
		c.before, c.session = vitalsOf(t, c.site.url), c.relay.session(t, c.site.name)
		c.scrape = target.begin(t, c.url, c.stage, scrapeTimeout)
	}
	stall := startStalledScrape(t, r, address)
	for _, c := range cases {
		c.vanish()
	}
	since := time.Now()
	for _, c := range cases {
		c.wantNoticed(t, since)
	}
	stall.wantReleased(t, target, since)
	for _, c := range cases {
		c.restore()
	}
	for _, c := range cases {
		c.scrape.wantFailed(t, c.what, time.Now().Add(scrapeTimeout+tolerance))
		c.relay.wantBack(t, c.session)
		wantScraped(t, patience, c.url("metrics"), stagedBody)
	}
	relayBefore.wantRest(t)
	for _, c := range cases {
		c.before.wantRest(t)
	}
}

// wantNoticed checks that both sides notice in time, those that can, and that a scrape is then answered at once.
func (c *vanished) wantNoticed(t *testing.T, since time.Time) {
	t.Helper()
	left := func() time.Duration { return time.Until(since.Add(noticed + tolerance)) }
	if c.stopped != c.site.process {
		eventually(t, left(), c.what+": noticed by the agent", func() error {
			value, there, err := valueOf(c.site.url, fmt.Sprintf("relay_agent_connected{relay=%q}", c.site.network.Addr()))
			if err == nil && (!there || value != 0) {
				err = errStillConnected
			}
			return err
		})
	}
	if c.stopped == c.relay.process {
		return
	}
	eventually(t, left(), c.what+": noticed by the relay", func() error {
		if c.relay.connected(t, c.site.name) {
			return errStillConnected
		}
		return nil
	})
	startedAt := time.Now()
	got, err := scrapeRequest{url: c.url("metrics"), timeout: time.Minute}.do()
	wantReason(t, got, err, http.StatusServiceUnavailable, "agent_offline")
	if took := time.Since(startedAt); took > 15*time.Second {
		t.Errorf("%s: a scrape of an agent that is offline was answered after %v", c.what, took)
	}
}

// A stalledScrape is one whose scraper takes nothing any more.
type stalledScrape struct {
	network *faultproxy.Proxy
	others  string // URL of a target of the same agent
}

// startStalledScrape begins a scrape of a body without end, and stops what is between the relay and its scraper.
func startStalledScrape(t *testing.T, r *relay, address string) stalledScrape {
	t.Helper()
	network := newNetworkTo(t, strings.TrimPrefix(r.url, "http://"), "stalled")
	url := strings.Replace(r.targetURL("stalled", "flood", address), r.url, "http://"+network.Addr(), 1)
	resp, err := scrapeRequest{url: url, timeout: time.Hour}.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if _, err := io.ReadFull(resp.Body, make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	network.Set(faultproxy.Conditions{Freeze: faultproxy.Down})
	return stalledScrape{network, r.targetURL("stalled", "metrics", address)}
}

// wantReleased checks that a scraper that takes nothing costs its own scrape, at some time, and the others nothing.
func (s stalledScrape) wantReleased(t *testing.T, target *stagedTarget, since time.Time) {
	t.Helper()
	wantScraped(t, patience, s.others, stagedBody)
	select {
	case <-target.released:
	case <-time.After(time.Until(since.Add(noticed + tolerance))):
		t.Error("the scrape that nobody reads still goes on")
	}
	wantScraped(t, patience, s.others, stagedBody)
}
