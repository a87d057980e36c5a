package relay

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/promslog"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	"pushrelay/internal/change"
	"pushrelay/internal/cluster/enginetest"
	"pushrelay/internal/cluster/location"
	"pushrelay/internal/cluster/membership"
	"pushrelay/internal/exposition"
	storagev1 "pushrelay/internal/gen/storage/v1"
	"pushrelay/internal/grouping"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/ingest"
	"pushrelay/internal/ledger"
	"pushrelay/internal/roster"
	"pushrelay/internal/scrape"
)

// A session is one that nobody asks.
type session struct{}

func (session) Scrape(context.Context, *scrape.Request) (*scrape.Response, error) {
	return nil, scrape.Errorf(scrape.AgentOffline, "nobody asks")
}
func (session) Supersede(string)             {}
func (session) Revoke(string)                {}
func (session) TellWithheld(roster.Withheld) {}

// during runs something until the test ends.
func during(t *testing.T, run func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
}

// TestDecider: where pushes are decided one of an agent counts while the session that carried it, on whatever relay that was, is of the agent's newest process (C12),
// and the agent was not thrown out (I8). Both are asked in the moment in which it takes effect.
func TestDecider(t *testing.T) {
	client := enginetest.New(t, 1).Start(t, "a")["a"].Client()
	logger := promslog.NewNopLogger()
	at := location.New(location.Config{
		Client: client, Prefix: "/test/", Relay: "a", Address: "a:1", Leads: func() bool { return true }, Logger: logger, Registerer: prometheus.NewRegistry(),
	})
	registry, err := roster.Open(roster.Config{ForgetAfter: time.Hour, MaxConcurrentScrapes: 1, Sharing: at, Logger: logger, Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	if err := at.Recover(t.Context(), registry); err != nil {
		t.Fatal(err)
	}
	during(t, at.Run)
	book, err := ledger.Open(ledger.Config{Dir: t.TempDir(), Grace: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer book.Close()
	store := groupstore.New(groupstore.Config{})
	c := &clustered{server: &Server{ledger: book}, location: at}
	d := decider{ingest.New(ingest.Config{Store: store, Registerer: prometheus.NewRegistry()}), c}
	key, err := grouping.New(grouping.Label{Name: "job", Value: "j"})
	if err != nil {
		t.Fatal(err)
	}
	attach := func(process byte) int64 {
		t.Helper()
		s, err := registry.Register(roster.Registration{Agent: "site", Session: session{}, ProcessID: [16]byte{process}, Attach: 1})
		if err != nil || s.Epoch() == 0 {
			t.Fatalf("registered at epoch %d, %v", s.Epoch(), err)
		}
		return s.Epoch()
	}
	push := func(epoch int64, current func() bool) change.Kind {
		return d.Apply(t.Context(), &change.Change{
			Operation: change.Replace, Key: key, Format: exposition.Text004, Body: []byte("m 1\n"), At: time.Now(), Waited: true, Agent: "site", Epoch: epoch, Current: current,
		}).Kind
	}
	want := func(what string, got, want change.Kind) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	first := attach(1)
	want("the only process", push(first, nil), change.Applied)
	second := attach(2)
	if err := at.WaitEpoch(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	want("an earlier process", push(first, nil), change.NotCurrent)
	want("the newest process", push(second, func() bool { return true }), change.Applied)
	want("a lane that is lost", push(second, func() bool { return false }), change.NotCurrent)
	if _, err := book.Revoke(ledger.Revocation{Agent: "site", At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	want("an agent that is thrown out", push(second, nil), change.NotCurrent)
	want("who is no agent", d.Apply(t.Context(), &change.Change{Operation: change.Delete, Key: key, At: time.Now(), Waited: true}).Kind, change.Applied)
}

// TestUnderstood: the highest feature level that all members understand is not known while one of them does not run (C20).
func TestUnderstood(t *testing.T) {
	client := enginetest.New(t, 1).Start(t, "a")["a"].Client()
	const prefix = "/test/"
	at := membership.Addresses{Peer: "a.example:1", Link: "a.example:2", Web: "a.example:3"}
	dir, err := membership.Found(membership.Founding{DataDir: t.TempDir(), Name: "a", Addresses: at})
	if err != nil {
		t.Fatal(err)
	}
	if err := dir.Settle(prefix); err != nil {
		t.Fatal(err)
	}
	if err := dir.Prepare(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if err := dir.Enter(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	c := &clustered{members: membership.NewMembers(membership.Config{Client: client, Dir: dir, Level: featureLevel, Logger: promslog.NewNopLogger()})}
	if got := c.understood(); got != 0 {
		t.Errorf("before anything is heard it is %d", got)
	}
	during(t, c.members.Run)
	want := func(what string, level uint32) {
		t.Helper()
		enginetest.Eventually(t, what, func() bool { return c.understood() == level })
	}
	put := func(key string, m proto.Message) {
		t.Helper()
		value, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Put(t.Context(), prefix+key, string(value)); err != nil {
			t.Fatal(err)
		}
	}
	want("that of the only member", featureLevel)
	put("members/b", &storagev1.ClusterMember{Name: "b", PeerAddress: "b.example:1", LinkAddress: "b.example:2"})
	want("not known: one does not run", 0)
	put("running/b", &storagev1.ClusterRunning{Incarnation: make([]byte, 16), Level: 1})
	want("that of the one that understands least", 1)
	put("running/b", &storagev1.ClusterRunning{Incarnation: make([]byte, 16), Level: featureLevel + 1})
	want("no more than this one understands", featureLevel)
	if _, err := client.Delete(t.Context(), prefix+"running/", clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	want("not known: nobody runs, as far as is known", 0)
}
