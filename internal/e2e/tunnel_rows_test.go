//go:build linux

package e2e_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
)

// The rows of the table of requests that a PushProx was observed with, each with the answer that we want. They keep their
// numbers, so that a row is found again: 1 to 25 are in this file, the others in tunnel_rows_life_test.go.

// rowsBody is what the target of the rows serves at /metrics.
const rowsBody = "# TYPE up_and_running gauge\nup_and_running 1\n"

// rowsTarget is the target of the rows. It remembers what it was asked.
type rowsTarget struct {
	mu   sync.Mutex
	seen *http.Request // guarded by mu; the last one, nil since forget
}

func (r *rowsTarget) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	r.seen = req
	r.mu.Unlock()
	h := w.Header()
	switch req.URL.Path {
	case "/metrics", "/federate":
		h.Set("Content-Type", "text/plain; version=0.0.4")
		h.Set("Content-Length", fmt.Sprint(len(rowsBody)))
		h["Vary"] = []string{"one", "two"}
		if strings.Contains(req.Header.Get("Accept-Encoding"), "gzip") {
			h.Set("Content-Encoding", "gzip")
			h.Set("Content-Length", fmt.Sprint(len(zipped(rowsBody))))
			w.Write(zipped(rowsBody))
			return
		}
		io.WriteString(w, rowsBody)
	case "/broken":
		h.Set("X-Own", "for nobody else")
		http.Error(w, "the target's own words", http.StatusInternalServerError)
	case "/elsewhere":
		http.Redirect(w, req, "http://127.0.0.1:1/secret", http.StatusFound)
	case "/nothing":
		w.WriteHeader(http.StatusNoContent)
	case "/slow":
		select {
		case <-time.After(patience):
		case <-req.Context().Done():
		}
	case "/short":
		h.Set("Content-Length", "100")
		io.WriteString(w, "part 1\n")
	case "/chunked":
		io.WriteString(w, "part 1\n")
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	default:
		http.NotFound(w, req)
	}
}

// last returns what the target was asked since the call before; nil if nothing.
func (r *rowsTarget) last() *http.Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := r.seen
	r.seen = nil
	return seen
}

var zipped = func(text string) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	io.WriteString(w, text)
	w.Close()
	return b.Bytes()
}

// rowsHouse is a relay with one agent that has the target of the rows, also over TLS and under a name.
type rowsHouse struct {
	relay           *relay
	agent           *agent
	target          *rowsTarget
	address, secure string
}

func newRowsHouse(t *testing.T) *rowsHouse {
	t.Helper()
	h := &rowsHouse{target: &rowsTarget{}}
	h.address = serveHandler(t, h.target)
	secure := httptest.NewTLSServer(h.target)
	t.Cleanup(secure.Close)
	h.secure = secure.Listener.Addr().String()
	h.relay = startRelay(t, "--scrape.max-timeout=2s")
	h.agent = startAgent(t, h.relay, "site-a", configOf(h.address, "metrics", "broken", "elsewhere", "nothing", "slow", "short", "chunked")+fmt.Sprintf(`
  - job_name: secure
    scheme: https
    tls_config: {insecure_skip_verify: true}
    static_configs: [{targets: [%q]}]
  - job_name: named
    proxy_paths: [/federate]
    static_configs: [{targets: [%q], labels: {instance: "Node.Example.org:9100"}}]
  - job_name: refused
    static_configs: [{targets: ["127.0.0.1:1"]}]
`, h.secure, h.address))
	return h
}

// A row is one request with the answer that we want.
type row struct {
	number int
	what   string
	ask    scrapeRequest // url: a path of the target, or a whole URL
	status int
	reason string // X-Relay-Error
	check  func(t *testing.T, got response, seen *http.Request)
	// aborted says that the answer has to break off.
	aborted bool
	// proxied says that the row has no counterpart among the relay's own routes.
	proxied bool
}

func TestTunnelRows(t *testing.T) {
	t.Parallel()
	h := newRowsHouse(t)
	wantHeader := func(name string, want ...string) func(*testing.T, response, *http.Request) {
		return func(t *testing.T, got response, _ *http.Request) {
			t.Helper()
			if diff := cmp.Diff(want, got.header.Values(name)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
	}
	// None of these reaches the target; X-Foo does.
	stripped := func(t *testing.T, got response, seen *http.Request) {
		t.Helper()
		for _, name := range []string{"Authorization", "Cookie", "Proxy-Authorization", "Proxy-Connection", "Id"} {
			if value, set := seen.Header[name]; set {
				t.Errorf("the target saw %s: %q", name, value)
			}
		}
		if got.body != rowsBody || seen.Header.Get("X-Foo") != "bar" {
			t.Errorf("body %q, X-Foo %q", got.body, seen.Header.Get("X-Foo"))
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
		{number: 1, what: "GET", ask: scrapeRequest{url: "/metrics"}, status: 200, check: func(t *testing.T, got response, _ *http.Request) {
			if got.body != rowsBody || got.header.Get("Content-Type") != "text/plain; version=0.0.4" || got.header.Get("Content-Length") != fmt.Sprint(len(rowsBody)) {
				t.Errorf("body %q, header %v", got.body, got.header)
			}
		}},
		{number: 2, what: "gzip passes as it is", ask: scrapeRequest{url: "/metrics", header: with("Accept-Encoding", "gzip")}, status: 200, check: func(t *testing.T, got response, _ *http.Request) {
			if got.body != string(zipped(rowsBody)) || got.header.Get("Content-Encoding") != "gzip" {
				t.Errorf("body %q, header %v", got.body, got.header)
			}
		}},
		// PushProx passes Authorization on; here the agent has the credentials of its targets, and nobody else's are shown to them.
		{number: 3, what: "Authorization", ask: scrapeRequest{url: "/metrics", header: with("Authorization", "Bearer x", "Cookie", "a=b")}, status: 200, check: stripped},
		{number: 4, what: "Proxy-Authorization", ask: scrapeRequest{url: "/metrics", header: with("Proxy-Authorization", "Basic eA==")}, status: 200, check: stripped},
		{number: 5, what: "Proxy-Connection and Id", ask: scrapeRequest{url: "/metrics", header: with("Proxy-Connection", "keep-alive", "Id", "1")}, status: 200, check: stripped},
		{number: 6, what: "no timeout", ask: scrapeRequest{url: "/metrics", header: http.Header{timeoutHeader: nil}}, status: 200},
		{number: 7, what: "timeout NaN", ask: scrapeRequest{url: "/metrics", header: with(timeoutHeader, "NaN")}, status: 400},
		{number: 7, what: "timeout -1", ask: scrapeRequest{url: "/metrics", header: with(timeoutHeader, "-1")}, status: 400},
		{number: 8, what: "POST", ask: scrapeRequest{url: "/metrics", method: http.MethodPost}, status: 405},
		{number: 9, what: "DELETE", ask: scrapeRequest{url: "/metrics", method: http.MethodDelete}, status: 405},
		{number: 10, what: "HEAD", ask: scrapeRequest{url: "/metrics", method: http.MethodHead}, status: 200, check: func(t *testing.T, got response, seen *http.Request) {
			if got.body != "" || got.header.Get("Content-Length") != fmt.Sprint(len(rowsBody)) || seen.Method != http.MethodHead {
				t.Errorf("body %q, header %v, the target saw %s", got.body, got.header, seen.Method)
			}
		}},
		{number: 11, what: "unknown host", ask: scrapeRequest{url: "http://nobody.example.org:9100/metrics", timeout: time.Second}, status: 404, reason: "target_unknown", proxied: true},
		{number: 11, what: "unknown agent", ask: scrapeRequest{url: h.relay.targetURL("nobody", "metrics", h.address)}, status: 404, reason: "agent_unknown"},
		{number: 11, what: "unknown target", ask: scrapeRequest{url: h.relay.targetURL("site-a", "nothing-such", h.address)}, status: 404, reason: "target_unknown"},
		{number: 12, what: "refused port", ask: scrapeRequest{url: "http://127.0.0.1:1/metrics"}, status: 502, reason: "target_unreachable", proxied: true},
		{number: 12, what: "refused port, own route", ask: scrapeRequest{url: h.relay.targetURL("site-a", "refused", "127.0.0.1:1")}, status: 502, reason: "target_unreachable"},
		{number: 13, what: "the target's own 500", ask: scrapeRequest{url: "/broken"}, status: 500, check: func(t *testing.T, got response, _ *http.Request) {
			if got.body != "the target's own words\n" || got.header.Get("X-Own") != "" {
				t.Errorf("body %q, header %v", got.body, got.header)
			}
		}},
		{number: 14, what: "redirect to another host", ask: scrapeRequest{url: "/elsewhere"}, status: 502, reason: "target_redirects", check: wantHeader("Location")},
		{number: 15, what: "slow target", ask: scrapeRequest{url: "/slow", timeout: time.Second}, status: 504, reason: "scrape_timeout"},
		{number: 16, what: "slow target, the relay's own limit", ask: scrapeRequest{url: "/slow", timeout: time.Minute}, status: 504, reason: "scrape_timeout"},
		{number: 17, what: "host in other letters", ask: scrapeRequest{url: "http://NODE.example.ORG.:9100/metrics"}, status: 200, proxied: true},
		// 18 is TestTunnelRowConnect.
		{number: 19, what: "_scheme=https", ask: scrapeRequest{url: "http://" + h.secure + "/metrics?_scheme=https&a=b"}, status: 200, proxied: true, check: wantQuery("a=b")},
		{number: 19, what: "_scheme=https of a plain target", ask: scrapeRequest{url: "/metrics?_scheme=https&a=b"}, status: 404, reason: "target_unknown", proxied: true},
		{number: 20, what: "target closes early, Content-Length", ask: scrapeRequest{url: "/short"}, aborted: true},
		{number: 21, what: "target closes early, chunked", ask: scrapeRequest{url: "/chunked"}, aborted: true},
		{number: 22, what: "204", ask: scrapeRequest{url: "/nothing"}, status: 204, check: func(t *testing.T, got response, _ *http.Request) {
			if got.body != "" || got.header.Get("Content-Length") != "" {
				t.Errorf("body %q, header %v, want neither body nor length (RFC 9110, 8.6)", got.body, got.header)
			}
		}},
		{number: 23, what: "path and query stay as they are", ask: scrapeRequest{url: "/federate?match[]=%7Bjob%3D%22a%22%7D&a=%2F"}, status: 200, proxied: true, check: wantQuery("match[]=%7Bjob%3D%22a%22%7D&a=%2F")},
		{number: 24, what: "header of several values", ask: scrapeRequest{url: "/metrics"}, status: 200, check: wantHeader("Vary", "one", "two")},
		{number: 25, what: "Id: spoof", ask: scrapeRequest{url: "/metrics", header: with("Id", "spoof")}, status: 200, check: stripped},
	}
	for _, r := range rows {
		if strings.HasPrefix(r.ask.url, "/") || r.proxied {
			t.Run(fmt.Sprintf("%02d %s, proxied", r.number, r.what), func(t *testing.T) {
				if strings.HasPrefix(r.ask.url, "/") {
					r.ask.url = "http://" + h.address + r.ask.url
				}
				r.ask.proxy = h.relay.url
				r.run(t, h.target)
			})
		}
		if !r.proxied {
			t.Run(fmt.Sprintf("%02d %s", r.number, r.what), func(t *testing.T) {
				if path, own := strings.CutPrefix(r.ask.url, "/"); own {
					r.ask.url = h.relay.targetURL("site-a", path, h.address)
				}
				r.run(t, h.target)
			})
		}
	}
}

func wantQuery(want string) func(*testing.T, response, *http.Request) {
	return func(t *testing.T, _ response, seen *http.Request) {
		t.Helper()
		if seen.URL.RawQuery != want {
			t.Errorf("the target was asked for %q, want the query %q", seen.URL, want)
		}
	}
}

func (r row) run(t *testing.T, target *rowsTarget) {
	target.last()
	startedAt := time.Now()
	got, err := r.ask.do()
	if took := time.Since(startedAt); took > patience/2 {
		t.Errorf("the answer took %v", took)
	}
	if r.aborted {
		wantAborted(t, got, err)
		return
	}
	if r.reason != "" {
		wantReason(t, got, err, r.status, r.reason)
		return
	}
	if err != nil || got.status != r.status || got.header.Get("X-Relay-Error") != "" {
		t.Fatalf("%d %v %s, %v, want %d", got.status, got.header, clip(got.body), err, r.status)
	}
	seen := target.last()
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
	t.Parallel()
	r := startRelay(t)
	address, err := url.Parse(r.url)
	if err != nil {
		t.Fatal(err)
	}
	got, err := fetchRaw(address.Host, "CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n")
	if err != nil || got.status != http.StatusMethodNotAllowed || !strings.Contains(got.body, "_scheme=https") {
		t.Errorf("CONNECT: %d %q, %v, want 405 and the hint", got.status, got.body, err)
	}
}
