//go:build linux

package e2e_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// wantStatusInAPI checks the fields of /api/v1/status.
func wantStatusInAPI(t *testing.T, g *gateway) {
	var answer struct {
		Status string
		Data   struct {
			Build     map[string]string `json:"build_information"`
			Flags     map[string]string
			StartTime time.Time `json:"start_time"`
		}
	}
	resp := g.mustSend(t, ask(http.MethodGet, "/api/v1/status", 200))
	if err := json.Unmarshal([]byte(resp.body), &answer); err != nil {
		t.Fatalf("%v\n%s", err, resp.body)
	}
	if answer.Status != "success" || resp.header.Get("Content-Type") != "application/json" || resp.header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("GET /api/v1/status: %v %s", resp.header, resp.body)
	}
	for _, name := range []string{"branch", "buildDate", "buildUser", "goVersion", "revision", "version"} {
		if _, ok := answer.Data.Build[name]; !ok {
			t.Errorf("build_information has no %s: %v", name, answer.Data.Build)
		}
	}
	for flag, want := range map[string]string{
		"web.enable-admin-api": "true", "web.enable-lifecycle": "false", "web.telemetry-path": "/metrics", "web.route-prefix": "",
		"push.disable-consistency-check": "false", "log.level": "info", "web.listen-address": strings.TrimPrefix(g.url, "http://"),
	} {
		if got, ok := answer.Data.Flags[flag]; got != want || !ok {
			t.Errorf("flag %s is %q (there: %v), want %q", flag, got, ok, want)
		}
	}
	for _, flag := range []string{"help", "version"} {
		if _, ok := answer.Data.Flags[flag]; ok {
			t.Errorf("%s is among the flags", flag)
		}
	}
	if age := time.Since(answer.Data.StartTime); age < 0 || age > 10*time.Minute {
		t.Errorf("start_time is %v", answer.Data.StartTime)
	}
}

// wantGroupInAPI checks the fields of a group in /api/v1/metrics.
func wantGroupInAPI(t *testing.T, g *gateway) {
	var answer struct{ Data []map[string]any }
	if err := json.Unmarshal([]byte(g.mustSend(t, ask(http.MethodGet, "/api/v1/metrics", 200)).body), &answer); err != nil {
		t.Fatal(err)
	}
	for _, group := range answer.Data {
		labels := group["labels"].(map[string]any)
		if labels["job"] != "j" {
			continue
		}
		for name, family := range group {
			stamped, ok := family.(map[string]any)
			if !ok || name == "labels" {
				continue
			}
			if at, err := time.Parse(time.RFC3339Nano, stamped["time_stamp"].(string)); err != nil || time.Since(at) > time.Minute {
				t.Errorf("%s has the time_stamp %v (%v), want now", name, stamped["time_stamp"], err)
			}
			delete(stamped, "time_stamp")
		}
		delete(group, "push_time_seconds")
		delete(group, "push_failure_time_seconds")
		want := `{"labels":{"job":"j"},"last_push_successful":true,
			"c":{"type":"COUNTER","help":"help c","metrics":[{"labels":{"instance":"","job":"j","k":"v"},"value":"1"}]},
			"h":{"type":"HISTOGRAM","metrics":[{"labels":{"instance":"","job":"j"},"buckets":{"+Inf":"1"},"count":"1","sum":"1"}]},
			"s":{"type":"SUMMARY","metrics":[{"labels":{"instance":"","job":"j"},"quantiles":{"0.5":"1"},"count":"1","sum":"1"}]}}`
		var wanted map[string]any
		if err := json.Unmarshal([]byte(want), &wanted); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(wanted, group); diff != "" {
			t.Errorf("the group (-want +got):\n%s", diff)
		}
		return
	}
	t.Errorf("the API does not have the group: %v", answer.Data)
}

// TestConformanceOfFlags: what flags change about routes, at the relay and at Debian's Pushgateway.
func TestConformanceOfFlags(t *testing.T) {
	t.Parallel()
	push := func(prefix string) request { return ask(http.MethodPut, prefix+"/metrics/job/j", 200) }
	tests := []struct {
		name  string
		flags []string
		do    []request
		// relay are further requests for the relay only.
		relay []request
	}{
		{
			name: "external URL", flags: []string{"--web.external-url=http://example.org/foo/"},
			do: []request{
				push("/foo"), ask("GET", "/foo/metrics", 200), ask("GET", "/metrics", 404), ask("PUT", "/metrics/job/j", 404),
				ask("GET", "/foo/api/v1/status", 200), ask("GET", "/foo/-/healthy", 200), ask("GET", "/-/healthy", 404), ask("GET", "/foo/", 200),
				ask("GET", "/foo/status", 200), ask("GET", "/foo", 301).wanting("Location", "/foo/"), ask("OPTIONS", "/foo/api/v1/x", 200),
			},
			relay: []request{
				push("/foo").answered(200, ""), ask("PUT", "/foo/metrics/job/", 400), ask("GET", "/foo/debug/pprof/", 403),
				// The reference answers this one at the root only.
				ask("GET", "/foo/-/quit", 405).saying("Only POST or PUT requests allowed."), ask("GET", "/-/quit", 404),
			},
		},
		{
			name: "external URL with a route prefix", flags: []string{"--web.external-url=http://example.org/foo/", "--web.route-prefix=/"},
			do: []request{push(""), ask("GET", "/metrics", 200), ask("GET", "/foo/metrics", 404), ask("GET", "/", 200)},
			// Its assets would be below the external path; the relay's pages link relatively.
			relay: []request{ask("GET", "/", 200).answered(200, `href="./assets/`), ask("GET", "/status", 200).answered(200, `href="api/v1/metrics"`)},
		},
		{
			name: "route prefix", flags: []string{"--web.route-prefix=bar/"},
			do: []request{push("/bar"), ask("GET", "/bar/metrics", 200), ask("GET", "/metrics", 404), ask("GET", "/bar/-/ready", 200)},
		},
		{
			name: "telemetry path", flags: []string{"--web.telemetry-path=/scrape"},
			do:    []request{push(""), ask("GET", "/scrape", 200).answered(200, "push_time_seconds"), ask("GET", "/metrics", 404)},
			relay: []request{ask("GET", "/status", 200).answered(200, `href="scrape"`)},
		},
		{
			name: "no admin API", do: []request{ask("PUT", "/api/v1/admin/wipe", 404), ask("GET", "/api/v1/admin/wipe", 404)},
			relay: []request{
				ask("PUT", "/api/v1/admin/wipe", 404).answered(404, "--web.enable-admin-api"), ask("DELETE", "/api/v1/agents/a", 404).answered(404, "--web.enable-admin-api"),
			},
		},
		{
			name: "lifecycle", flags: []string{"--web.enable-lifecycle"},
			do: []request{ask("GET", "/-/quit", 405), ask("GET", "/debug/pprof/", 200), ask("GET", "/debug/pprof/cmdline", 200), ask("GET", "/debug/pprof/goroutine?debug=1", 200)},
		},
		{
			name: "the gateway's own metrics",
			do: []request{
				push(""), ask("GET", "/metrics", 200).answered(200, `pushgateway_http_push_size_bytes_count{method="put"} 1`),
				ask("GET", "/metrics", 200).answered(200, `pushgateway_http_push_duration_seconds_count{method="put"} 1`),
				ask("GET", "/metrics", 200).answered(200, `pushgateway_http_requests_total{code="200",handler="push",method="put"} 1`),
				ask("GET", "/metrics", 200).answered(200, `pushgateway_build_info{`),
			},
		},
	}
	for _, tt := range tests {
		t.Run("relay/"+tt.name, func(t *testing.T) {
			t.Parallel()
			g := relayGateway(t, tt.flags...)
			for _, r := range append(tt.do, tt.relay...) {
				g.check(t, r)
			}
		})
		t.Run("reference/"+tt.name, func(t *testing.T) {
			t.Parallel()
			g := referenceGateway(t, tt.flags...)
			for _, r := range tt.do {
				g.check(t, r)
			}
		})
	}
}

// TestLegacyMetrics: the names of the Pushgateway's own metrics are taken from the start, when they have no series yet, and
// are free where they are switched off.
func TestLegacyMetrics(t *testing.T) {
	t.Parallel()
	with := relayGateway(t)
	with.check(t, put("/job/j", "pushgateway_http_push_size_bytes_count 1\n").refused("pushgateway_http_push_size_bytes"))
	with.check(t, put("/job/j", "# TYPE pushgateway_http_requests_total gauge\npushgateway_http_requests_total 1\n").refused("should have COUNTER"))

	without := relayGateway(t, "--no-web.legacy-metrics")
	without.check(t, put("/job/j", "m 1\n"))
	if page := mustGet(t, without.url+"/metrics"); strings.Contains(page, "pushgateway_") {
		t.Errorf("the page has metrics of a Pushgateway:\n%.2000s", page)
	}
	without.check(t, put("/job/j", "pushgateway_http_push_size_bytes_count 1\n"))
}

// TestQuit: PUT and POST end both programs, with a good exit code.
func TestQuit(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(testing.TB, ...string) *gateway{"relay": relayGateway, "reference": referenceGateway} {
		for _, method := range []string{http.MethodPut, http.MethodPost} {
			t.Run(name+" "+method, func(t *testing.T) {
				t.Parallel()
				g := start(t, "--web.enable-lifecycle")
				quit := ask(method, "/-/quit", 200).saying("Requesting termination... Goodbye!")
				got, err := g.send(quit)
				// On a busy machine a Pushgateway is gone before its answer is: then another one is asked.
				for tries := 0; name == "reference" && errors.Is(err, io.EOF) && tries < 10; tries++ {
					g.wantExit(t, 0)
					g = start(t, "--web.enable-lifecycle")
					got, err = g.send(quit)
				}
				if err != nil {
					t.Fatal(err)
				}
				quit.compare(t, got)
				g.wantExit(t, 0)
			})
		}
	}
}

// TestMemoryOnly: without a data dir nothing is left after a restart.
func TestMemoryOnly(t *testing.T) {
	t.Parallel()
	g := relayGateway(t)
	g.check(t, put("/job/j", "m 1\n"))
	g.wantState(t, pushedM, false)
	g.stop(t)
	again := relayGateway(t)
	again.wantState(t, "", false)
}

// TestBasicAuth: the web configuration file guards every route.
func TestBasicAuth(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "web.yml")
	// The password is "secret".
	writeFile(t, file, "basic_auth_users:\n  alice: $2b$04$3gPF8D8C6AyueEcL6cR8SerOdA7.gr9gMvoMrD1lTei5mVTFhwFS2\n")
	for name, start := range map[string]func(testing.TB, ...string) *gateway{"relay": relayGateway, "reference": referenceGateway} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := start(t, "--web.config.file="+file)
			for _, path := range []string{"/metrics", "/", "/-/healthy", "/-/ready", "/api/v1/metrics", "/api/v1/status", "/nothing"} {
				g.check(t, ask("GET", path, 401).saying("Unauthorized\n"))
			}
			g.check(t, put("/job/j", "m 1\n").answered(401, "Unauthorized\n"))
			g.check(t, put("/job/j", "m 1\n").with("Authorization", "Basic YWxpY2U6c2VjcmV0"))
			g.check(t, put("/job/j", "m 1\n").with("Authorization", "Basic YWxpY2U6d3Jvbmc=").answered(401, "Unauthorized\n"))
			g.check(t, ask("GET", "/metrics", 200).with("Authorization", "Basic YWxpY2U6c2VjcmV0").answered(200, `m{instance="",job="j"} 1`))
		})
	}
}
