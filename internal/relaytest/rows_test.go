package relaytest_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/exporter"
	"pushrelay/internal/relaytest"
)

// The rows of the table of requests that a PushProx was observed with, each with the answer that we want. They keep their
// numbers, so that a row is found again: 1 to 25 are in this file, the others in internal/e2e/tunnel, since they kill processes or look at what these hold.

// rowsHouse is a relay with one agent that has the target of the rows, also over TLS and under a name.
type rowsHouse struct {
	*relaytest.Relay
	target          *exporter.Rows
	address, secure string
}

func newRowsHouse(t *testing.T) *rowsHouse {
	t.Helper()
	h := &rowsHouse{target: &exporter.Rows{}}
	h.address = exporter.Serve(t, h.target)
	secure := httptest.NewTLSServer(h.target)
	t.Cleanup(secure.Close)
	h.secure = secure.Listener.Addr().String()
	config := targetsAt(h.address, "metrics", "broken", "elsewhere", "nothing", "slow", "short", "chunked") + fmt.Sprintf(`
  - job_name: secure
    scheme: https
    tls_config: {insecure_skip_verify: true}
    static_configs: [{targets: [%q]}]
  - job_name: named
    proxy_paths: [/federate]
    static_configs: [{targets: [%q], labels: {instance: "Node.Example.org:9100"}}]
  - job_name: refused
    static_configs: [{targets: ["127.0.0.1:1"]}]
`, h.secure, h.address)
	opts := relaytest.Options(t)
	opts.ScrapeMaxTimeout = 2 * time.Second
	h.Relay = relaytest.Start(t, opts)
	h.StartAgent(t, "site-a", configured(t, config))
	return h
}

// targetsAt is a configuration of a job for each path of a target.
func targetsAt(address string, paths ...string) string {
	var b strings.Builder
	b.WriteString("scrape_configs:\n")
	for _, path := range paths {
		fmt.Fprintf(&b, "  - {job_name: %s, metrics_path: /%s, static_configs: [{targets: [%q]}]}\n", path, path, address)
	}
	return b.String()
}

// targetURL is where the relay scrapes a target of an agent.
func targetURL(r *relaytest.Relay, agent, path, address string) string {
	return r.URL + "/agents/" + agent + "/targets/" + path + "-" + address + "/metrics"
}

// A row is one request with the answer that we want.
type row struct {
	number int
	what   string
	ask    client.ScrapeRequest // url: a path of the target, or a whole URL
	status int
	reason string // X-Relay-Error
	check  func(t *testing.T, got client.Response, seen *http.Request)
	// aborted says that the answer has to break off.
	aborted bool
	// proxied says that the row has no counterpart among the relay's own routes.
	proxied bool
}

func TestTunnelRows(t *testing.T) {
	h := newRowsHouse(t)
	wantHeader := func(name string, want ...string) func(*testing.T, client.Response, *http.Request) {
		return func(t *testing.T, got client.Response, _ *http.Request) {
			t.Helper()
			if diff := cmp.Diff(want, got.Header.Values(name)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
	}
	// None of these reaches the target; X-Foo does.
	stripped := func(t *testing.T, got client.Response, seen *http.Request) {
		t.Helper()
		for _, name := range []string{"Authorization", "Cookie", "Proxy-Authorization", "Proxy-Connection", "Id"} {
			if value, set := seen.Header[name]; set {
				t.Errorf("the target saw %s: %q", name, value)
			}
		}
		if got.Body != exporter.RowsBody || seen.Header.Get("X-Foo") != "bar" {
			t.Errorf("body %q, X-Foo %q", got.Body, seen.Header.Get("X-Foo"))
		}
	}
	with := func(pairs ...string) http.Header {
		out := http.Header{"X-Foo": {"bar"}}
		for i := 0; i < len(pairs); i += 2 {
			out[pairs[i]] = []string{pairs[i+1]}
		}
		return out
	}
	rows := []row{
		{number: 1, what: "GET", ask: client.ScrapeRequest{URL: "/metrics"}, status: 200, check: func(t *testing.T, got client.Response, _ *http.Request) {
			if got.Body != exporter.RowsBody || got.Header.Get("Content-Type") != "text/plain; version=0.0.4" || got.Header.Get("Content-Length") != fmt.Sprint(len(exporter.RowsBody)) {
				t.Errorf("body %q, header %v", got.Body, got.Header)
			}
		}},
		{number: 2, what: "gzip passes as it is", ask: client.ScrapeRequest{URL: "/metrics", Header: with("Accept-Encoding", "gzip")}, status: 200, check: func(t *testing.T, got client.Response, _ *http.Request) {
			if got.Body != string(exporter.Zipped(exporter.RowsBody)) || got.Header.Get("Content-Encoding") != "gzip" {
				t.Errorf("body %q, header %v", got.Body, got.Header)
			}
		}},
		// PushProx passes Authorization on; here the agent has the credentials of its targets, and nobody else's are shown to them.
		{number: 3, what: "Authorization", ask: client.ScrapeRequest{URL: "/metrics", Header: with("Authorization", "Bearer x", "Cookie", "a=b")}, status: 200, check: stripped},
		{number: 4, what: "Proxy-Authorization", ask: client.ScrapeRequest{URL: "/metrics", Header: with("Proxy-Authorization", "Basic eA==")}, status: 200, check: stripped},
		{number: 5, what: "Proxy-Connection and Id", ask: client.ScrapeRequest{URL: "/metrics", Header: with("Proxy-Connection", "keep-alive", "Id", "1")}, status: 200, check: stripped},
		{number: 6, what: "no timeout", ask: client.ScrapeRequest{URL: "/metrics", Header: http.Header{client.TimeoutHeader: nil}}, status: 200},
		{number: 7, what: "timeout NaN", ask: client.ScrapeRequest{URL: "/metrics", Header: with(client.TimeoutHeader, "NaN")}, status: 400},
		{number: 7, what: "timeout -1", ask: client.ScrapeRequest{URL: "/metrics", Header: with(client.TimeoutHeader, "-1")}, status: 400},
		{number: 8, what: "POST", ask: client.ScrapeRequest{URL: "/metrics", Method: http.MethodPost}, status: 405},
		{number: 9, what: "DELETE", ask: client.ScrapeRequest{URL: "/metrics", Method: http.MethodDelete}, status: 405},
		{number: 10, what: "HEAD", ask: client.ScrapeRequest{URL: "/metrics", Method: http.MethodHead}, status: 200, check: func(t *testing.T, got client.Response, seen *http.Request) {
			if got.Body != "" || got.Header.Get("Content-Length") != fmt.Sprint(len(exporter.RowsBody)) || seen.Method != http.MethodHead {
				t.Errorf("body %q, header %v, the target saw %s", got.Body, got.Header, seen.Method)
			}
		}},
		{number: 11, what: "unknown host", ask: client.ScrapeRequest{URL: "http://nobody.example.org:9100/metrics", Timeout: time.Second}, status: 404, reason: "target_unknown", proxied: true},
		{number: 11, what: "unknown agent", ask: client.ScrapeRequest{URL: targetURL(h.Relay, "nobody", "metrics", h.address)}, status: 404, reason: "agent_unknown"},
		{number: 11, what: "unknown target", ask: client.ScrapeRequest{URL: targetURL(h.Relay, "site-a", "nothing-such", h.address)}, status: 404, reason: "target_unknown"},
		{number: 12, what: "refused port", ask: client.ScrapeRequest{URL: "http://127.0.0.1:1/metrics"}, status: 502, reason: "target_unreachable", proxied: true},
		{number: 12, what: "refused port, own route", ask: client.ScrapeRequest{URL: targetURL(h.Relay, "site-a", "refused", "127.0.0.1:1")}, status: 502, reason: "target_unreachable"},
		{number: 13, what: "the target's own 500", ask: client.ScrapeRequest{URL: "/broken"}, status: 500, check: func(t *testing.T, got client.Response, _ *http.Request) {
			if got.Body != "the target's own words\n" || got.Header.Get("X-Own") != "" {
				t.Errorf("body %q, header %v", got.Body, got.Header)
			}
		}},
		{number: 14, what: "redirect to another host", ask: client.ScrapeRequest{URL: "/elsewhere"}, status: 502, reason: "target_redirects", check: wantHeader("Location")},
		{number: 15, what: "slow target", ask: client.ScrapeRequest{URL: "/slow", Timeout: time.Second}, status: 504, reason: "scrape_timeout"},
		{number: 16, what: "slow target, the relay's own limit", ask: client.ScrapeRequest{URL: "/slow", Timeout: time.Minute}, status: 504, reason: "scrape_timeout"},
		{number: 17, what: "host in other letters", ask: client.ScrapeRequest{URL: "http://NODE.example.ORG.:9100/metrics"}, status: 200, proxied: true},
		// 18 is TestTunnelRowConnect.
		{number: 19, what: "_scheme=https", ask: client.ScrapeRequest{URL: "http://" + h.secure + "/metrics?_scheme=https&a=b"}, status: 200, proxied: true, check: wantQuery("a=b")},
		{number: 19, what: "_scheme=https of a plain target", ask: client.ScrapeRequest{URL: "/metrics?_scheme=https&a=b"}, status: 404, reason: "target_unknown", proxied: true},
		{number: 20, what: "target closes early, Content-Length", ask: client.ScrapeRequest{URL: "/short"}, aborted: true},
		{number: 21, what: "target closes early, chunked", ask: client.ScrapeRequest{URL: "/chunked"}, aborted: true},
		{number: 22, what: "204", ask: client.ScrapeRequest{URL: "/nothing"}, status: 204, check: func(t *testing.T, got client.Response, _ *http.Request) {
			if got.Body != "" || got.Header.Get("Content-Length") != "" {
				t.Errorf("body %q, header %v, want neither body nor length (RFC 9110, 8.6)", got.Body, got.Header)
			}
		}},
		{number: 23, what: "path and query stay as they are", ask: client.ScrapeRequest{URL: "/federate?match[]=%7Bjob%3D%22a%22%7D&a=%2F"}, status: 200, proxied: true, check: wantQuery("match[]=%7Bjob%3D%22a%22%7D&a=%2F")},
		{number: 24, what: "header of several values", ask: client.ScrapeRequest{URL: "/metrics"}, status: 200, check: wantHeader("Vary", "one", "two")},
		{number: 25, what: "Id: spoof", ask: client.ScrapeRequest{URL: "/metrics", Header: with("Id", "spoof")}, status: 200, check: stripped},
	}
	for _, r := range rows {
		if strings.HasPrefix(r.ask.URL, "/") || r.proxied {
			t.Run(fmt.Sprintf("%02d %s, proxied", r.number, r.what), func(t *testing.T) {
				if strings.HasPrefix(r.ask.URL, "/") {
					r.ask.URL = "http://" + h.address + r.ask.URL
				}
				r.ask.Proxy = h.URL
				r.run(t, h.target)
			})
		}
		if !r.proxied {
			t.Run(fmt.Sprintf("%02d %s", r.number, r.what), func(t *testing.T) {
				if path, own := strings.CutPrefix(r.ask.URL, "/"); own {
					r.ask.URL = targetURL(h.Relay, "site-a", path, h.address)
				}
				r.run(t, h.target)
			})
		}
	}
}

func wantQuery(want string) func(*testing.T, client.Response, *http.Request) {
	return func(t *testing.T, _ client.Response, seen *http.Request) {
		t.Helper()
		if seen.URL.RawQuery != want {
			t.Errorf("the target was asked for %q, want the query %q", seen.URL, want)
		}
	}
}

func (r row) run(t *testing.T, target *exporter.Rows) {
	target.Last()
	startedAt := time.Now()
	got, err := r.ask.Do()
	if took := time.Since(startedAt); took > client.Patience/2 {
		t.Errorf("the answer took %v", took)
	}
	if r.aborted {
		client.WantAborted(t, got, err)
		return
	}
	if r.reason != "" {
		client.WantReason(t, got, err, r.status, r.reason)
		return
	}
	if err != nil || got.Status != r.status || got.Header.Get("X-Relay-Error") != "" {
		t.Fatalf("%d %v %s, %v, want %d", got.Status, got.Header, client.Clip(got.Body), err, r.status)
	}
	seen := target.Last()
	if r.status >= 400 && r.status != 500 {
		if seen != nil {
			t.Errorf("the target was asked for %s %s", seen.Method, seen.URL)
		}
		return
	}
	if seen == nil {
		t.Fatal("the target was not asked")
	}
	if r.check != nil {
		r.check(t, got, seen)
	}
}

// TestTunnelRowConnect is row 18: a relay opens no tunnels, and says what to do instead.
func TestTunnelRowConnect(t *testing.T) {
	r := relaytest.Start(t, relaytest.Options(t))
	got := client.Raw(t, r.URL, "CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 405 ") || !strings.Contains(got, "_scheme=https") {
		t.Errorf("CONNECT: %q, want 405 and the hint", got)
	}
}
