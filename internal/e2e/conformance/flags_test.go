//go:build linux

package conformance_test

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

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/gateway"
)

// wantStatusInAPI checks the fields of /api/v1/status.
func wantStatusInAPI(t *testing.T, g *gateway.Gateway) {
	var answer struct {
		Status string
		Data   struct {
			Build     map[string]string `json:"build_information"`
			Flags     map[string]string
			StartTime time.Time `json:"start_time"`
		}
	}
	resp := g.MustSend(t, gateway.Ask(http.MethodGet, "/api/v1/status", 200))
	if err := json.Unmarshal([]byte(resp.Body), &answer); err != nil {
		t.Fatalf("%v\n%s", err, resp.Body)
	}
	if answer.Status != "success" || resp.Header.Get("Content-Type") != "application/json" || resp.Header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("GET /api/v1/status: %v %s", resp.Header, resp.Body)
	}
	for _, name := range []string{"branch", "buildDate", "buildUser", "goVersion", "revision", "version"} {
		if _, ok := answer.Data.Build[name]; !ok {
			t.Errorf("build_information has no %s: %v", name, answer.Data.Build)
		}
	}
	for flag, want := range map[string]string{
		"web.enable-admin-api": "true", "web.enable-lifecycle": "false", "web.telemetry-path": "/metrics", "web.route-prefix": "",
		"push.disable-consistency-check": "false", "log.level": "info", "web.listen-address": strings.TrimPrefix(g.URL, "http://"),
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
func wantGroupInAPI(t *testing.T, g *gateway.Gateway) {
	var answer struct{ Data []map[string]any }
	if err := json.Unmarshal([]byte(g.MustSend(t, gateway.Ask(http.MethodGet, "/api/v1/metrics", 200)).Body), &answer); err != nil {
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
	push := func(prefix string) gateway.Request { return gateway.Ask(http.MethodPut, prefix+"/metrics/job/j", 200) }
	tests := []struct {
		name  string
		flags []string
		do    []gateway.Request
		// relay are further requests for the relay only.
		relay []gateway.Request
	}{
		{
			name: "external URL", flags: []string{"--web.external-url=http://example.org/foo/"},
			do: []gateway.Request{
				push("/foo"), gateway.Ask("GET", "/foo/metrics", 200), gateway.Ask("GET", "/metrics", 404), gateway.Ask("PUT", "/metrics/job/j", 404),
				gateway.Ask("GET", "/foo/api/v1/status", 200), gateway.Ask("GET", "/foo/-/healthy", 200), gateway.Ask("GET", "/-/healthy", 404), gateway.Ask("GET", "/foo/", 200),
				gateway.Ask("GET", "/foo/status", 200), gateway.Ask("GET", "/foo", 301).Wanting("Location", "/foo/"), gateway.Ask("OPTIONS", "/foo/api/v1/x", 200),
			},
			relay: []gateway.Request{
				push("/foo").Answered(200, ""), gateway.Ask("PUT", "/foo/metrics/job/", 400), gateway.Ask("GET", "/foo/debug/pprof/", 403),
				// The reference answers this one at the root only.
				gateway.Ask("GET", "/foo/-/quit", 405).Saying("Only POST or PUT requests allowed."), gateway.Ask("GET", "/-/quit", 404),
			},
		},
		{
			name: "external URL with a route prefix", flags: []string{"--web.external-url=http://example.org/foo/", "--web.route-prefix=/"},
			do: []gateway.Request{push(""), gateway.Ask("GET", "/metrics", 200), gateway.Ask("GET", "/foo/metrics", 404), gateway.Ask("GET", "/", 200)},
			// Its assets would be below the external path; the relay's pages link relatively.
			relay: []gateway.Request{gateway.Ask("GET", "/", 200).Answered(200, `href="./assets/`), gateway.Ask("GET", "/status", 200).Answered(200, `href="api/v1/metrics"`)},
		},
		{
			name: "route prefix", flags: []string{"--web.route-prefix=bar/"},
			do: []gateway.Request{push("/bar"), gateway.Ask("GET", "/bar/metrics", 200), gateway.Ask("GET", "/metrics", 404), gateway.Ask("GET", "/bar/-/ready", 200)},
		},
		{
			name: "telemetry path", flags: []string{"--web.telemetry-path=/scrape"},
			do:    []gateway.Request{push(""), gateway.Ask("GET", "/scrape", 200).Answered(200, "push_time_seconds"), gateway.Ask("GET", "/metrics", 404)},
			relay: []gateway.Request{gateway.Ask("GET", "/status", 200).Answered(200, `href="scrape"`)},
		},
		{
			name: "no admin API", do: []gateway.Request{gateway.Ask("PUT", "/api/v1/admin/wipe", 404), gateway.Ask("GET", "/api/v1/admin/wipe", 404)},
			relay: []gateway.Request{
				gateway.Ask("PUT", "/api/v1/admin/wipe", 404).Answered(404, "--web.enable-admin-api"), gateway.Ask("DELETE", "/api/v1/agents/a", 404).Answered(404, "--web.enable-admin-api"),
			},
		},
		{
			name: "lifecycle", flags: []string{"--web.enable-lifecycle"},
			do: []gateway.Request{gateway.Ask("GET", "/-/quit", 405), gateway.Ask("GET", "/debug/pprof/", 200), gateway.Ask("GET", "/debug/pprof/cmdline", 200), gateway.Ask("GET", "/debug/pprof/goroutine?debug=1", 200)},
		},
		{
			name: "the gateway's own metrics",
			do: []gateway.Request{
				push(""), gateway.Ask("GET", "/metrics", 200).Answered(200, `pushgateway_http_push_size_bytes_count{method="put"} 1`),
				gateway.Ask("GET", "/metrics", 200).Answered(200, `pushgateway_http_push_duration_seconds_count{method="put"} 1`),
				gateway.Ask("GET", "/metrics", 200).Answered(200, `pushgateway_http_requests_total{code="200",handler="push",method="put"} 1`),
				gateway.Ask("GET", "/metrics", 200).Answered(200, `pushgateway_build_info{`),
			},
		},
	}
	for _, tt := range tests {
		t.Run("relay/"+tt.name, func(t *testing.T) {
			t.Parallel()
			g := gateway.Relay(t, tt.flags...)
			for _, r := range append(tt.do, tt.relay...) {
				g.Check(t, r)
			}
		})
		t.Run("reference/"+tt.name, func(t *testing.T) {
			t.Parallel()
			g := gateway.Reference(t, tt.flags...)
			for _, r := range tt.do {
				g.Check(t, r)
			}
		})
	}
}

// TestLegacyMetrics: the names of the Pushgateway's own metrics are taken from the start, when they have no series yet, and
// are free where they are switched off.
func TestLegacyMetrics(t *testing.T) {
	t.Parallel()
	with := gateway.Relay(t)
	with.Check(t, gateway.Put("/job/j", "pushgateway_http_push_size_bytes_count 1\n").Refused("pushgateway_http_push_size_bytes"))
	with.Check(t, gateway.Put("/job/j", "# TYPE pushgateway_http_requests_total gauge\npushgateway_http_requests_total 1\n").Refused("should have COUNTER"))

	without := gateway.Relay(t, "--no-web.legacy-metrics")
	without.Check(t, gateway.Put("/job/j", "m 1\n"))
	if page := client.MustGet(t, without.URL+"/metrics"); strings.Contains(page, "pushgateway_") {
		t.Errorf("the page has metrics of a Pushgateway:\n%.2000s", page)
	}
	without.Check(t, gateway.Put("/job/j", "pushgateway_http_push_size_bytes_count 1\n"))
}

// TestQuit: PUT and POST end both programs, with a good exit code.
func TestQuit(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(testing.TB, ...string) *gateway.Gateway{"relay": gateway.Relay, "reference": gateway.Reference} {
		for _, method := range []string{http.MethodPut, http.MethodPost} {
			t.Run(name+" "+method, func(t *testing.T) {
				t.Parallel()
				g := start(t, "--web.enable-lifecycle")
				quit := gateway.Ask(method, "/-/quit", 200).Saying("Requesting termination... Goodbye!")
				got, err := g.Send(quit)
				// On a busy machine a Pushgateway is gone before its answer is: then another one is asked.
				for tries := 0; name == "reference" && errors.Is(err, io.EOF) && tries < 10; tries++ {
					g.WantExit(t, 0)
					g = start(t, "--web.enable-lifecycle")
					got, err = g.Send(quit)
				}
				if err != nil {
					t.Fatal(err)
				}
				quit.Compare(t, got)
				g.WantExit(t, 0)
			})
		}
	}
}

// TestMemoryOnly: without a data dir nothing is left after a restart.
func TestMemoryOnly(t *testing.T) {
	t.Parallel()
	g := gateway.Relay(t)
	g.Check(t, gateway.Put("/job/j", "m 1\n"))
	g.WantState(t, pushedM, false)
	g.Stop(t)
	again := gateway.Relay(t)
	again.WantState(t, "", false)
}

// TestBasicAuth: the web configuration file guards every route.
func TestBasicAuth(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "web.yml")
	// The password is "secret".
	client.WriteFile(t, file, "basic_auth_users:\n  alice: $2b$04$3gPF8D8C6AyueEcL6cR8SerOdA7.gr9gMvoMrD1lTei5mVTFhwFS2\n")
	for name, start := range map[string]func(testing.TB, ...string) *gateway.Gateway{"relay": gateway.Relay, "reference": gateway.Reference} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := start(t, "--web.config.file="+file)
			for _, path := range []string{"/metrics", "/", "/-/healthy", "/-/ready", "/api/v1/metrics", "/api/v1/status", "/nothing"} {
				g.Check(t, gateway.Ask("GET", path, 401).Saying("Unauthorized\n"))
			}
			g.Check(t, gateway.Put("/job/j", "m 1\n").Answered(401, "Unauthorized\n"))
			g.Check(t, gateway.Put("/job/j", "m 1\n").With("Authorization", "Basic YWxpY2U6c2VjcmV0"))
			g.Check(t, gateway.Put("/job/j", "m 1\n").With("Authorization", "Basic YWxpY2U6d3Jvbmc=").Answered(401, "Unauthorized\n"))
			g.Check(t, gateway.Ask("GET", "/metrics", 200).With("Authorization", "Basic YWxpY2U6c2VjcmV0").Answered(200, `m{instance="",job="j"} 1`))
		})
	}
}
