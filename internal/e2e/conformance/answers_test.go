//go:build linux

package conformance_test

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/gateway"
)

var answerBehaviours = []behaviour{
	{name: "methods of a push path", do: []gateway.Request{
		gateway.Ask(http.MethodGet, "/metrics/job/x", 405).Saying("Method Not Allowed\n").Wanting("Allow", "DELETE, OPTIONS, POST, PUT"),
		gateway.Ask(http.MethodHead, "/metrics/job/x", 405).Wanting("Allow", "DELETE, OPTIONS, POST, PUT"),
		gateway.Ask(http.MethodPatch, "/metrics/job/x", 405).Wanting("Allow", "DELETE, OPTIONS, POST, PUT"),
		gateway.Ask(http.MethodOptions, "/metrics/job/x", 200).Saying("").Wanting("Allow", "DELETE, OPTIONS, POST, PUT"),
	}},
	{name: "methods of the exposition", do: []gateway.Request{
		gateway.Ask(http.MethodPut, "/metrics", 405), gateway.Ask(http.MethodPost, "/metrics", 405), gateway.Ask(http.MethodDelete, "/metrics", 405),
	}},
	{
		// Load balancers and uptime checks ask so. Whatever answers GET does.
		name: "HEAD", unlike: "answers 405", do: []gateway.Request{
			gateway.Ask(http.MethodPut, "/metrics", 405).Wanting("Allow", "GET, HEAD, OPTIONS"),
			gateway.Ask(http.MethodHead, "/metrics", 200).Saying("").Wanting("Content-Type", textEscaped),
			gateway.Ask(http.MethodHead, "/metrics", 200).Saying("").With("Accept-Encoding", "gzip").Wanting("Content-Encoding", "gzip"),
			gateway.Ask(http.MethodHead, "/-/healthy", 200).Saying(""), gateway.Ask(http.MethodHead, "/-/ready", 200).Saying(""),
			gateway.Ask(http.MethodHead, "/", 200).Saying("").Wanting("Content-Type", "text/html; charset=utf-8"), gateway.Ask(http.MethodHead, "/status", 200).Saying(""),
			gateway.Ask(http.MethodHead, "/api/v1/status", 200).Saying(""), gateway.Ask(http.MethodHead, "/api/v1/metrics", 200).Saying("").Wanting("Content-Type", "application/json"),
			gateway.Ask(http.MethodHead, "/api/v1/agents", 200).Saying(""),
		},
	},
	{name: "formats of 1.11", unlike: later, do: []gateway.Request{
		gateway.Ask(http.MethodGet, "/metrics", 200).Wanting("Content-Type", textEscaped),
		gateway.Ask(http.MethodGet, "/metrics", 200).With("Accept", protobufType).Wanting("Content-Type", protobufType+"; escaping=underscores"),
	}},
	{
		// OpenMetrics would store other series for the same pushes, on the day somebody switches (S15).
		name: "OpenMetrics is answered with text", unlike: later, do: []gateway.Request{
			gateway.Ask(http.MethodGet, "/metrics", 200).With("Accept", "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5").Wanting("Content-Type", textEscaped),
		},
	},
	{
		name: "gzip", do: []gateway.Request{gateway.Put("/job/j", "m 1\n"), gateway.Ask(http.MethodGet, "/metrics", 200).With("Accept-Encoding", "gzip").Wanting("Content-Encoding", "gzip")},
		want: pushedM,
		then: func(t *testing.T, g *gateway.Gateway) {
			page := g.MustSend(t, gateway.Ask(http.MethodGet, "/metrics", 200).With("Accept-Encoding", "gzip"))
			z, err := gzip.NewReader(strings.NewReader(page.Body))
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
		name: "order", unlike: "orders the series of all groups together", do: []gateway.Request{
			gateway.Put("/job/b", "z 1\na{k=\"2\"} 1\na{k=\"1\"} 1\n"), gateway.Put("/job/a", "a{k=\"3\"} 1\na 1\n"),
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
	{name: "health", do: []gateway.Request{
		gateway.Ask(http.MethodGet, "/-/healthy", 200).Saying("OK"), gateway.Ask(http.MethodGet, "/-/ready", 200).Answered(200, "OK"),
		gateway.Ask(http.MethodPost, "/-/healthy", 405), gateway.Ask(http.MethodPost, "/-/ready", 405),
	}},
	{name: "quit is off", do: []gateway.Request{
		gateway.Ask(http.MethodPut, "/-/quit", 403).Saying("Lifecycle API is not enabled."),
		gateway.Ask(http.MethodPost, "/-/quit", 403).Saying("Lifecycle API is not enabled."),
		gateway.Ask(http.MethodGet, "/-/quit", 405).Saying("Only POST or PUT requests allowed."),
	}},
	{name: "wipe", do: []gateway.Request{
		gateway.Put("/job/a", "m 1\n"), gateway.Put("/job/b/k/v", "m 1\n"),
		gateway.Ask(http.MethodPost, "/api/v1/admin/wipe", 405).Wanting("Allow", "OPTIONS, PUT"),
		gateway.Ask(http.MethodPut, "/api/v1/admin/wipe", 202).Saying(""),
	}},
	{name: "API without groups", unlike: "shows the group of the barrier", then: func(t *testing.T, g *gateway.Gateway) {
		g.Check(t, gateway.Del("/job/"+gateway.BarrierJob, ""))
		g.Check(t, gateway.Ask(http.MethodGet, "/api/v1/metrics", 200).Saying(`{"status":"success","data":[]}`))
	}},
	{
		name: "API with groups", do: []gateway.Request{gateway.Put("/job/j", "# HELP c help c\n# TYPE c counter\nc{k=\"v\"} 1\n"+histogram+summary)},
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
	{name: "other paths of the API", do: []gateway.Request{
		gateway.Ask(http.MethodOptions, "/api/v1/zzz", 200).Saying("").Wanting("Access-Control-Allow-Origin", "*"),
		gateway.Ask(http.MethodGet, "/api/v1/zzz", 404).Saying("404 page not found\n"), gateway.Ask(http.MethodPost, "/api/v1/metrics", 405),
	}},
	{name: "the page", do: []gateway.Request{
		gateway.Ask(http.MethodGet, "/", 200).Answered(200, "<!DOCTYPE html>"), gateway.Ask(http.MethodGet, "/status", 200).Answered(200, "<!DOCTYPE html>"),
		gateway.Ask(http.MethodGet, "/nothing", 404).Saying("404 page not found\n"),
	}},
	{
		// They cost time and tell much, and the relay stands in public: only with --web.enable-lifecycle.
		name: "profiles", unlike: "serves them to everybody", do: []gateway.Request{
			gateway.Ask(http.MethodGet, "/debug/pprof/", 403), gateway.Ask(http.MethodGet, "/debug/pprof/heap", 403), gateway.Ask(http.MethodGet, "/debug/pprof/cmdline", 403),
		},
	},
	{
		name: "HTTP/1.0", want: pushedM,
		first: func(t *testing.T, g *gateway.Gateway) {
			got := client.Raw(t, g.URL, "PUT /metrics/job/j HTTP/1.0\r\nContent-Length: 4\r\n\r\nm 1\n")
			if !strings.HasPrefix(got, "HTTP/1.0 200 ") {
				t.Errorf("HTTP/1.0: %q, want 200", got)
			}
		},
	},
	{
		name: "a body that ends early", unlike: "1.5.1 takes what came",
		first: func(t *testing.T, g *gateway.Gateway) {
			got := client.Raw(t, g.URL, "PUT /metrics/job/k HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nm 1\n")
			if !strings.HasPrefix(got, "HTTP/1.1 400 ") || !strings.Contains(got, "unexpected EOF") {
				t.Errorf("a body that ends early: %q, want 400 unexpected EOF", got)
			}
		},
	},
}

func wantOrder(t *testing.T, g *gateway.Gateway) {
	page := client.MustGet(t, g.URL+"/metrics")
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
