//go:build linux

package tunnel_test

import (
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
	"pushrelay/internal/faultproxy"
)

// limitBytes is the relay's --scrape.max-body-size here.
const limitBytes = 4 << 20

// A misdeed is what a target does instead of answering as it should, and what the scraper is told.
type misdeed struct {
	script exporter.Script
	// timeout of the scraper; 10 s if zero.
	timeout time.Duration
	// status and reason are what comes instead of an answer; with a status alone the answer is passed on as it is.
	status int
	reason string
	body   string
	// aborted says that the answer has to break off. How much of it is seen before depends on buffers: perhaps nothing.
	aborted bool
}

const chunkedHead = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

// flood writes pieces until nobody takes them any more, or the bytes are written.
func flood(c net.Conn, bytes int64, piece func(text string) string) {
	text := strings.Repeat("x", 64<<10)
	for ; bytes > 0; bytes -= int64(len(text)) {
		if _, err := io.WriteString(c, piece(text)); err != nil {
			return
		}
	}
}

var misdeeds = map[string]misdeed{
	"trickles": {script: func(c net.Conn) {
		io.WriteString(c, chunkedHead)
		for {
			if _, err := io.WriteString(c, "1\r\nx\r\n"); err != nil {
				return
			}
			<-time.After(20 * time.Millisecond)
		}
	}, timeout: time.Second, aborted: true},
	"silent":         {script: exporter.UntilHungUp, timeout: time.Second, status: 504, reason: "scrape_timeout"},
	"silent-in-head": {script: func(c net.Conn) { io.WriteString(c, "HTTP/1.1 200 O"); exporter.UntilHungUp(c) }, timeout: time.Second, status: 504, reason: "scrape_timeout"},
	"silent-in-body": {script: func(c net.Conn) { io.WriteString(c, chunkedHead+"5\r\nm 1\nm"); exporter.UntilHungUp(c) }, timeout: time.Second, aborted: true},
	// Without a byte of the body the head is not passed on either, and there is a reason in its place.
	"head-only":         {script: exporter.Says("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"), status: 502, reason: "target_unreachable"},
	"head-only-chunked": {script: exporter.Says(chunkedHead), status: 502, reason: "target_unreachable"},
	"silent-after-head": {script: func(c net.Conn) { io.WriteString(c, chunkedHead); exporter.UntilHungUp(c) }, timeout: time.Second, status: 504, reason: "scrape_timeout"},
	"no-head":           {script: func(net.Conn) {}, status: 502, reason: "target_unreachable"},
	"half-a-head":       {script: exporter.Says("HTTP/1.1 200 OK\r\nContent-"), status: 502, reason: "target_unreachable"},
	"no-http":           {script: exporter.Says("220 mail.example.org ESMTP\r\n"), status: 502, reason: "target_unreachable"},
	"gigabyte": {script: func(c net.Conn) {
		io.WriteString(c, chunkedHead)
		flood(c, 1<<30, func(text string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(text), text) })
	}, aborted: true},
	"announced-gigabyte": {script: func(c net.Conn) {
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
		flood(c, 1<<30, func(text string) string { return text })
	}, status: 502, reason: "body_too_large"},
	"unbounded-gigabyte": {script: func(c net.Conn) { // ended by the end of the connection
		io.WriteString(c, "HTTP/1.0 200 OK\r\n\r\n")
		flood(c, 1<<30, func(text string) string { return text })
	}, aborted: true},
	"shorter-than-said": {script: exporter.Says("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nm 1\n"), aborted: true},
	"longer-than-said":  {script: exporter.Says("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nm 1\nmore 2\n"), status: 200, body: "m 1\n"},
	"two-lengths":       {script: exporter.Says("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nm 1\n"), status: 502, reason: "target_unreachable"},
	"no-last-chunk":     {script: exporter.Says(chunkedHead + "4\r\nm 1\n\r\n"), aborted: true},
	"broken-chunk":      {script: exporter.Says(chunkedHead + "4\r\nm 1\n\r\nzz\r\n"), aborted: true},
	"redirect-away":     {script: exporter.Says("HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/latest\r\nContent-Length: 0\r\n\r\n"), status: 502, reason: "target_redirects"},
	"redirect-scheme":   {script: exporter.Says("HTTP/1.1 301 Moved\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n"), status: 502, reason: "target_redirects"},
	"redirect-within":   {script: exporter.Says("HTTP/1.1 302 Found\r\nLocation: /fine\r\nContent-Length: 0\r\n\r\n"), status: 200, body: "fine 1\n"},
	"redirect-round":    {script: exporter.Says("HTTP/1.1 302 Found\r\nLocation: /redirect-round\r\nContent-Length: 0\r\n\r\n"), status: 502, reason: "target_redirects"},
	"fine":              {script: exporter.Says("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nfine 1\n"), status: 200, body: "fine 1\n"},
	"hints-first":       {script: exporter.Says("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nm 1\n"), status: 200, body: "m 1\n"},
	"hints-only":        {script: exporter.Says("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"), status: 502, reason: "target_unreachable"},
	"switches": {script: func(c net.Conn) {
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		exporter.UntilHungUp(c)
	}, status: 502, reason: "target_unreachable"},
	"no-content":        {script: exporter.Says("HTTP/1.1 204 No Content\r\n\r\n"), status: 204},
	"not-modified":      {script: exporter.Says("HTTP/1.1 304 Not Modified\r\nEtag: \"x\"\r\n\r\n"), status: 304},
	"impossible-status": {script: exporter.Says("HTTP/1.1 999 Whatever\r\nContent-Length: 0\r\n\r\n"), status: 502, reason: "target_unreachable"},
	"huge-header":       {script: exporter.Says("HTTP/1.1 200 OK\r\nX-Huge: " + strings.Repeat("x", 2<<20) + "\r\nContent-Length: 4\r\n\r\nm 1\n"), status: 200, body: "m 1\n"},
	"endless-header": {script: func(c net.Conn) {
		io.WriteString(c, "HTTP/1.1 200 OK\r\n")
		flood(c, 1<<30, func(text string) string { return "X-Much: " + text + "\r\n" })
	}, status: 502, reason: "target_unreachable"},
	"large-header": {script: exporter.Says("HTTP/1.1 200 OK\r\nX-Large: " + strings.Repeat("x", 100<<10) + "\r\nContent-Length: 4\r\n\r\nm 1\n"), status: 200, body: "m 1\n"},
}

// TestTunnelTargetMisbehaves: whatever a target does costs its own scrape, with a reason, and neither the session nor
// anything that stays.
func TestTunnelTargetMisbehaves(t *testing.T) {
	t.Parallel()
	scripts, paths := map[string]exporter.Script{}, []string{}
	for path, m := range misdeeds {
		scripts[path], paths = m.script, append(paths, path)
	}
	address := exporter.ServeScripts(t, scripts)
	r := house.StartRelay(t, fmt.Sprintf("--scrape.max-body-size=%dB", limitBytes))
	a := house.StartAgent(t, r, "site-a", house.ConfigOf(address, paths...))
	if err := client.ScrapedAs(r.TargetURL("site-a", "fine", address), "fine 1\n"); err != nil {
		t.Fatal(err)
	}
	relayBefore, agentBefore, session := house.VitalsOf(t, r.URL), house.VitalsOf(t, a.URL), r.Session(t, "site-a")
	var all sync.WaitGroup // all at once, whatever else runs: not t.Parallel
	for path, m := range misdeeds {
		all.Go(func() {
			t.Run(path, func(t *testing.T) { m.check(t, r.TargetURL("site-a", path, address)) })
		})
	}
	all.Wait()
	if err := client.ScrapedAs(r.TargetURL("site-a", "fine", address), "fine 1\n"); err != nil {
		t.Error(err)
	}
	r.WantSameSession(t, session)
	for _, p := range []*program.Process{r.Process, a.Process} {
		if peak := p.PeakBytes(t); peak > 256<<20 {
			t.Errorf("%s had %d MiB while targets sent gigabytes", p.Name, peak>>20)
		}
	}
	relayBefore.WantRest(t)
	agentBefore.WantRest(t)
}

func (m misdeed) check(t *testing.T, url string) {
	t.Helper()
	got, err := client.ScrapeRequest{URL: url, Timeout: m.timeout}.Do()
	switch {
	case m.aborted:
		client.WantAborted(t, got, err)
		if len(got.Body) > limitBytes {
			t.Errorf("%d bytes came, want at most the %d of the limit", len(got.Body), limitBytes)
		}
	case m.reason != "":
		client.WantReason(t, got, err, m.status, m.reason)
	case err != nil || got.Status != m.status || got.Body != m.body || got.Header.Get("X-Relay-Error") != "":
		t.Errorf("scrape = %d %v %s, %v, want %d %q", got.Status, got.Header.Get("X-Relay-Error"), client.Clip(got.Body), err, m.status, m.body)
	}
	if length := got.Header.Get("Content-Length"); length != "" && (m.status == 204 || m.status == 304) {
		t.Errorf("an answer %d says Content-Length: %s, which the target did not", m.status, length)
	}
}

// TestTunnelTargetNetwork: the way between agent and target breaks in the middle of a body.
func TestTunnelTargetNetwork(t *testing.T) {
	t.Parallel()
	network := house.NewNetworkTo(t, exporter.Serve(t, exporter.NewStaged()), "target")
	address := network.Addr()
	r := house.StartRelay(t)
	a := house.StartAgent(t, r, "site-a", house.ConfigOf(address, exporter.StagedPaths...))
	url := r.URLOf("site-a", address)
	client.WantScraped(t, client.Patience, url("metrics"), exporter.StagedBody)
	relayBefore, agentBefore, session := house.VitalsOf(t, r.URL), house.VitalsOf(t, a.URL), r.Session(t, "site-a")
	for _, tt := range []struct {
		name    string
		timeout time.Duration
		breaks  func()
	}{
		{"reset", time.Minute, func() { network.Cut(faultproxy.Reset) }},
		{"finish", time.Minute, func() { network.Cut(faultproxy.Finish) }},
		{"half open", 2 * time.Second, func() { network.Set(faultproxy.Conditions{Freeze: faultproxy.Both}) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := client.BeginBody(t, url("body"), tt.timeout)
			tt.breaks()
			s.WantBroken(t, tt.name)
			network.Set(faultproxy.Conditions{})
			client.WantScraped(t, client.Patience, url("metrics"), exporter.StagedBody)
		})
	}
	t.Run("refused", func(t *testing.T) {
		network.Set(faultproxy.Conditions{Refuse: true})
		defer network.Set(faultproxy.Conditions{})
		got, err := client.Scrape(url("metrics"))
		client.WantReason(t, got, err, http.StatusBadGateway, "target_unreachable")
	})
	t.Run("does not answer the dial", func(t *testing.T) {
		network.Set(faultproxy.Conditions{Freeze: faultproxy.Both})
		defer network.Set(faultproxy.Conditions{})
		got, err := client.ScrapeRequest{URL: url("metrics"), Timeout: time.Second}.Do()
		client.WantReason(t, got, err, http.StatusGatewayTimeout, "scrape_timeout")
	})
	r.WantSameSession(t, session)
	relayBefore.WantRest(t)
	agentBefore.WantRest(t)
}
