package roster_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"pushrelay/internal/roster"
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
		attach(r, roster.Registration{Agent: agent, Session: &session{}, Targets: target.Set{Targets: set, Completeness: target.Complete}, HasTargets: true})
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
		{"127.0.0.1:9150", "", "site-b/cache"}, // which had it first
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
	attach(r, roster.Registration{
		Agent: "site-b", Session: &session{}, ProcessID: [16]byte{9}, HasTargets: true, Targets: target.Set{Completeness: target.Incomplete},
	})
	if agent, _, err := r.Find(scrape.Match{Instance: "127.0.0.1:9150"}); agent != "site-c" || err != nil {
		t.Errorf("once site-b has it no more: %s, %v", agent, err)
	}
}

// at is a target at a host.
func at(scheme, instance, address string) target.Target {
	return target.Target{Name: "t", Job: "j", Instance: instance, Address: address, Scheme: scheme, MetricsPath: "/metrics"}
}

// announce registers an agent with one target.
func announce(r *roster.Registry, agent string, t target.Target) *roster.Attachment {
	return attach(r, roster.Registration{
		Agent: agent, Session: &session{}, ProcessID: [16]byte{1}, HasTargets: true, Targets: target.Set{Targets: []target.Target{t}, Completeness: target.Complete},
	})
}

// The agent that had a host first keeps it, however another one announces it, and over a restart of the relay.
func TestFirstAgentKeepsItsHosts(t *testing.T) {
	for name, other := range map[string]target.Target{
		"its instance":                  at("http", "db:9100", "x:1"),
		"its instance, in capitals":     at("http", "DB.:9100", "x:1"),
		"its instance, as address":      at("http", "x:1", "db:9100"),
		"its instance, with the scheme": at("https", "db:9100", "x:1"),
		"its address, as instance":      at("http", "10.0.0.1:80", "x:1"),
		"its address, without the port": at("http", "10.0.0.1", "x:1"),
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "agents.json")
			r, reg := open(t, file)
			own := announce(r, "first", at("http", "db:9100", "10.0.0.1:80"))
			announce(r, "another", at("http", "before:1", "before:1"))
			announce(r, "another", other)
			check := func(when string) {
				t.Helper()
				for _, m := range []scrape.Match{{Instance: "db:9100"}, {Instance: "10.0.0.1:80"}, {Instance: "10.0.0.1"}, {Instance: "db:9100", Scheme: "http"}} {
					if agent, _, err := r.Find(m); agent != "first" {
						t.Errorf("%s: %+v finds %q, %v", when, m, agent, err)
					}
				}
				chosen := scrape.Match{Instance: other.Instance, Agent: "another"}
				if agent, _, err := r.Find(chosen); agent != "another" {
					t.Errorf("%s: %+v finds %q, %v", when, chosen, agent, err)
				}
			}
			check("after the other came")
			if got := value(t, reg, "relay_targets_contested_total"); got != 1 {
				t.Errorf("%v targets are counted, want 1", got)
			}
			renamed := at("http", "db:9100", "10.0.0.1:80")
			renamed.Name, renamed.Job = "renamed", "k"
			if err := own.SetTargets(target.Set{Targets: []target.Target{renamed}, Completeness: target.Complete}); err != nil {
				t.Fatal(err)
			}
			check("renamed")
			own.Close()
			check("away")
			run(t, r, func() {})
			r, _ = open(t, file)
			check("after a restart")
			announce(r, "another", other)
			announce(r, "first", renamed)
			check("after both came again, the other one first")
		})
	}
}

// A host without a port is also that with the port of https, and whoever had that first keeps it.
func TestHostsWithoutAPort(t *testing.T) {
	r, reg := open(t, "")
	find := func(m scrape.Match) string {
		agent, _, err := r.Find(m)
		if err != nil {
			return string(err.Reason)
		}
		return agent
	}
	announce(r, "first", at("https", "db:443", "db:443"))
	announce(r, "another", at("http", "db", "db:80"))
	if got := value(t, reg, "relay_targets_contested_total"); got != 1 {
		t.Errorf("%v targets are counted, want 1", got)
	}
	for _, tt := range []struct {
		m    scrape.Match
		want string
	}{
		{scrape.Match{Instance: "db"}, "first"},
		{scrape.Match{Instance: "db", Scheme: "https"}, "first"},
		{scrape.Match{Instance: "db:443"}, "first"},
		{scrape.Match{Instance: "db:80"}, "another"},
		{scrape.Match{Instance: "db", Scheme: "http"}, "target_unknown"},
		{scrape.Match{Instance: "db", Agent: "another"}, "another"},
	} {
		if got := find(tt.m); got != tt.want {
			t.Errorf("%+v finds %s, want %s", tt.m, got, tt.want)
		}
	}
}

// Who was first is not known of a file of an earlier relay: both stay rivals. A third one takes nothing away.
func TestRivalsOfAnEarlierRelay(t *testing.T) {
	file := filepath.Join(t.TempDir(), "agents.json")
	one := `{"Name":"t","Job":"j","Instance":"db:9100","Address":"db:9100","Scheme":"http","MetricsPath":"/metrics"}`
	agent := `{"agent":%q,"targets":[` + one + `]}`
	if err := os.WriteFile(file, fmt.Appendf(nil, `{"version":1,"agents":[`+agent+`,`+agent+`]}`, "a", "b"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, _ := open(t, file)
	announce(r, "c", at("http", "db:9100", "db:9100"))
	if _, _, err := r.Find(scrape.Match{Instance: "db:9100"}); err == nil || err.Reason != scrape.TargetAmbiguous || !strings.Contains(err.Message, "2 agents") {
		t.Errorf("Find() = %v, want the two rivals", err)
	}
	at := announce(r, "a", at("http", "other:1", "other:1"))
	if agent, _, err := r.Find(scrape.Match{Instance: "db:9100"}); agent != "b" {
		t.Errorf("once a has it no more: %q, %v", agent, err)
	}
	at.Close()
}

// value returns the value of a counter.
func value(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatalf("there is no %s", name)
	return 0
}
