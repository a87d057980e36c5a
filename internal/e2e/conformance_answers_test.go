//go:build linux

package e2e_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
)

var answerBehaviours = []behaviour{
	{name: "methods of a push path", do: []request{
		ask(http.MethodGet, "/metrics/job/x", 405).saying("Method Not Allowed\n").wanting("Allow", "DELETE, OPTIONS, POST, PUT"),
		ask(http.MethodHead, "/metrics/job/x", 405).wanting("Allow", "DELETE, OPTIONS, POST, PUT"),
		ask(http.MethodPatch, "/metrics/job/x", 405).wanting("Allow", "DELETE, OPTIONS, POST, PUT"),
		ask(http.MethodOptions, "/metrics/job/x", 200).saying("").wanting("Allow", "DELETE, OPTIONS, POST, PUT"),
	}},
	{name: "methods of the exposition", do: []request{
		ask(http.MethodPut, "/metrics", 405), ask(http.MethodPost, "/metrics", 405), ask(http.MethodDelete, "/metrics", 405),
	}},
	{
		// Load balancers and uptime checks ask so. Whatever answers GET does.
		name: "HEAD", unlike: "answers 405", do: []request{
			ask(http.MethodPut, "/metrics", 405).wanting("Allow", "GET, HEAD, OPTIONS"),
			ask(http.MethodHead, "/metrics", 200).saying("").wanting("Content-Type", textEscaped),
			ask(http.MethodHead, "/metrics", 200).saying("").with("Accept-Encoding", "gzip").wanting("Content-Encoding", "gzip"),
			ask(http.MethodHead, "/-/healthy", 200).saying(""), ask(http.MethodHead, "/-/ready", 200).saying(""),
			ask(http.MethodHead, "/", 200).saying("").wanting("Content-Type", "text/html; charset=utf-8"), ask(http.MethodHead, "/status", 200).saying(""),
			ask(http.MethodHead, "/api/v1/status", 200).saying(""), ask(http.MethodHead, "/api/v1/metrics", 200).saying("").wanting("Content-Type", "application/json"),
			ask(http.MethodHead, "/api/v1/agents", 200).saying(""),
		},
	},
	{name: "formats of 1.11", unlike: later, do: []request{
		ask(http.MethodGet, "/metrics", 200).wanting("Content-Type", textEscaped),
		ask(http.MethodGet, "/metrics", 200).with("Accept", protobufType).wanting("Content-Type", protobufType+"; escaping=underscores"),
	}},
	{
		// OpenMetrics would store other series for the same pushes, on the day somebody switches (S15).
		name: "OpenMetrics is answered with text", unlike: later, do: []request{
			ask(http.MethodGet, "/metrics", 200).with("Accept", "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5").wanting("Content-Type", textEscaped),
		},
	},
	{
		name: "gzip", do: []request{put("/job/j", "m 1\n"), ask(http.MethodGet, "/metrics", 200).with("Accept-Encoding", "gzip").wanting("Content-Encoding", "gzip")},
		want: pushedM,
		then: func(t *testing.T, g *gateway) {
			page := g.mustSend(t, ask(http.MethodGet, "/metrics", 200).with("Accept-Encoding", "gzip"))
			z, err := gzip.NewReader(strings.NewReader(page.body))
			if err != nil {
				t.Fatal(err)
			}
			content, err := io.ReadAll(z)
			if err != nil || !strings.Contains(string(content), "\nm{instance=\"\",job=\"j\"} 1\n") {
				t.Errorf("the page in gzip: %v\n%s", err, content)
			}
		},
	},
	{
		// Families by name; within a family first our own series, then groups by key, and within a group as at the reference
		// (S16). That is the same order at every scrape.
		name: "order", unlike: "orders the series of all groups together", do: []request{
			put("/job/b", "z 1\na{k=\"2\"} 1\na{k=\"1\"} 1\n"), put("/job/a", "a{k=\"3\"} 1\na 1\n"),
		},
		want: `
			a{instance="",job="a"} 1
			a{instance="",job="a",k="3"} 1
			a{instance="",job="b",k="1"} 1
			a{instance="",job="b",k="2"} 1
			z{instance="",job="b"} 1
			group{instance="",job="a"} pushed
			group{instance="",job="b"} pushed`,
		then: wantOrder,
	},
	{name: "health", do: []request{
		ask(http.MethodGet, "/-/healthy", 200).saying("OK"), ask(http.MethodGet, "/-/ready", 200).answered(200, "OK"),
		ask(http.MethodPost, "/-/healthy", 405), ask(http.MethodPost, "/-/ready", 405),
	}},
	{name: "quit is off", do: []request{
		ask(http.MethodPut, "/-/quit", 403).saying("Lifecycle API is not enabled."),
		ask(http.MethodPost, "/-/quit", 403).saying("Lifecycle API is not enabled."),
		ask(http.MethodGet, "/-/quit", 405).saying("Only POST or PUT requests allowed."),
	}},
	{name: "wipe", do: []request{
		put("/job/a", "m 1\n"), put("/job/b/k/v", "m 1\n"),
		ask(http.MethodPost, "/api/v1/admin/wipe", 405).wanting("Allow", "OPTIONS, PUT"),
		ask(http.MethodPut, "/api/v1/admin/wipe", 202).saying(""),
	}},
	{name: "API without groups", unlike: "shows the group of the barrier", then: func(t *testing.T, g *gateway) {
		g.check(t, del("/job/"+barrierJob, ""))
		g.check(t, ask(http.MethodGet, "/api/v1/metrics", 200).saying(`{"status":"success","data":[]}`))
	}},
	{
		name: "API with groups", do: []request{put("/job/j", "# HELP c help c\n# TYPE c counter\nc{k=\"v\"} 1\n"+histogram+summary)},
		want: `
			c{instance="",job="j",k="v"} 1
			h_bucket{instance="",job="j",le="+Inf"} 1
			h_sum{instance="",job="j"} 1
			h_count{instance="",job="j"} 1
			s{instance="",job="j",quantile="0.5"} 1
			s_sum{instance="",job="j"} 1
			s_count{instance="",job="j"} 1
			group{instance="",job="j"} pushed`,
		then: wantGroupInAPI,
	},
	{name: "API status", then: wantStatusInAPI},
	{name: "other paths of the API", do: []request{
		ask(http.MethodOptions, "/api/v1/zzz", 200).saying("").wanting("Access-Control-Allow-Origin", "*"),
		ask(http.MethodGet, "/api/v1/zzz", 404).saying("404 page not found\n"), ask(http.MethodPost, "/api/v1/metrics", 405),
	}},
	{name: "the page", do: []request{
		ask(http.MethodGet, "/", 200).answered(200, "<!DOCTYPE html>"), ask(http.MethodGet, "/status", 200).answered(200, "<!DOCTYPE html>"),
		ask(http.MethodGet, "/nothing", 404).saying("404 page not found\n"),
	}},
	{
		// They cost time and tell much, and the relay stands in public: only with --web.enable-lifecycle.
		name: "profiles", unlike: "serves them to everybody", do: []request{
			ask(http.MethodGet, "/debug/pprof/", 403), ask(http.MethodGet, "/debug/pprof/heap", 403), ask(http.MethodGet, "/debug/pprof/cmdline", 403),
		},
	},
	{
		name: "HTTP/1.0", want: pushedM,
		first: func(t *testing.T, g *gateway) {
			got := raw(t, g, "PUT /metrics/job/j HTTP/1.0\r\nContent-Length: 4\r\n\r\nm 1\n")
			if !strings.HasPrefix(got, "HTTP/1.0 200 ") {
				t.Errorf("HTTP/1.0: %q, want 200", got)
			}
		},
	},
	{
		name: "a body that ends early", unlike: "1.5.1 takes what came",
		first: func(t *testing.T, g *gateway) {
			got := raw(t, g, "PUT /metrics/job/k HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nm 1\n")
			if !strings.HasPrefix(got, "HTTP/1.1 400 ") || !strings.Contains(got, "unexpected EOF") {
				t.Errorf("a body that ends early: %q, want 400 unexpected EOF", got)
			}
		},
	},
}

// raw sends bytes over a connection, closes its sending half and returns all that comes back.
func raw(t testing.TB, g *gateway, bytes string) string {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, bytes)
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(bufio.NewReader(conn))
	if err != nil {
		t.Fatal(err)
	}
	return string(answer)
}

func wantOrder(t *testing.T, g *gateway) {
	page := mustGet(t, g.url+"/metrics")
	var families, series []string
	for line := range strings.Lines(page) {
		if name, ok := strings.CutPrefix(line, "# TYPE "); ok {
			families = append(families, strings.Fields(name)[0])
		}
		if strings.HasPrefix(line, "a{") || strings.HasPrefix(line, "z{") {
			series = append(series, strings.TrimSpace(line))
		}
	}
	if !slices.IsSorted(families) {
		t.Errorf("families are not in the order of their names: %q", families)
	}
	want := []string{
		`a{instance="",job="a"} 1`, `a{instance="",job="a",k="3"} 1`,
		`a{instance="",job="b",k="1"} 1`, `a{instance="",job="b",k="2"} 1`, `z{instance="",job="b"} 1`,
	}
	if !slices.Equal(series, want) {
		t.Errorf("series are in the order %q, want %q", series, want)
	}
}
