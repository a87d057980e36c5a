package agents_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/agents"
	"pushrelay/internal/scrape"
	"pushrelay/internal/target"
)

// A proxied request names a target by its instance or by its address.
func TestFindByInstanceOrAddress(t *testing.T) {
	r, _ := open(t, "")
	add := func(agent string, set ...target.Target) {
		for i := range set {
			set[i].Job, set[i].Scheme, set[i].MetricsPath = "j", "http", "/metrics"
		}
		r.Register(agents.Registration{Agent: agent, Session: &session{}, Targets: target.Set{Targets: set, Completeness: target.Complete}, HasTargets: true})
	}
	add("site-a", target.Target{Name: "node", Instance: "db-1", Address: "localhost:9100"},
		target.Target{Name: "app", Instance: "localhost", Address: "localhost:80"},
		target.Target{Name: "probe-1", Instance: "https://one.example.org", Address: "Prober:9115"},
		target.Target{Name: "probe-2", Instance: "https://two.example.org", Address: "Prober:9115"},
		target.Target{Name: "swapped-1", Instance: "x:1", Address: "y:1"},
		target.Target{Name: "swapped-2", Instance: "y:1", Address: "x:1"})
	add("site-b", target.Target{Name: "cache", Instance: "cache", Address: "127.0.0.1:9150"})
	add("site-c", target.Target{Name: "cache", Instance: "127.0.0.1:9150", Address: "10.0.0.1:9150"})
	for _, tt := range []struct{ host, agent, want string }{
		{"db-1", "", "site-a/node"},
		{"localhost:9100", "", "site-a/node"}, // as the README has it
		{"LocalHost:9100", "", "site-a/node"},
		{"localhost", "", "site-a/app"},
		{"localhost:80", "", "site-a/app"},
		{"prober:9115", "", "site-a/probe-1"}, // either way it is the same exporter
		{"x:1", "", "site-a/swapped-1"},       // an agent's own instance comes before an address
		{"y:1", "", "site-a/swapped-2"},
		{"127.0.0.1:9150", "", "target_ambiguous"},
		{"127.0.0.1:9150", "site-b", "site-b/cache"},
		{"127.0.0.1:9150", "site-c", "site-c/cache"},
		{"127.0.0.1:9151", "", "target_unknown"},
	} {
		agent, name, err := r.Find(scrape.Match{Instance: strings.ToLower(tt.host), Agent: tt.agent})
		got := agent + "/" + name
		if err != nil {
			got = string(err.Reason)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s of %q (-want +got):\n%s", tt.host, tt.agent, diff)
		}
	}
	// What is announced no more stands in nobody's way.
	r.Register(agents.Registration{
		Agent: "site-b", Session: &session{}, ProcessID: [16]byte{9}, HasTargets: true, Targets: target.Set{Completeness: target.Incomplete},
	})
	if agent, _, err := r.Find(scrape.Match{Instance: "127.0.0.1:9150"}); agent != "site-c" || err != nil {
		t.Errorf("once site-b has it no more: %s, %v", agent, err)
	}
}
