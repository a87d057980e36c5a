package roster_test

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/promslog"

	"pushrelay/internal/roster"
	"pushrelay/internal/scrape"
	"pushrelay/internal/target"
)

// termed is a registry whose terms a test changes.
type termed struct {
	*roster.Registry
	denied []string // jobs
	most   int      // targets of each agent; 0 for no bound
	noted  []string // agents of which something was noted
}

func openWith(t *testing.T, file string, h *termed) *termed {
	t.Helper()
	var err error
	h.Registry, err = roster.Open(roster.Config{
		File: file, ForgetAfter: time.Hour, Logger: promslog.NewNopLogger(), Registerer: prometheus.NewRegistry(),
		Terms: func(agent string) roster.Terms {
			return roster.Terms{MaxConcurrentScrapes: len(agent), Withhold: func(job string, listed int) error {
				if slices.Contains(h.denied, job) {
					return errors.New("no " + job + " for " + agent)
				}
				if h.most > 0 && listed >= h.most {
					return errors.New("that is enough")
				}
				return nil
			}}
		},
		Withheld: func(agent string, w roster.Withheld) {
			h.noted = append(h.noted, agent+": "+strings.Join(w.Names, " "))
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func job(name, job, address string) target.Target {
	return target.Target{Name: name, Job: job, Instance: address, Address: address, Scheme: "http", MetricsPath: "/metrics"}
}

// listed are the targets of an agent.
func (h *termed) listed(agent string) (names []string, withheld int) {
	for _, a := range h.Agents() {
		if a.Name != agent {
			continue
		}
		withheld = a.Withheld
		for _, t := range a.Targets {
			names = append(names, t.Name)
		}
	}
	return names, withheld
}

func (h *termed) want(t *testing.T, when, agent string, withheld int, names ...string) {
	t.Helper()
	got, n := h.listed(agent)
	if diff := cmp.Diff(names, got, cmpopts.EquateEmpty()); diff != "" || n != withheld {
		t.Errorf("%s: %d are withheld, want %d; listed (-want +got):\n%s", when, n, withheld, diff)
	}
}

// TestWithheld: what is withheld is neither listed, scraped nor found, takes no host, is told once, outlives a restart, and comes back.
func TestWithheld(t *testing.T) {
	file := filepath.Join(t.TempDir(), "agents.json")
	h := openWith(t, file, &termed{denied: []string{"b"}})
	set := target.Set{Targets: []target.Target{job("b1", "b", "h:1"), job("a1", "a", "h:2"), job("a2", "a", "h:3"), job("b2", "b", "h:4")}, Completeness: target.Complete}
	first := &session{body: "m 1\n"}
	site := attach(h.Registry, roster.Registration{Agent: "site", Session: first, Targets: set, HasTargets: true})
	h.want(t, "at first", "site", 2, "a1", "a2")
	one := roster.Withheld{Count: 2, Names: []string{"b1", "b2"}, Why: errors.New("no b for site")}
	if diff := cmp.Diff([]roster.Withheld{one}, first.withheld, cmp.Comparer(func(a, b error) bool { return a.Error() == b.Error() })); diff != "" {
		t.Errorf("the agent is told (-want +got):\n%s", diff)
	}
	if err := site.SetTargets(set); err != nil {
		t.Fatal(err)
	}
	if len(first.withheld) != 1 || len(h.noted) != 1 {
		t.Errorf("the same is told %d times, and noted as %q", len(first.withheld), h.noted)
	}
	scraped := func(name string) scrape.Reason {
		t.Helper()
		resp, err := h.Scrape(t.Context(), &scrape.Request{Agent: "site", Target: name})
		if err == nil {
			resp.Body.Close()
		}
		return reason(t.Context(), err)
	}
	if got := scraped("b1"); got != scrape.Denied {
		t.Errorf("a scrape of what is withheld: %q", got)
	}
	if got, known := h.Target("site", "b1"); !known || got.Job != "b" {
		t.Errorf("Target() = %v, %v", got, known)
	}
	if _, _, err := h.Find(scrape.Match{Instance: "h:1"}); err == nil || err.Reason != scrape.TargetUnknown {
		t.Errorf("as a proxy it is found: %v", err)
	}
	attach(h.Registry, roster.Registration{Agent: "other", Session: &session{}, HasTargets: true, Targets: target.Set{Targets: []target.Target{job("a9", "a", "h:1")}}})
	if agent, _, err := h.Find(scrape.Match{Instance: "h:1"}); agent != "other" || err != nil {
		t.Errorf("another agent with that host: %s, %v", agent, err)
	}

	site.Close()
	second := &session{}
	attach(h.Registry, roster.Registration{Agent: "site", Session: second})
	if len(second.withheld) != 1 || len(h.noted) != 1 {
		t.Errorf("a new session is told %d times, and that is noted as %q", len(second.withheld), h.noted)
	}

	h.denied, h.most = nil, 3
	h.Review()
	h.want(t, "with three", "site", 1, "b1", "a1", "a2")
	if agent, _, err := h.Find(scrape.Match{Instance: "h:1"}); agent != "site" || err != nil {
		t.Errorf("whoever had the host first has it again: %s, %v", agent, err)
	}
	h.most = 0
	h.Review()
	h.want(t, "with all", "site", 0, "b1", "a1", "a2", "b2")
	if told := second.withheld[len(second.withheld)-1]; told.Count != 0 || len(second.withheld) != 3 {
		t.Errorf("in the end the agent is told %+v", second.withheld)
	}
	if got := scraped("b1"); got != "" {
		t.Errorf("a scrape of what is allowed again: %q", got)
	}
	if diff := cmp.Diff([]string{"site: b1 b2", "site: b2"}, h.noted); diff != "" {
		t.Errorf("noted (-want +got):\n%s", diff)
	}

	h.denied = []string{"a"}
	h.Review()
	run(t, h.Registry, func() {})
	again := openWith(t, file, &termed{denied: []string{"b"}})
	again.want(t, "after a restart with other terms", "site", 2, "a1", "a2")
}

// TestScrapesAtOnceByName: each agent has the number that its terms say.
func TestScrapesAtOnceByName(t *testing.T) {
	h := openWith(t, "", &termed{})
	for _, name := range []string{"a", "abc"} {
		at := attach(h.Registry, roster.Registration{Agent: name, Session: &session{body: "m 1\n"}, HasTargets: true, Targets: target.Set{Targets: []target.Target{job("t", "j", "h:1")}}})
		defer at.Close()
		if got := h.MaxConcurrentScrapes(name); got != len(name) {
			t.Errorf("%s may have %d scrapes", name, got)
		}
		var open []*scrape.Response
		for i := range len(name) + 1 {
			resp, err := h.Scrape(t.Context(), &scrape.Request{Agent: name, Target: "t"})
			if busy := reason(t.Context(), err) == scrape.AgentBusy; busy != (i == len(name)) {
				t.Errorf("%s, scrape %d: %v", name, i+1, err)
			}
			if err == nil {
				open = append(open, resp)
			}
		}
		for _, resp := range open {
			resp.Body.Close()
		}
	}
}

func TestVisible(t *testing.T) {
	agents := []roster.Agent{
		{Name: "a", Targets: []roster.Target{{Target: job("1", "x", "h:1")}, {Target: job("2", "y", "h:2")}}},
		{Name: "b", Targets: []roster.Target{{Target: job("3", "y", "h:3")}}},
		{Name: "c"},
	}
	var got []string
	for _, a := range roster.Visible(agents, func(agent string, t *target.Target) bool { return t == nil && agent == "c" || t != nil && t.Job == "x" }) {
		got = append(got, a.Name)
		for _, t := range a.Targets {
			got = append(got, t.Name)
		}
	}
	if diff := cmp.Diff([]string{"a", "1", "c"}, got); diff != "" || len(agents[0].Targets) != 2 {
		t.Errorf("visible (-want +got):\n%s", diff)
	}
}
