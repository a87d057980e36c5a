//go:build linux

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/faultproxy"
)

// A site is an agent behind a network that the test can break.
type site struct {
	*agent
	network *faultproxy.Proxy
}

// startSite starts an agent whose way to the relay leads through a network of its own, and waits until it is connected.
func startSite(t testing.TB, r *relay, name, config string, flags ...string) *site {
	t.Helper()
	network := newNetworkTo(t, r.grpc, name)
	return &site{agent: startAgentVia(t, r, network.Addr(), name, config, flags...), network: network}
}

// newNetworkTo starts a network that leads to an address. Its name decides what happens at random. Cleanup closes it after
// what is started later.
func newNetworkTo(t testing.TB, address, name string) *faultproxy.Proxy {
	t.Helper()
	network, err := faultproxy.Listen(faultproxy.Config{Address: address, Seed: uint64(crc32.ChecksumIEEE([]byte(name)))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(network.Close)
	return network
}

// startAgentVia is startAgent for an agent that dials another address than the relay's own.
func startAgentVia(t testing.TB, r *relay, address, name, config string, flags ...string) *agent {
	t.Helper()
	a := newAgentVia(t, r, address, name, config, flags...)
	a.start(t)
	return a
}

// newAgentVia is startAgentVia for an agent that somebody else starts.
func newAgentVia(t testing.TB, r *relay, address, name, config string, flags ...string) *agent {
	t.Helper()
	dir, web := t.TempDir(), freeAddress(t)
	file := filepath.Join(dir, "agent.yml")
	writeFile(t, file, config)
	args := append([]string{"--relay.address=" + address, "--config.file=" + file, "--web.listen-address=" + web}, certificateFlags(r.issue(t, name))...)
	return &agent{
		owner: t, name: name, url: "http://" + web, relay: r, dials: address,
		command: command{path: programs.relayAgent, dir: dir, args: append(args, flags...)},
	}
}

// certificateFlags are the TLS flags of an agent whose files the relay issued.
func certificateFlags(dir string) []string {
	return []string{
		"--tls.ca-file=" + filepath.Join(dir, "ca.crt"),
		"--tls.cert-file=" + filepath.Join(dir, "agent.crt"), "--tls.key-file=" + filepath.Join(dir, "agent.key"),
	}
}

// configOf is a configuration with one job for each path of an address; the job has the path's name.
func configOf(address string, paths ...string) string {
	var b strings.Builder
	b.WriteString("scrape_configs:\n")
	for _, path := range paths {
		fmt.Fprintf(&b, "  - job_name: %s\n    metrics_path: /%s\n    static_configs: [{targets: [%q]}]\n", path, path, address)
	}
	return b.String()
}

// targetURL is where a relay serves a target that [configOf] made.
func (r *relay) targetURL(agent, path, address string) string {
	return r.url + "/agents/" + agent + "/targets/" + path + "-" + address + "/metrics"
}

// A scrapeRequest is what a scraper asks a relay.
type scrapeRequest struct {
	method  string // GET if empty
	url     string
	header  http.Header
	timeout time.Duration // of the scraper, told in the header; 10 s if zero
	// proxy is the relay if it is asked as an HTTP proxy.
	proxy string
}

// patience is how long the tests wait for what a scraper would have given up: an answer that is late is then seen as one.
const patience = 60 * time.Second

// open asks and returns the answer with its body unread. Whoever calls closes the body.
func (q scrapeRequest) open(ctx context.Context) (*http.Response, error) {
	if q.method == "" {
		q.method = http.MethodGet
	}
	if q.timeout == 0 {
		q.timeout = 10 * time.Second
	}
	req, err := http.NewRequestWithContext(ctx, q.method, q.url, nil)
	if err != nil {
		return nil, err
	}
	req.Header = q.header.Clone()
	if req.Header == nil {
		req.Header = http.Header{}
	}
	if _, set := req.Header[timeoutHeader]; !set {
		req.Header.Set(timeoutHeader, strconv.FormatFloat(q.timeout.Seconds(), 'f', -1, 64))
	}
	transport := &http.Transport{DisableKeepAlives: true, DisableCompression: true}
	if q.proxy != "" {
		proxy, err := req.URL.Parse(q.proxy)
		if err != nil {
			return nil, err
		}
		transport.Proxy = http.ProxyURL(proxy)
	}
	return transport.RoundTrip(req) // follows no redirect
}

const timeoutHeader = "X-Prometheus-Scrape-Timeout-Seconds"

// do asks and reads the whole answer. The error says that there was none, or that it was broken off.
func (q scrapeRequest) do() (response, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	resp, err := q.open(ctx)
	if err != nil {
		return response{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return response{resp.StatusCode, resp.Header, string(body)}, err
}

// scrape scrapes a URL of a relay within the scraper's default timeout.
func scrape(url string) (response, error) { return scrapeRequest{url: url}.do() }

var errScrape = errors.New("scrape")

// wantScraped waits until a scrape brings a body.
func wantScraped(t testing.TB, within time.Duration, url, body string) {
	t.Helper()
	eventually(t, within, "scrape of "+url, func() error { return scrapedAs(url, body) })
}

// scrapedAs scrapes once and says what is not as it should be.
func scrapedAs(url, body string) error {
	got, err := scrape(url)
	if err == nil && (got.status != http.StatusOK || got.body != body) {
		err = fmt.Errorf("%w: %d %s %s", errScrape, got.status, got.header.Get("X-Relay-Error"), clip(got.body))
	}
	return err
}

// wantReason checks that a scrape failed with a reason of the relay's.
func wantReason(t testing.TB, got response, err error, status int, reason string) {
	t.Helper()
	if err != nil || got.status != status || got.header.Get("X-Relay-Error") != reason {
		t.Errorf("scrape = %d %q %s, %v, want %d with X-Relay-Error: %s",
			got.status, got.header.Get("X-Relay-Error"), clip(got.body), err, status, reason)
	}
	if strings.Count(strings.TrimSpace(got.body), "\n") != 0 || got.body == "" {
		t.Errorf("the reason is not one line: %q", clip(got.body))
	}
}

// wantAborted checks that an answer began and cannot be taken for whole.
func wantAborted(t testing.TB, got response, err error) {
	t.Helper()
	if err == nil {
		t.Errorf("scrape = %d with a whole body of %d bytes, want the connection broken off", got.status, len(got.body))
	}
}

func clip(s string) string { return s[:min(len(s), 200)] }

// A relaySession is what a relay tells of an agent's session.
type relaySession struct {
	Agent               string
	Connected           bool
	SessionStarted      time.Time  `json:"session_started"`
	CertificateNotAfter *time.Time `json:"certificate_not_after"`
}

// session returns when the current or last session of an agent began: another value is another session.
func (r *relay) session(t testing.TB, agent string) relaySession {
	t.Helper()
	for _, s := range decodeData[relaySession](t, mustGet(t, r.url+"/api/v1/agents")) {
		if s.Agent == agent {
			return s
		}
	}
	t.Fatalf("the relay does not know agent %s", agent)
	return relaySession{}
}

// wantSameSession checks that an agent's session never ended since it was looked at.
func (r *relay) wantSameSession(t testing.TB, before relaySession) {
	t.Helper()
	if now := r.session(t, before.Agent); !now.Connected || !now.SessionStarted.Equal(before.SessionStarted) {
		t.Errorf("session of %s: connected %v since %s, want that of %s", before.Agent, now.Connected, now.SessionStarted, before.SessionStarted)
	}
}

// backWithin is how long an agent may take to come back once nothing is in its way.
const backWithin = 15 * time.Second

// wantBack waits until an agent has another session than before: as long as it may take, and some time for the machine.
func (r *relay) wantBack(t testing.TB, before relaySession) {
	t.Helper()
	eventually(t, backWithin+tolerance/2, before.Agent+" is back", func() error {
		if now := r.session(t, before.Agent); !now.Connected || now.SessionStarted.Equal(before.SessionStarted) {
			return errNotConnected
		}
		return nil
	})
}
