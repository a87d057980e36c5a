//go:build linux

package tunnel_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/exporter"
	"pushrelay/internal/e2e/house"
	"pushrelay/internal/e2e/program"
	"pushrelay/internal/faultproxy"
)

// A vanished agent is one that its relay can no longer hear, or that can no longer hear its relay.
type vanished struct {
	what    string
	site    *house.Site
	relay   *house.Relay
	address string // of the target
	stage   exporter.Stage
	scrape  *exporter.Pending
	vanish  func()
	restore func()
	before  house.Vitals       // of the agent
	session house.RelaySession // before it vanished
	// stopped is the program that is stopped itself, and cannot say what it notices.
	stopped *program.Process
}

func (c *vanished) url(path string) string { return c.relay.TargetURL(c.site.Name, path, c.address) }

// scrapeTimeout is that of the scrapes that are under way when something vanishes.
const scrapeTimeout = 20 * time.Second

// TestTunnelHalfOpen: whoever vanishes without a word is noticed on both sides in time, and comes back by itself. All that
// has to be waited for is waited for at once.
func TestTunnelHalfOpen(t *testing.T) {
	t.Parallel()
	target := exporter.NewStaged()
	address := exporter.Serve(t, target)
	config := house.ConfigOf(address, exporter.StagedPaths...)
	r := house.StartRelay(t)
	var cases []*vanished
	add := func(r *house.Relay, what string, at exporter.Stage) *vanished {
		c := &vanished{what: what, site: house.StartSite(t, r, what, config), relay: r, address: address, stage: at}
		cases = append(cases, c)
		return c
	}
	for name, direction := range map[string]faultproxy.Direction{"up": faultproxy.Up, "down": faultproxy.Down, "both": faultproxy.Both} {
		for _, at := range []exporter.Stage{exporter.Idle, exporter.Requested, exporter.InBody} {
			c := add(r, name+"-"+string(at), at)
			c.vanish = func() { c.site.Network.Set(faultproxy.Conditions{Freeze: direction}) }
			c.restore = func() { c.site.Network.Set(faultproxy.Conditions{}) }
		}
	}
	other := house.StartRelay(t)
	for _, c := range []*vanished{add(r, "stopped-agent", exporter.InBody), add(other, "stopped-relay", exporter.Requested)} {
		c.stopped = c.site.Process
		if c.relay == other {
			c.stopped = other.Process // it answers its scraper when it goes on
		}
		c.vanish = func() { c.stopped.Suspend(t) }
		c.restore = func() { c.stopped.Signal(t, syscall.SIGCONT) }
		t.Cleanup(func() { // what is stopped cannot end in good order
			if c.stopped.Running() {
				c.restore()
			}
		})
	}
	house.StartAgent(t, r, "stalled", config)

	relayBefore := house.VitalsOf(t, r.URL)
	for _, c := range cases {
		c.before, c.session = house.VitalsOf(t, c.site.URL), c.relay.Session(t, c.site.Name)
		c.scrape = target.Begin(t, c.url, c.stage, scrapeTimeout)
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
		c.scrape.WantFailed(t, c.what, time.Now().Add(scrapeTimeout+house.Tolerance))
		c.relay.WantBack(t, c.session)
		client.WantScraped(t, client.Patience, c.url("metrics"), exporter.StagedBody)
	}
	relayBefore.WantRest(t)
	for _, c := range cases {
		c.before.WantRest(t)
	}
}

// wantNoticed checks that both sides notice in time, those that can, and that a scrape is then answered at once.
func (c *vanished) wantNoticed(t *testing.T, since time.Time) {
	t.Helper()
	left := func() time.Duration { return time.Until(since.Add(house.Noticed + house.Tolerance)) }
	if c.stopped != c.site.Process {
		client.Eventually(t, left(), c.what+": noticed by the agent", func() error {
			value, there, err := client.ValueOf(c.site.URL, fmt.Sprintf("relay_agent_connected{relay=%q}", c.site.Network.Addr()))
			if err == nil && (!there || value != 0) {
				err = house.ErrStillConnected
			}
			return err
		})
	}
	if c.stopped == c.relay.Process {
		return
	}
	client.Eventually(t, left(), c.what+": noticed by the relay", func() error {
		if c.relay.Connected(t, c.site.Name) {
			return house.ErrStillConnected
		}
		return nil
	})
	startedAt := time.Now()
	got, err := client.ScrapeRequest{URL: c.url("metrics"), Timeout: time.Minute}.Do()
	client.WantReason(t, got, err, http.StatusServiceUnavailable, "agent_offline")
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
func startStalledScrape(t *testing.T, r *house.Relay, address string) stalledScrape {
	t.Helper()
	network := house.NewNetworkTo(t, strings.TrimPrefix(r.URL, "http://"), "stalled")
	url := strings.Replace(r.TargetURL("stalled", "flood", address), r.URL, "http://"+network.Addr(), 1)
	resp, err := client.ScrapeRequest{URL: url, Timeout: time.Hour}.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if _, err := io.ReadFull(resp.Body, make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	network.Set(faultproxy.Conditions{Freeze: faultproxy.Down})
	return stalledScrape{network, r.TargetURL("stalled", "metrics", address)}
}

// wantReleased checks that a scraper that takes nothing costs its own scrape, at some time, and the others nothing.
func (s stalledScrape) wantReleased(t *testing.T, target *exporter.Staged, since time.Time) {
	t.Helper()
	client.WantScraped(t, client.Patience, s.others, exporter.StagedBody)
	select {
	case <-target.Released:
	case <-time.After(time.Until(since.Add(house.Noticed + house.Tolerance))):
		t.Error("the scrape that nobody reads still goes on")
	}
	client.WantScraped(t, client.Patience, s.others, exporter.StagedBody)
}
