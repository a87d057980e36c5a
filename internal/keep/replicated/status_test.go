package replicated_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	clientv3 "go.etcd.io/etcd/client/v3"

	"pushrelay/internal/change"
	"pushrelay/internal/cluster/enginetest"
	"pushrelay/internal/keep/replicated"
)

// TestLostMajority: a member that is left alone says so, shows what it has at once, and is ready for as long as it may.
func TestLostMajority(t *testing.T) {
	engines := enginetest.New(t, 3).Start(t, enginetest.Names(3)...)
	registries := map[string]*prometheus.Registry{}
	var members []*member
	for _, name := range enginetest.Names(3) {
		registries[name] = prometheus.NewRegistry()
		members = append(members, start(t, name, replicated.Config{
			Client: engines[name].Client(), HasQuorum: engines[name].HasLeader, Registerer: registries[name], Silence: 600 * time.Millisecond,
		}))
	}
	leader := leaderOf(t, members...)
	if o := push(t.Context(), t, leader, "j", 1); o.Kind != change.Applied {
		t.Fatal(o)
	}
	left := members[0]
	if left == leader {
		left = members[1]
	}
	if err := left.CatchUp(t.Context()); err != nil || valueOf(left, keyOf(t, "j")) != 1 {
		t.Errorf("after catching up (%v) a member shows %d, want 1", err, valueOf(left, keyOf(t, "j")))
	}
	enginetest.Eventually(t, "a majority is heard", func() bool { return left.Status().HasQuorum })
	want := left.Status()
	if err := left.WaitFor(t.Context(), want.Position); err != nil || want.Position != 1 || want.Lag != 0 || want.Leader.Name != leader.name || want.Leads ||
		want.Revision == 0 || time.Since(want.Clock).Abs() > time.Hour {
		t.Errorf("the status of a member that follows: %+v, %v", want, err)
	}
	if err := left.Ready(time.Minute); err != nil {
		t.Errorf("a member that follows is not ready: %v", err)
	}
	if problems, err := testutil.GatherAndLint(registries[leader.name]); err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v, %v", problems, err)
	}
	for name, engine := range engines {
		if name != left.name {
			engine.Close()
		}
	}
	enginetest.Eventually(t, "the member knows that it is alone", func() bool { return !left.Status().HasQuorum })
	if err := left.CatchUp(t.Context()); err != nil || valueOf(left, keyOf(t, "j")) != 1 {
		t.Errorf("a member that is alone shows %d, and %v", valueOf(left, keyOf(t, "j")), err)
	}
	if err := left.Ready(time.Hour); err != nil {
		t.Errorf("a member that is alone for a moment is not ready: %v", err)
	}
	enginetest.Eventually(t, "it is alone for too long", func() bool {
		err := left.Ready(100 * time.Millisecond)
		return err != nil && strings.Contains(err.Error(), "no majority")
	})
	alone := "# HELP relay_cluster_has_quorum Whether this relay hears a majority of the members of the cluster's etcd (1), or not (0).\n" +
		"# TYPE relay_cluster_has_quorum gauge\nrelay_cluster_has_quorum 0\n"
	if err := testutil.GatherAndCompare(registries[left.name], strings.NewReader(alone), "relay_cluster_has_quorum"); err != nil {
		t.Error(err)
	}
}

// TestNotUnderstood: what a later release has written stops a relay, whether it is there at the start or comes (C20).
func TestNotUnderstood(t *testing.T) {
	client := enginetest.New(t, 1).Start(t, "a")["a"].Client()
	follower := replicated.New(replicated.Config{Client: client, Name: "b", Prefix: "/test/", Silence: time.Hour, Logger: slog.New(slog.DiscardHandler)})
	if err := follower.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 1)
	go func() { failed <- follower.Run(t.Context()) }()
	if _, err := client.Put(t.Context(), "/test/records/z/of a later release", "?"); err != nil {
		t.Fatal(err)
	}
	enginetest.Eventually(t, "a record that is not understood ends a follower", func() bool { return len(failed) > 0 })
	if err := <-failed; err == nil || !strings.Contains(err.Error(), "a later release") {
		t.Errorf("a record that is not understood ends a follower with %v", err)
	}
	late := replicated.New(replicated.Config{Client: client, Name: "c", Prefix: "/test/", Logger: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := late.Recover(ctx); err == nil || !strings.Contains(err.Error(), "a later release") {
		t.Errorf("a record that is not understood ends the start with %v", err)
	}
}

// TestRecordTooLarge: what etcd would not take is refused before anything changes, and what it takes is divided as it wants (C4, C5).
func TestRecordTooLarge(t *testing.T) {
	client := *enginetest.New(t, 1).Start(t, "a")["a"].Client()
	small := &smallKV{KV: client.KV, t: t}
	client.KV = small
	m := start(t, "a", replicated.Config{Client: &client, Limits: replicated.Limits{TxnOps: 16, RequestBytes: 256 << 10}})
	leaderOf(t, m)
	if o := pushLarge(t.Context(), t, m, "large", 1); o.Kind != change.TooLarge || !strings.Contains(o.Detail, "--max-request-bytes") || m.Store().Position() != 0 {
		t.Errorf("a push of more than a request may take: %+v, at %d", o, m.Store().Position())
	}
	for i := range 100 {
		if o := push(t.Context(), t, m, "j"+strings.Repeat("x", i), i); o.Kind != change.Applied {
			t.Fatal(o)
		}
	}
	wipe := change.Change{Operation: change.Wipe, At: time.Now()}
	if o := m.Store().ApplyBodiless(t.Context(), &wipe); o.Kind != change.Applied {
		t.Fatal(o)
	}
	wantEqual(t, m, start(t, "b", replicated.Config{Client: &client, Silence: time.Hour}))
}

// A smallKV takes no more than 16 operations at once, and 256 KiB.
type smallKV struct {
	clientv3.KV
	t *testing.T
}

func (s *smallKV) Txn(ctx context.Context) clientv3.Txn { return &smallTxn{Txn: s.KV.Txn(ctx), t: s.t} }

type smallTxn struct {
	clientv3.Txn
	t *testing.T
}

func (s *smallTxn) If(cs ...clientv3.Cmp) clientv3.Txn { s.Txn = s.Txn.If(cs...); return s }
func (s *smallTxn) Then(ops ...clientv3.Op) clientv3.Txn {
	size := 0
	for _, op := range ops {
		size += len(op.KeyBytes()) + len(op.ValueBytes())
	}
	if len(ops) > 16 || size > 256<<10 {
		s.t.Errorf("a transaction of %d operations and %d bytes", len(ops), size)
	}
	s.Txn = s.Txn.Then(ops...)
	return s
}
