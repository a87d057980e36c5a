package roster_test

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/promslog"

	"pushrelay/internal/roster"
	"pushrelay/internal/scrape"
	"pushrelay/internal/target"
)

// others is a Sharing that notes what it is told.
type others struct {
	leads     bool
	refuses   error // to admit, and to forget
	admitted  []string
	forgotten []string
	changed   []string
	attached  []*roster.Attachment
	awaited   []*roster.Attachment
	detached  []*roster.Attachment
}

func (o *others) Name() string { return "here" }
func (o *others) Leads() bool  { return o.leads }
func (o *others) Admit(name, _ string) error {
	o.admitted = append(o.admitted, name)
	return o.refuses
}
func (o *others) Attached(at *roster.Attachment) { o.attached = append(o.attached, at) }
func (o *others) Detached(at *roster.Attachment) { o.detached = append(o.detached, at) }
func (o *others) Await(at *roster.Attachment)    { o.awaited = append(o.awaited, at) }
func (o *others) Changed(agent string)           { o.changed = append(o.changed, agent) }
func (o *others) Forget(name string) error {
	o.forgotten = append(o.forgotten, name)
	return o.refuses
}

func openShared(t *testing.T, file string) (*roster.Registry, *others, *prometheus.Registry) {
	t.Helper()
	o, reg := &others{}, prometheus.NewRegistry()
	r, err := roster.Open(roster.Config{
		File: file, ForgetAfter: time.Hour, MaxConcurrentScrapes: 2, Sharing: o, Logger: promslog.NewNopLogger(), Registerer: reg,
	})
	if err != nil {
		t.Fatal(err)
	}
	return r, o, reg
}

// elsewhere is an agent that another relay knows, with targets of these names.
func elsewhere(name string, since uint64, names ...string) roster.Agent {
	a := roster.Agent{Name: name, Version: "1.0", RemoteAddress: "192.0.2.9:1", TrustDomain: "example.org", LastSeen: time.Now(), AnnouncedBy: [16]byte{7}}
	for _, t := range targets(names...) {
		a.Targets = append(a.Targets, roster.Target{Target: t, InstanceSince: since, AddressSince: since})
	}
	return a
}

func TestAnAgentOfAnotherRelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, o, reg := openShared(t, "")
		r.Install(elsewhere("site", 5, "node"))
		r.SetPlaces("site", []string{"there"})
		known, _ := r.Agent("site")
		if !known.Connected || !slices.Equal(known.Relays, []string{"there"}) || len(known.Targets) != 1 {
			t.Errorf("the agent is %+v", known)
		}
		if agent, name, err := r.Find(scrape.Match{Instance: "node:1"}); agent != "site" || name != "node" || err != nil {
			t.Errorf("Find = %q, %q, %v", agent, name, err)
		}
		_, err := r.Scrape(t.Context(), &scrape.Request{Agent: "site", Target: "node"})
		if failed, ok := errors.AsType[*scrape.Error](err); !ok || failed.Reason != scrape.AgentOffline {
			t.Errorf("Scrape here = %v", err)
		}
		if err := r.Forget("site"); !errors.Is(err, roster.ErrConnected) {
			t.Errorf("Forget = %v", err)
		}
		if n := r.Unlist("site"); n != 0 {
			t.Errorf("Unlist of a connected agent has removed %d", n)
		}
		if n, err := testutil.GatherAndCount(reg, "relay_agent_up"); n != 0 || err != nil {
			t.Errorf("%d agents in the metrics, %v", n, err)
		}
		time.Sleep(time.Minute)
		r.SetPlaces("site", nil)
		if connected, last := r.LastSign("site"); connected || !last.Equal(time.Now()) {
			t.Errorf("LastSign = %v, %v", connected, last)
		}
		o.leads = true // of agents that nobody has
		if n, err := testutil.GatherAndCount(reg, "relay_agent_up"); n != 1 || err != nil {
			t.Errorf("%d agents in the metrics of the relay that leads, %v", n, err)
		}
		if err := r.Forget("site"); err != nil || r.Known("site") || !slices.Equal(o.forgotten, []string{"site"}) {
			t.Errorf("Forget = %v; others forget %v", err, o.forgotten)
		}
	})
}

// What an agent announces here is what holds here; only the earlier number of a host comes from elsewhere.
func TestWhatAnAgentAnnouncesHereHolds(t *testing.T) {
	r, o, _ := openShared(t, "")
	at := attach(r, roster.Registration{Agent: "site", Session: &session{}, ProcessID: [16]byte{1}, TrustDomain: "example.org", Targets: set("node", "new"), HasTargets: true})
	if !slices.Contains(o.changed, "site") || !slices.Equal(o.attached, []*roster.Attachment{at}) || !slices.Equal(o.awaited, o.attached) || !slices.Equal(o.admitted, []string{"site"}) {
		t.Errorf("others were told %+v", o)
	}
	for range 3 {
		if err := at.SetTargets(target.Set{Targets: targets("node", "new"), Completeness: target.Complete}); err != nil {
			t.Fatal(err)
		}
	}
	o.changed = nil
	r.Install(elsewhere("other", 100, "third"))
	r.Install(elsewhere("site", 1, "node", "old"))
	known, _ := r.Whole("site")
	var names []string
	for _, target := range known.Targets {
		names = append(names, target.Name)
	}
	if diff := cmp.Diff([]string{"node", "new"}, names); diff != "" {
		t.Errorf("targets (-want +got):\n%s", diff)
	}
	if len(o.changed) != 0 {
		t.Errorf("others are told of %v, although the number was the same", o.changed)
	}
	// The next announcement has a number above all that any relay has given.
	if err := at.SetTargets(set("node", "newest")); err != nil {
		t.Fatal(err)
	}
	known, _ = r.Whole("site")
	if known.Targets[0].InstanceSince != 1 || known.Targets[1].InstanceSince != 101 {
		t.Errorf("targets %+v", known.Targets)
	}
	o.changed = nil
	r.Install(elsewhere("site", 50, "node", "newest"))
	if known, _ = r.Whole("site"); known.Targets[0].InstanceSince != 1 || known.Targets[1].InstanceSince != 50 || !slices.Equal(o.changed, []string{"site"}) {
		t.Errorf("targets %+v, others are told of %v", known.Targets, o.changed)
	}
	at.Close()
	if !slices.Equal(o.detached, []*roster.Attachment{at}) {
		t.Error("others are not told that the session is over")
	}
	r.Install(elsewhere("site", 1, "old"))
	if known, _ = r.Whole("site"); len(known.Targets) != 1 || known.Targets[0].Name != "old" {
		t.Errorf("targets %+v", known.Targets)
	}
}

// Two relays may give two agents the same number. All relays ask the same of the two.
func TestHostsOfOneNumber(t *testing.T) {
	for _, order := range [][]string{{"b", "a"}, {"a", "b"}} {
		r, _, _ := openShared(t, "")
		for _, name := range order {
			r.Install(elsewhere(name, 5, "node"))
		}
		if agent, _, err := r.Find(scrape.Match{Instance: "node:1"}); agent != "a" || err != nil {
			t.Errorf("Find = %q, %v", agent, err)
		}
	}
}

func TestDisplacedByAnotherRelay(t *testing.T) {
	r, o, _ := openShared(t, "")
	s := &session{}
	at := register(r, "site", s, 1)
	r.SetPlaces("site", []string{"there"})
	known, _ := r.Agent("site")
	if !slices.Equal(known.Relays, []string{"here", "there"}) {
		t.Errorf("relays %v", known.Relays)
	}
	at.Displace("somebody")
	at.Displace("somebody else")
	if at.Current() || s.supersededBy != "somebody" || len(o.detached) != 1 {
		t.Errorf("current %v, superseded by %q", at.Current(), s.supersededBy)
	}
	if known, _ = r.Agent("site"); !known.Connected || !slices.Equal(known.Relays, []string{"there"}) {
		t.Errorf("the agent is %+v", known)
	}
}

// Which processes there are is known by what all relays agree on, and not by who came here.
func TestConflictOnAnotherRelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _, _ := openShared(t, "")
		register(r, "site", &session{}, 1)
		for _, process := range []byte{2, 1} { // what the relay hears late of those before
			r.NoteProcess("site", [16]byte{process})
		}
		if known, _ := r.Agent("site"); known.Conflict {
			t.Error("two processes are said to live")
		}
		r.NoteProcess("site", [16]byte{2})
		if known, _ := r.Agent("site"); !known.Conflict {
			t.Error("one that came back is not seen")
		}
	})
}

func TestAStaleAttempt(t *testing.T) {
	for name, tt := range map[string]struct {
		process byte
		attach  uint64
		refused bool
	}{
		"of the same process":                 {1, 4, true},
		"the same once more":                  {1, 5, false},
		"a later one":                         {1, 6, false},
		"of an agent that does not count":     {1, 0, false},
		"of another process, which began new": {2, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := open(t, "")
			at := attach(r, roster.Registration{Agent: "site", Session: &session{}, ProcessID: [16]byte{1}, Attach: 5})
			_, err := r.Register(roster.Registration{Agent: "site", Session: &session{}, ProcessID: [16]byte{tt.process}, Attach: tt.attach})
			var stale *roster.StaleError
			if errors.As(err, &stale) != tt.refused || at.Current() != tt.refused {
				t.Errorf("Register = %v; the earlier session is current: %v", err, at.Current())
			}
		})
	}
}

func TestWhoIsNotAdmitted(t *testing.T) {
	r, o, _ := openShared(t, "")
	o.refuses = errors.New("nobody can be asked")
	if _, err := r.Register(roster.Registration{Agent: "site", Session: &session{}}); !errors.Is(err, o.refuses) || r.Known("site") {
		t.Errorf("Register of an agent that is not known = %v", err)
	}
	r.Install(elsewhere("site", 1))
	if _, err := r.Register(roster.Registration{Agent: "site", Session: &session{}, TrustDomain: "example.org"}); err != nil {
		t.Errorf("Register of one that is known = %v", err)
	}
}

// One relay forgets agents that are long gone, for all; and it does not before the others can be told.
func TestTheLeaderForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, o, _ := openShared(t, filepath.Join(t.TempDir(), "agents.json"))
		r.Install(elsewhere("site", 1, "node"))
		r.Install(elsewhere("attached", 1, "other"))
		r.SetPlaces("attached", []string{"there"})
		run(t, r, func() { time.Sleep(2 * time.Hour) })
		if !r.Known("site") {
			t.Fatal("a relay that does not lead has forgotten an agent")
		}
		o.leads, o.refuses = true, errors.New("nobody can be told")
		run(t, r, func() { time.Sleep(2 * time.Minute) })
		if !r.Known("site") || len(o.forgotten) == 0 {
			t.Fatal("an agent was forgotten before the others were told")
		}
		o.refuses = nil
		run(t, r, func() { time.Sleep(2 * time.Minute) })
		if r.Known("site") || !r.Known("attached") {
			t.Error("not the agent alone is forgotten that is long gone")
		}
	})
}
