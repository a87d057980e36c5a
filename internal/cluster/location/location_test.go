package location_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/promslog"
	clientv3 "go.etcd.io/etcd/client/v3"

	"pushrelay/internal/cluster/enginetest"
	"pushrelay/internal/cluster/location"
	"pushrelay/internal/roster"
	"pushrelay/internal/scrape"
	"pushrelay/internal/target"
)

const prefix = "/pushrelay/"

// grace is how long is waited for what comes by itself.
const grace = 20 * time.Second

// session is a fake that notes how it ended.
type session struct {
	mu           sync.Mutex
	supersededBy string
}

func (s *session) Scrape(context.Context, *scrape.Request) (*scrape.Response, error) {
	return nil, errors.New("not asked for")
}

func (s *session) Supersede(by string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.supersededBy = by
}

func (s *session) by() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.supersededBy
}

func (s *session) Revoke(string) {}

func (s *session) TellWithheld(roster.Withheld) {}

// relay is what one relay knows of agents.
type relay struct {
	*location.Location
	registry *roster.Registry
	metrics  *prometheus.Registry
	leads    atomic.Bool
	stop     func()
}

// prepare makes a relay that knows nothing yet.
func prepare(t *testing.T, client *clientv3.Client, name, file string) *relay {
	t.Helper()
	r := &relay{metrics: prometheus.NewRegistry()}
	r.Location = location.New(location.Config{
		Client: client, Prefix: prefix, Relay: name, Address: name + ":9092", Leads: r.leads.Load, TTL: 2 * time.Second,
		Logger: promslog.NewNopLogger(), Registerer: r.metrics,
	})
	var err error
	r.registry, err = roster.Open(roster.Config{
		File: file, ForgetAfter: time.Hour, MaxConcurrentScrapes: 2, Sharing: r.Location, Logger: promslog.NewNopLogger(), Registerer: r.metrics,
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// run recovers a relay, and runs it until the test ends or it is stopped.
func (r *relay) run(t *testing.T) *relay {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), grace)
	defer cancel()
	if err := r.Recover(ctx, r.registry); err != nil {
		t.Fatal(err)
	}
	live, end := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() { r.Run(live) })
	r.stop = func() { end(); all.Wait() }
	t.Cleanup(r.stop)
	return r
}

func start(t *testing.T, client *clientv3.Client, name string) *relay {
	t.Helper()
	return prepare(t, client, name, "").run(t)
}

// cell returns a client of an etcd of one member.
func cell(t *testing.T) *clientv3.Client {
	t.Helper()
	return enginetest.New(t, 1).Start(t, "a")["a"].Client()
}

func targets(names ...string) target.Set {
	set := target.Set{Completeness: target.Complete}
	for _, name := range names {
		set.Targets = append(set.Targets, target.Target{
			Name: name, Job: "j", Instance: name + ":1", Address: name + ":1", Scheme: "http", MetricsPath: "/metrics",
			Labels: []target.Label{{Name: "site", Value: "x"}}, ScrapeInterval: 15 * time.Second,
		})
	}
	return set
}

// attach begins a session of an agent that announces a target of its name.
func (r *relay) attach(t *testing.T, agent string, process byte, number uint64) (*roster.Attachment, *session) {
	t.Helper()
	s := &session{}
	at, err := r.registry.Register(roster.Registration{
		Agent: agent, Session: s, ProcessID: [16]byte{process}, Attach: number, Version: "1.0", RemoteAddress: fmt.Sprintf("192.0.2.%d:%d", process, number),
		TrustDomain: "example.org", Targets: targets(agent), HasTargets: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	return at, s
}

// catchUp waits until relays know what was registered at an epoch.
func catchUp(t *testing.T, epoch int64, relays ...*relay) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), grace)
	defer cancel()
	for _, r := range relays {
		if err := r.WaitEpoch(ctx, epoch); err != nil {
			t.Fatal(err)
		}
	}
}

func (r *relay) wantPlaces(t *testing.T, agent string, want ...string) {
	t.Helper()
	enginetest.Eventually(t, fmt.Sprintf("agent %s is at %v", agent, want), func() bool { return slices.Equal(r.Places(agent), want) })
}

func TestOneProcessHasASessionOnEachRelay(t *testing.T) {
	client := cell(t)
	a, b, c := start(t, client, "a"), start(t, client, "b"), start(t, client, "c")
	atA, sa := a.attach(t, "site", 1, 1)
	atB, sb := b.attach(t, "site", 1, 2)
	if atA.Epoch() == 0 || atB.Epoch() <= atA.Epoch() {
		t.Fatalf("the epochs are %d and then %d", atA.Epoch(), atB.Epoch())
	}
	catchUp(t, atB.Epoch(), a, b, c)
	for _, r := range []*relay{a, b, c} {
		if !r.EpochCurrent("site", atA.Epoch()) || !r.EpochCurrent("site", atB.Epoch()) {
			t.Errorf("relay %s: a session of the newest process is not current", r.Name())
		}
	}
	c.wantPlaces(t, "site", "b", "a")
	a.wantPlaces(t, "site", "b")
	if !a.IsHere("site") || c.IsHere("site") || !atA.Current() || !atB.Current() || sa.by()+sb.by() != "" {
		t.Error("a session ended, or is not where it is")
	}
}

func TestTheNewestProcessWinsEverywhere(t *testing.T) {
	client := cell(t)
	a, b, c := start(t, client, "a"), start(t, client, "b"), start(t, client, "c")
	atA, sa := a.attach(t, "site", 1, 1)
	atB, sb := b.attach(t, "site", 1, 2)
	atC, _ := c.attach(t, "site", 2, 1)
	enginetest.Eventually(t, "the earlier process is displaced", func() bool { return sa.by() != "" && sb.by() != "" })
	if want := "192.0.2.2:1 by relay c"; sa.by() != want || sb.by() != want {
		t.Errorf("displaced by %q and %q, want %q", sa.by(), sb.by(), want)
	}
	if atA.Current() || atB.Current() || !atC.Current() {
		t.Error("not the newest process alone is current")
	}
	catchUp(t, atC.Epoch(), a, b, c)
	for _, r := range []*relay{a, b, c} {
		for _, old := range []int64{atA.Epoch(), atB.Epoch(), 0} {
			if r.EpochCurrent("site", old) {
				t.Errorf("relay %s takes epoch %d, of a session that is displaced", r.Name(), old)
			}
		}
		if !r.EpochCurrent("site", atC.Epoch()) {
			t.Errorf("relay %s does not take the newest epoch", r.Name())
		}
	}
	a.wantPlaces(t, "site", "c")

	// It comes back, which proves that both live.
	back, _ := a.attach(t, "site", 1, 3)
	catchUp(t, back.Epoch(), a, b, c)
	for _, r := range []*relay{a, b, c} {
		enginetest.Eventually(t, "the conflict is known on relay "+r.Name(), func() bool { known, _ := r.registry.Agent("site"); return known.Conflict })
		if r.EpochCurrent("site", atA.Epoch()) || r.EpochCurrent("site", atC.Epoch()) || !r.EpochCurrent("site", back.Epoch()) {
			t.Errorf("relay %s: not the newest session alone is current", r.Name())
		}
	}
}

func TestAnUnknownAgentHasNoCurrentEpoch(t *testing.T) {
	a := start(t, cell(t), "a")
	if a.EpochCurrent("site", 1<<60) {
		t.Error("an epoch of an agent that nobody has heard of is current")
	}
}

// see is what a relay tells of an agent.
func (r *relay) see(name string) roster.Agent {
	known, _ := r.registry.Agent(name)
	known.LastSeen, known.SessionStarted, known.Sessions = time.Time{}, time.Time{}, 0
	return known
}

func TestEveryRelayKnowsAllAgents(t *testing.T) {
	client := cell(t)
	a, b := start(t, client, "a"), start(t, client, "b")
	at, _ := a.attach(t, "site", 1, 1)
	enginetest.Eventually(t, "the other relay knows the agent", func() bool { return cmp.Diff(a.see("site"), b.see("site")) == "" })
	if want := []string{"a"}; !slices.Equal(b.see("site").Relays, want) || !b.see("site").Connected {
		t.Errorf("relay b says of the agent %+v", b.see("site"))
	}
	if agent, name, err := b.registry.Find(scrape.Match{Instance: "site:1"}); agent != "site" || name != "site" || err != nil {
		t.Errorf("Find = %q, %q, %v", agent, name, err)
	}
	if !b.registry.Settled() {
		t.Error("the list of targets is not taken for the truth")
	}
	var taken *roster.TakenError
	if err := b.registry.CheckName("site", "example.com"); !errors.As(err, &taken) {
		t.Errorf("CheckName = %v", err)
	}

	// A relay that comes later.
	c := start(t, client, "c")
	if diff := cmp.Diff(a.see("site"), c.see("site")); diff != "" {
		t.Errorf("a relay that comes later says otherwise (-want +got):\n%s", diff)
	}

	if err := at.SetTargets(targets("site", "other")); err != nil {
		t.Fatal(err)
	}
	enginetest.Eventually(t, "other targets are known", func() bool { return cmp.Diff(a.see("site"), b.see("site")) == "" && len(b.see("site").Targets) == 2 })

	at.Close()
	for _, r := range []*relay{a, b, c} {
		enginetest.Eventually(t, "the agent is gone", func() bool { return !r.see("site").Connected })
	}
	ended, _ := a.registry.Agent("site")
	enginetest.Eventually(t, "when it was seen last is known", func() bool {
		connected, last := b.registry.LastSign("site")
		return !connected && !last.Before(ended.LastSeen)
	})
	enginetest.Eventually(t, "the targets stay listed", func() bool { return cmp.Diff(a.see("site"), b.see("site")) == "" && len(b.see("site").Targets) == 2 })
}

// Of two agents that announce a host the one that had it first is asked, whichever relays they came to.
func TestTheFirstAgentHasItsHostOnEveryRelay(t *testing.T) {
	client := cell(t)
	a, b := start(t, client, "a"), start(t, client, "b")
	a.attach(t, "site-b", 1, 1)
	enginetest.Eventually(t, "relay b knows the first", func() bool { return len(b.see("site-b").Targets) == 1 })
	second, _ := b.attach(t, "site-a", 2, 1)
	if err := second.SetTargets(targets("site-b")); err != nil {
		t.Fatal(err)
	}
	for _, r := range []*relay{a, b} {
		enginetest.Eventually(t, "both are known", func() bool {
			return slices.ContainsFunc(r.see("site-a").Targets, func(t roster.Target) bool { return t.Name == "site-b" })
		})
		if agent, _, err := r.registry.Find(scrape.Match{Instance: "site-b:1"}); agent != "site-b" || err != nil {
			t.Errorf("relay %s asks %q, %v", r.Name(), agent, err)
		}
	}
}

func TestAnAgentThatMovesIsKnownAsItIs(t *testing.T) {
	client := cell(t)
	a, b := start(t, client, "a"), start(t, client, "b")
	atA, _ := a.attach(t, "site", 1, 1)
	atB, _ := b.attach(t, "site", 1, 2)
	atA.Close()
	if err := atB.SetTargets(targets("other")); err != nil {
		t.Fatal(err)
	}
	enginetest.Eventually(t, "the relay that it has left knows its targets", func() bool {
		seen := a.see("site")
		return seen.Connected && len(seen.Targets) == 1 && seen.Targets[0].Name == "other"
	})
	b.wantPlaces(t, "site")
	a.wantPlaces(t, "site", "b")

	// The other way round: the one that is left over is the best, and says what is to be known.
	again, _ := a.attach(t, "site", 1, 3)
	atB.Close()
	if err := again.SetTargets(targets("third")); err != nil {
		t.Fatal(err)
	}
	enginetest.Eventually(t, "the relay that it has left knows its targets", func() bool {
		seen := b.see("site")
		return seen.Connected && len(seen.Targets) == 1 && seen.Targets[0].Name == "third"
	})
}

// Of several relays that an agent is with, the one of its latest attempt says what is to be known of it.
func TestTheBestRelaySaysWhatIsKnown(t *testing.T) {
	client := cell(t)
	a, b, c := start(t, client, "a"), start(t, client, "b"), start(t, client, "c")
	from := func() string { return c.see("site").RemoteAddress }
	atB, _ := b.attach(t, "site", 1, 2)
	enginetest.Eventually(t, "it is known", func() bool { return from() == "192.0.2.1:2" })
	atA, _ := a.attach(t, "site", 1, 1) // an attempt that took longer
	c.wantPlaces(t, "site", "b", "a")
	if err := atB.SetTargets(targets("new")); err != nil {
		t.Fatal(err)
	}
	enginetest.Eventually(t, "other targets are known", func() bool { return c.see("site").Targets[0].Name == "new" })
	if err := atA.SetTargets(targets("old")); err != nil {
		t.Fatal(err)
	}
	time.Sleep(500 * time.Millisecond) // what would come now comes with a fault only
	if known := c.see("site"); known.RemoteAddress != "192.0.2.1:2" || known.Targets[0].Name != "new" {
		t.Errorf("the agent is known as relay a knows it: %+v", known)
	}
	// The one that it has left knows less than it did while it was there.
	atA.Close()
	enginetest.Eventually(t, "relay a knows the other targets", func() bool { return len(a.see("site").Targets) == 1 && a.see("site").Targets[0].Name == "new" })

	a.attach(t, "site", 1, 3)
	atB.Close()
	enginetest.Eventually(t, "relay a is the best", func() bool { return from() == "192.0.2.1:3" })
	again, _ := c.attach(t, "site", 1, 4)
	enginetest.Eventually(t, "relay c is the best", func() bool { return b.see("site").RemoteAddress == "192.0.2.1:4" })
	again.Close()
	enginetest.Eventually(t, "relay a is the best again", func() bool { return from() == "192.0.2.1:3" && b.see("site").Connected })
}

func TestForgottenOnAllRelays(t *testing.T) {
	client := cell(t)
	a, b := start(t, client, "a"), start(t, client, "b")
	at, _ := a.attach(t, "site", 1, 1)
	enginetest.Eventually(t, "the other relay knows the agent", func() bool { return b.see("site").Connected })
	if err := b.registry.Forget("site"); !errors.Is(err, roster.ErrConnected) {
		t.Errorf("Forget of an agent that is connected elsewhere = %v", err)
	}
	if err := b.Forget("site"); !errors.Is(err, roster.ErrConnected) {
		t.Errorf("Forget of an agent that has a session somewhere = %v", err)
	}
	at.Close()
	enginetest.Eventually(t, "the agent is gone", func() bool { return b.registry.Forget("site") == nil })
	enginetest.Eventually(t, "both have forgotten it", func() bool { return !a.registry.Known("site") && !b.registry.Known("site") })
	enginetest.Eventually(t, "no session of it is current", func() bool { return !b.EpochCurrent("site", at.Epoch()) })
	if c := start(t, client, "c"); c.registry.Known("site") {
		t.Error("a relay that comes later knows it")
	}
	if _, s := a.attach(t, "site", 1, 2); s.by() != "" {
		t.Error("an agent that was forgotten cannot come back")
	}
	enginetest.Eventually(t, "it is known again", func() bool { return b.see("site").Connected })
}

func TestANameIsOfOneTrustDomain(t *testing.T) {
	client := cell(t)
	a := start(t, client, "a")
	b := start(t, client, "b")
	a.attach(t, "site", 1, 1)
	_, err := b.registry.Register(roster.Registration{Agent: "site", Session: &session{}, ProcessID: [16]byte{2}, TrustDomain: "example.com"})
	if _, taken := errors.AsType[*roster.TakenError](err); !taken {
		t.Errorf("Register with a name of another trust domain = %v", err)
	}
}

// What a single relay knew is what the cluster knows that it begins. A later member does not bring back what was forgotten.
func TestAgentsOfASingleRelayAreTakenAlong(t *testing.T) {
	client := cell(t)
	file := t.TempDir() + "/agents.json"
	alone, err := roster.Open(roster.Config{File: file, ForgetAfter: time.Hour, MaxConcurrentScrapes: 2, Logger: promslog.NewNopLogger(), Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	at, err := alone.Register(roster.Registration{Agent: "site", Session: &session{}, TrustDomain: "example.org", Targets: targets("site"), HasTargets: true})
	if err != nil {
		t.Fatal(err)
	}
	at.Close()
	ended, end := context.WithCancel(t.Context())
	end()
	alone.Run(ended)

	a := prepare(t, client, "a", file).run(t)
	b := start(t, client, "b")
	if seen := b.see("site"); len(seen.Targets) != 1 || seen.Connected {
		t.Fatalf("the second member knows %+v", seen)
	}
	if err := b.registry.Forget("site"); err != nil {
		t.Fatal(err)
	}
	enginetest.Eventually(t, "it is forgotten", func() bool { return !a.registry.Known("site") })
	a.stop()
	again := prepare(t, client, "a", file)
	if !again.registry.Known("site") {
		t.Fatal("the file does not say what it said")
	}
	if again.run(t); again.registry.Known("site") {
		t.Error("what all had forgotten has come back from a file")
	}
}

func TestMetricsOfAnAgentAreThereOnce(t *testing.T) {
	client := cell(t)
	a, b := start(t, client, "a"), start(t, client, "b")
	b.leads.Store(true)
	a.attach(t, "here", 1, 1)
	gone, _ := a.attach(t, "gone", 1, 2)
	catchUp(t, gone.Epoch(), b)
	gone.Close()
	enginetest.Eventually(t, "the other relay knows both", func() bool { return b.see("here").Connected && b.registry.Known("gone") && !b.see("gone").Connected })
	for r, want := range map[*relay]int{a: 1, b: 1} {
		got, err := testutil.GatherAndCount(r.metrics, "relay_agent_up")
		if err != nil || got != want {
			t.Errorf("relay %s has %d agents in its metrics, want %d; %v", r.Name(), got, want, err)
		}
	}
}
