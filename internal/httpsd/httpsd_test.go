package httpsd_test

import (
	"encoding/json"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/httpsd"
	"pushrelay/internal/roster"
	"pushrelay/internal/target"
)

// registry is a fake that knows what it is told.
type registry struct {
	agents  []roster.Agent
	settled bool
}

func (r *registry) Agents() []roster.Agent { return r.agents }
func (r *registry) Settled() bool          { return r.settled }

type group struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

func known() *registry {
	seen := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return &registry{settled: true, agents: []roster.Agent{
		{Name: "a", Connected: true, LastSeen: seen, Targets: []roster.Target{
			{Target: target.Target{
				Name: "node-x:1", Job: "node", Instance: "x", Address: "x:1", Scheme: "https", MetricsPath: "/m",
				Labels: []target.Label{{Name: "agent", Value: "somebody else"}, {Name: "env", Value: "p"}}, ScrapeInterval: 90 * time.Second, ScrapeTimeout: 5 * time.Second,
			}},
			{Target: target.Target{Name: "app", Job: "app", Instance: "y", Address: "y:1"}},
		}},
		{Name: "b", LastSeen: seen, Targets: []roster.Target{{Target: target.Target{Name: "node", Job: "node", Instance: "z", Address: "z:1"}}}},
	}}
}

func get(t *testing.T, cfg httpsd.Config, uri string) []group {
	t.Helper()
	w := httptest.NewRecorder()
	httpsd.NewHandler(cfg).ServeHTTP(w, httptest.NewRequest("GET", uri, nil))
	if w.Code != 200 || w.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("answer = %d %s", w.Code, w.Header())
	}
	var groups []group
	if err := json.Unmarshal(w.Body.Bytes(), &groups); err != nil {
		t.Fatal(err)
	}
	return groups
}

func TestTargetsHaveAllThatPrometheusNeeds(t *testing.T) {
	groups := get(t, httpsd.Config{Registry: known(), RoutePrefix: "/p"}, "http://relay:9091/p/sd/targets")
	want := group{Targets: []string{"relay:9091"}, Labels: map[string]string{
		"__metrics_path__": "/p/agents/a/targets/node-x:1/metrics", "__scheme__": "http", "job": "node", "instance": "x", "agent": "a", "env": "p",
		"__scrape_interval__": "1m30s", "__scrape_timeout__": "5s", "__meta_relay_agent_connected": "true",
		"__meta_relay_agent_last_seen": "2026-01-02T03:04:05Z", "__meta_relay_target_address": "x:1",
	}}
	if len(groups) != 3 {
		t.Fatalf("%d groups, want those of departed agents as well", len(groups))
	}
	if diff := cmp.Diff(want, groups[0]); diff != "" {
		t.Error(diff)
	}
	if groups[2].Labels["__meta_relay_agent_connected"] != "false" {
		t.Error("a departed agent counts as connected")
	}
}

// Half of a pair, as earlier agents announce it, would meet the other half in Prometheus' own job; where they do not fit,
// Prometheus throws the target away.
func TestTimesComeInPairsThatFit(t *testing.T) {
	for _, tt := range []struct {
		interval, timeout time.Duration
		want              [2]string
	}{
		{0, 0, [2]string{}},
		{5 * time.Second, 0, [2]string{"5s", "5s"}},
		{time.Minute, 0, [2]string{"1m", "10s"}},
		{0, 20 * time.Second, [2]string{}},
		{5 * time.Second, 7 * time.Second, [2]string{"5s", "5s"}},
		{time.Microsecond, time.Second, [2]string{}},
	} {
		g := get(t, httpsd.Config{Registry: &registry{settled: true, agents: []roster.Agent{{Name: "a", Targets: []roster.Target{
			{Target: target.Target{Name: "n", Job: "j", ScrapeInterval: tt.interval, ScrapeTimeout: tt.timeout}},
		}}}}}, "/sd/targets")[0]
		if got := [2]string{g.Labels["__scrape_interval__"], g.Labels["__scrape_timeout__"]}; got != tt.want {
			t.Errorf("interval %s, timeout %s: %q, want %q", tt.interval, tt.timeout, got, tt.want)
		}
	}
}

func TestTargetsBehindAnExternalURL(t *testing.T) {
	external, err := url.Parse("https://metrics.example.com/relay/")
	if err != nil {
		t.Fatal(err)
	}
	g := get(t, httpsd.Config{Registry: known(), ExternalURL: external, RoutePrefix: "/other"}, "http://10.0.0.1:9091/sd/targets")[0]
	if g.Targets[0] != "metrics.example.com" || g.Labels["__scheme__"] != "https" || g.Labels["__metrics_path__"] != "/relay/agents/a/targets/node-x:1/metrics" {
		t.Errorf("group = %+v", g)
	}
}

// A filter that is misspelt would be none: all targets would be the answer, and Prometheus had them twice.
func TestUnknownFilterIsRefused(t *testing.T) {
	w := httptest.NewRecorder()
	httpsd.NewHandler(httpsd.Config{Registry: known()}).ServeHTTP(w, httptest.NewRequest("GET", "/sd/targets?agents=a", nil))
	if w.Code != 400 || !strings.Contains(w.Body.String(), `"agents"`) {
		t.Errorf("an unknown filter: %d %s", w.Code, w.Body)
	}
}

func TestFilters(t *testing.T) {
	for query, want := range map[string]int{"": 3, "?agent=a": 2, "?agent=a&agent=b": 3, "?job=node": 2, "?agent=b&job=node": 1, "?agent=nobody": 0} {
		if got := len(get(t, httpsd.Config{Registry: known()}, "/sd/targets"+query)); got != want {
			t.Errorf("%q: %d groups, want %d", query, got, want)
		}
	}
}

func TestNotYetIsNoEmptyList(t *testing.T) {
	w := httptest.NewRecorder()
	httpsd.NewHandler(httpsd.Config{Registry: &registry{}}).ServeHTTP(w, httptest.NewRequest("GET", "/sd/targets", nil))
	if w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("answer = %d %v, want 503 and when to come back", w.Code, w.Header())
	}
	if groups := get(t, httpsd.Config{Registry: &registry{settled: true}}, "/sd/targets"); groups == nil || len(groups) != 0 {
		t.Errorf("an empty truth = %v, want []", groups)
	}
}

// TestRelays: the relays of a cluster, each with the path of what it says of itself.
func TestRelays(t *testing.T) {
	h := httpsd.NewHandler(httpsd.Config{Registry: known(), RoutePrefix: "/relay"})
	w := httptest.NewRecorder()
	h.ServeRelays("/-/relay-metrics", func() []httpsd.Relay {
		return []httpsd.Relay{{Name: "a", Address: "a:9091"}, {Name: "b", Address: "b:9092"}}
	})(w, httptest.NewRequest("GET", "/sd/relays", nil))
	var got []group
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 200 {
		t.Fatalf("%d %s: %v", w.Code, w.Body, err)
	}
	want := []group{}
	for name, address := range map[string]string{"a": "a:9091", "b": "b:9092"} {
		want = append(want, group{[]string{address}, map[string]string{
			"__scheme__": "http", "__metrics_path__": "/relay/-/relay-metrics", "instance": address, "__meta_relay_member": name,
		}})
	}
	slices.SortFunc(want, func(a, b group) int { return strings.Compare(a.Targets[0], b.Targets[0]) })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
