//go:build linux

package e2e_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"pushrelay/internal/faultproxy"
)

// limitBytes is the relay's --scrape.max-body-size here.
const limitBytes = 4 << 20

// A misdeed is what a target does instead of answering as it should, and what the scraper is told.
type misdeed struct {
	script script
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
	"silent":         {script: untilHungUp, timeout: time.Second, status: 504, reason: "scrape_timeout"},
	"silent-in-head": {script: func(c net.Conn) { io.WriteString(c, "HTTP/1.1 200 O"); untilHungUp(c) }, timeout: time.Second, status: 504, reason: "scrape_timeout"},
	"silent-in-body": {script: func(c net.Conn) { io.WriteString(c, chunkedHead+"5\r\nm 1\nm"); untilHungUp(c) }, timeout: time.Second, aborted: true},
	// Without a byte of the body the head is not passed on either, and there is a reason in its place.
	"head-only":         {script: says("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"), status: 502, reason: "target_unreachable"},
	"head-only-chunked": {script: says(chunkedHead), status: 502, reason: "target_unreachable"},
	"silent-after-head": {script: func(c net.Conn) { io.WriteString(c, chunkedHead); untilHungUp(c) }, timeout: time.Second, status: 504, reason: "scrape_timeout"},
	"no-head":           {script: func(net.Conn) {}, status: 502, reason: "target_unreachable"},
	"half-a-head":       {script: says("HTTP/1.1 200 OK\r\nContent-"), status: 502, reason: "target_unreachable"},
	"no-http":           {script: says("220 mail.example.org ESMTP\r\n"), status: 502, reason: "target_unreachable"},
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
	"shorter-than-said": {script: says("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nm 1\n"), aborted: true},
	"longer-than-said":  {script: says("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nm 1\nmore 2\n"), status: 200, body: "m 1\n"},
	"two-lengths":       {script: says("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nm 1\n"), status: 502, reason: "target_unreachable"},
	"no-last-chunk":     {script: says(chunkedHead + "4\r\nm 1\n\r\n"), aborted: true},
	"broken-chunk":      {script: says(chunkedHead + "4\r\nm 1\n\r\nzz\r\n"), aborted: true},
	"redirect-away":     {script: says("HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/latest\r\nContent-Length: 0\r\n\r\n"), status: 502, reason: "target_redirects"},
	"redirect-scheme":   {script: says("HTTP/1.1 301 Moved\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n"), status: 502, reason: "target_redirects"},
	"redirect-within":   {script: says("HTTP/1.1 302 Found\r\nLocation: /fine\r\nContent-Length: 0\r\n\r\n"), status: 200, body: "fine 1\n"},
	"redirect-round":    {script: says("HTTP/1.1 302 Found\r\nLocation: /redirect-round\r\nContent-Length: 0\r\n\r\n"), status: 502, reason: "target_redirects"},
	"fine":              {script: says("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nfine 1\n"), status: 200, body: "fine 1\n"},
	"hints-first":       {script: says("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nm 1\n"), status: 200, body: "m 1\n"},
	"hints-only":        {script: says("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"), status: 502, reason: "target_unreachable"},
	"switches": {script: func(c net.Conn) {
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		untilHungUp(c)
	}, status: 502, reason: "target_unreachable"},
	"no-content":        {script: says("HTTP/1.1 204 No Content\r\n\r\n"), status: 204},
	"not-modified":      {script: says("HTTP/1.1 304 Not Modified\r\nEtag: \"x\"\r\n\r\n"), status: 304},
	"impossible-status": {script: says("HTTP/1.1 999 Whatever\r\nContent-Length: 0\r\n\r\n"), status: 502, reason: "target_unreachable"},
	"huge-header":       {script: says("HTTP/1.1 200 OK\r\nX-Huge: " + strings.Repeat("x", 2<<20) + "\r\nContent-Length: 4\r\n\r\nm 1\n"), status: 200, body: "m 1\n"},
	"endless-header": {script: func(c net.Conn) {
		io.WriteString(c, "HTTP/1.1 200 OK\r\n")
		flood(c, 1<<30, func(text string) string { return "X-Much: " + text + "\r\n" })
	}, status: 502, reason: "target_unreachable"},
	"large-header": {script: says("HTTP/1.1 200 OK\r\nX-Large: " + strings.Repeat("x", 100<<10) + "\r\nContent-Length: 4\r\n\r\nm 1\n"), status: 200, body: "m 1\n"},
}

// TestTunnelTargetMisbehaves: whatever a target does costs its own scrape, with a reason, and neither the session nor
// anything that stays.
func TestTunnelTargetMisbehaves(t *testing.T) {
	t.Parallel()
	scripts, paths := map[string]script{}, []string{}
	for path, m := range misdeeds {
		scripts[path], paths = m.script, append(paths, path)
	}
	address := serveScripts(t, scripts)
	r := startRelay(t, fmt.Sprintf("--scrape.max-body-size=%dB", limitBytes))
	a := startAgent(t, r, "site-a", configOf(address, paths...))
	if err := scrapedAs(r.targetURL("site-a", "fine", address), "fine 1\n"); err != nil {
		t.Fatal(err)
	}
	relayBefore, agentBefore, session := vitalsOf(t, r.url), vitalsOf(t, a.url), r.session(t, "site-a")
	var all sync.WaitGroup // all at once, whatever else runs: not t.Parallel
	for path, m := range misdeeds {
		all.Go(func() {
			t.Run(path, func(t *testing.T) { m.check(t, r.targetURL("site-a", path, address)) })
		})
	}
	all.Wait()
	if err := scrapedAs(r.targetURL("site-a", "fine", address), "fine 1\n"); err != nil {
		t.Error(err)
	}
	r.wantSameSession(t, session)
	for _, p := range []*process{r.process, a.process} {
		if peak := p.peakBytes(t); peak > 256<<20 {
			t.Errorf("%s had %d MiB while targets sent gigabytes", p.name, peak>>20)
		}
	}
	relayBefore.wantRest(t)
	agentBefore.wantRest(t)
}

func (m misdeed) check(t *testing.T, url string) {
	t.Helper()
	got, err := scrapeRequest{url: url, timeout: m.timeout}.do()
	switch {
	case m.aborted:
		wantAborted(t, got, err)
		if len(got.body) > limitBytes {
			t.Errorf("%d bytes came, want at most the %d of the limit", len(got.body), limitBytes)
		}
	case m.reason != "":
		wantReason(t, got, err, m.status, m.reason)
	case err != nil || got.status != m.status || got.body != m.body || got.header.Get("X-Relay-Error") != "":
		t.Errorf("scrape = %d %v %s, %v, want %d %q", got.status, got.header.Get("X-Relay-Error"), clip(got.body), err, m.status, m.body)
	}
	if length := got.header.Get("Content-Length"); length != "" && (m.status == 204 || m.status == 304) {
		t.Errorf("an answer %d says Content-Length: %s, which the target did not", m.status, length)
	}
}

// TestTunnelTargetNetwork: the way between agent and target breaks in the middle of a body.
func TestTunnelTargetNetwork(t *testing.T) {
	t.Parallel()
	network := newNetworkTo(t, serveHandler(t, newStagedTarget()), "target")
	address := network.Addr()
	r := startRelay(t)
	a := startAgent(t, r, "site-a", configOf(address, stagedPaths...))
	url := r.urlOf("site-a", address)
	wantScraped(t, patience, url("metrics"), stagedBody)
	relayBefore, agentBefore, session := vitalsOf(t, r.url), vitalsOf(t, a.url), r.session(t, "site-a")
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
			s := beginBody(t, url("body"), tt.timeout)
			tt.breaks()
			s.wantBroken(t, tt.name)
			network.Set(faultproxy.Conditions{})
			wantScraped(t, patience, url("metrics"), stagedBody)
		})
	}
	t.Run("refused", func(t *testing.T) {
		network.Set(faultproxy.Conditions{Refuse: true})
		defer network.Set(faultproxy.Conditions{})
		got, err := scrape(url("metrics"))
		wantReason(t, got, err, http.StatusBadGateway, "target_unreachable")
	})
	t.Run("does not answer the dial", func(t *testing.T) {
		network.Set(faultproxy.Conditions{Freeze: faultproxy.Both})
		defer network.Set(faultproxy.Conditions{})
		got, err := scrapeRequest{url: url("metrics"), timeout: time.Second}.do()
		wantReason(t, got, err, http.StatusGatewayTimeout, "scrape_timeout")
	})
	r.wantSameSession(t, session)
	relayBefore.wantRest(t)
	agentBefore.wantRest(t)
}
