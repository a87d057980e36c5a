package location_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clientv3 "go.etcd.io/etcd/client/v3"

	"pushrelay/internal/cluster/enginetest"
	"pushrelay/internal/roster"
)

func TestALateRegistration(t *testing.T) {
	for name, tt := range map[string]struct {
		before byte // the process that has a session on relay b before relay a is cut off; 0 for none
		during byte // that which begins one on relay b meanwhile
		stays  bool // whether process 1, which comes to relay a while that is cut off, has a session in the end
		elseIs bool // whether the one on relay b has
		newest byte // the process whose epoch is current
	}{
		"nobody else":                       {stays: true, newest: 1},
		"of the process that was there":     {before: 1, stays: true, elseIs: true, newest: 1},
		"after another process":             {before: 2, stays: true, newest: 1},
		"before another process":            {during: 2, elseIs: true, newest: 2},
		"between two other processes":       {before: 3, during: 2, elseIs: true, newest: 2},
		"beside its own session elsewhere":  {during: 1, stays: true, elseIs: true, newest: 1},
		"of a process that came back later": {before: 1, during: 2, elseIs: true, newest: 2},
	} {
		t.Run(name, func(t *testing.T) {
			client := cell(t)
			var way line
			a, b, c := start(t, way.over(t, client), "a"), start(t, client, "b"), start(t, client, "c")
			// All know the agent.
			known, _ := c.attach(t, "site", 9, 1)
			known.Close()
			catchUp(t, known.Epoch(), a, b)
			enginetest.Eventually(t, "relay a knows it", func() bool { return a.registry.Known("site") && !a.see("site").Connected })

			var elsewhere *roster.Attachment
			if tt.before != 0 {
				elsewhere, _ = b.attach(t, "site", tt.before, 1)
				catchUp(t, elsewhere.Epoch(), a)
			}
			way.cut()
			at, s := a.attach(t, "site", 1, 2)
			if at.Epoch() != 0 || !at.Current() || !a.IsHere("site") {
				t.Fatalf("without etcd the session has epoch %d, current is %v", at.Epoch(), at.Current())
			}
			if tt.during != 0 {
				elsewhere, _ = b.attach(t, "site", tt.during, 3)
			}
			way.mend()

			if tt.stays {
				enginetest.Eventually(t, "the session is registered", func() bool { return at.Epoch() != 0 })
				catchUp(t, at.Epoch(), a, b, c)
			} else {
				enginetest.Eventually(t, "the session is displaced", func() bool { return s.by() != "" })
			}
			if at.Current() != tt.stays {
				t.Errorf("current is %v", at.Current())
			}
			if elsewhere == nil {
				return
			}
			enginetest.Eventually(t, "relay b has settled", func() bool { return elsewhere.Current() == tt.elseIs })
			catchUp(t, elsewhere.Epoch(), c)
			if got, want := c.EpochCurrent("site", elsewhere.Epoch()), tt.newest == tt.during || tt.newest == tt.before && tt.during == 0; got != want {
				t.Errorf("the epoch of the other session is current: %v, want %v", got, want)
			}
			if tt.stays && !c.EpochCurrent("site", at.Epoch()) {
				t.Error("the epoch of the session is not current")
			}
		})
	}
}

// A relay that hears late of what is registered lets the newest process win all the same, as long as it can ask.
func TestACopyThatIsBehind(t *testing.T) {
	client := cell(t)
	var way line
	a, b := start(t, way.over(t, client), "a"), start(t, client, "b")
	first, _ := b.attach(t, "site", 1, 1)
	catchUp(t, first.Epoch(), a)
	enginetest.Eventually(t, "relay a knows it", func() bool { return a.registry.Known("site") })
	way.watches.shut()
	second, _ := b.attach(t, "site", 2, 1)
	newest, s := a.attach(t, "site", 3, 1)
	if newest.Epoch() == 0 || s.by() != "" {
		t.Fatalf("the newest session has epoch %d, and was taken by %q", newest.Epoch(), s.by())
	}
	enginetest.Eventually(t, "the other one is displaced", func() bool { return !second.Current() })

	// Nor does it know yet what its own epoch is worth: whoever takes a push waits for it.
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := a.WaitEpoch(ctx, newest.Epoch()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("WaitEpoch = %v", err)
	}
	if a.EpochCurrent("site", second.Epoch()) || a.EpochCurrent("site", newest.Epoch()) {
		t.Error("an epoch is current of which the relay has not heard, and not of who came after it")
	}
	way.watches.open()
	catchUp(t, newest.Epoch(), a)
	if !a.EpochCurrent("site", newest.Epoch()) || a.EpochCurrent("site", second.Epoch()) || !newest.Current() {
		t.Error("not the newest session alone is current")
	}
}

func TestALostLease(t *testing.T) {
	client := cell(t)
	a, b := start(t, client, "a"), start(t, client, "b")
	at, s := a.attach(t, "site", 1, 1)
	b.wantPlaces(t, "site", "a")
	was := at.Epoch()
	leases, err := client.Leases(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, held := range leases.Leases {
		if _, err := client.Revoke(t.Context(), held.ID); err != nil {
			t.Fatal(err)
		}
	}
	enginetest.Eventually(t, "the session is registered again", func() bool { return at.Epoch() > was })
	catchUp(t, at.Epoch(), a, b)
	b.wantPlaces(t, "site", "a")
	if !at.Current() || s.by() != "" || !b.EpochCurrent("site", at.Epoch()) || !b.EpochCurrent("site", was) {
		t.Error("the session is not current, or what it carried before is not")
	}
	// It is kept on the new lease.
	time.Sleep(4 * time.Second)
	if got := b.Places("site"); len(got) != 1 {
		t.Errorf("the agent is at %v", got)
	}

	// Nor does it matter if somebody takes the key alone away.
	was = at.Epoch()
	if _, err := client.Delete(t.Context(), prefix+"sessions/site/a"); err != nil {
		t.Fatal(err)
	}
	enginetest.Eventually(t, "the session is registered again", func() bool { return at.Epoch() > was })
}

func revisionOf(t *testing.T, client *clientv3.Client, key string) int64 {
	t.Helper()
	resp, err := client.Get(t.Context(), prefix+key)
	if err != nil || len(resp.Kvs) != 1 {
		t.Fatalf("key %q is %v, %v", key, resp, err)
	}
	return resp.Kvs[0].ModRevision
}

// What a relay has to say late of an agent that has left it is worth less than what others have said since.
func TestALateWordOfAnAgentThatHasLeft(t *testing.T) {
	client := cell(t)
	var way line
	a, b, c := start(t, way.over(t, client), "a"), start(t, client, "b"), start(t, client, "c")
	left, _ := a.attach(t, "site", 1, 1)
	catchUp(t, left.Epoch(), a, b, c)
	enginetest.Eventually(t, "all know it", func() bool { return len(b.see("site").Targets) == 1 && len(c.see("site").Targets) == 1 })
	way.cut()
	left.Close()
	at, _ := b.attach(t, "site", 1, 2)
	if err := at.SetTargets(targets("new")); err != nil {
		t.Fatal(err)
	}
	isNew := func() bool { known := c.see("site").Targets; return len(known) == 1 && known[0].Name == "new" }
	enginetest.Eventually(t, "what it announces elsewhere is known", isNew)
	time.Sleep(500 * time.Millisecond) // relay b has nothing more to say
	said := revisionOf(t, client, "agents/site")
	way.requests.open()
	enginetest.Eventually(t, "the session that is over is taken away", func() bool {
		there, err := client.Get(t.Context(), prefix+"sessions/site/a")
		return err == nil && len(there.Kvs) == 0
	})
	time.Sleep(500 * time.Millisecond) // what would come now comes with a fault only
	if now := revisionOf(t, client, "agents/site"); now != said || !isNew() {
		t.Errorf("the agent was written at revision %d and then %d; relay c knows %+v", said, now, c.see("site").Targets)
	}
	way.watches.open()
	enginetest.Eventually(t, "the relay that it left knows it too", func() bool { return cmp.Diff(a.see("site").Targets, b.see("site").Targets) == "" })
}

func TestARelayThatDies(t *testing.T) {
	client := cell(t)
	b, c := start(t, client, "b"), start(t, client, "c")
	b.leads.Store(true)
	var way line
	dead := start(t, way.over(t, client), "a")
	b.attach(t, "both", 1, 1)
	dead.attach(t, "both", 1, 2)
	dead.attach(t, "one", 1, 1)
	c.wantPlaces(t, "both", "a", "b")
	enginetest.Eventually(t, "its targets are known", func() bool { return len(c.see("one").Targets) == 1 })
	way.cut()
	dead.stop() // it cannot say so
	died := time.Now()
	c.wantPlaces(t, "both", "b")
	c.wantPlaces(t, "one")
	enginetest.Eventually(t, "the agent is gone", func() bool { return c.registry.Known("one") && !c.see("one").Connected && c.see("both").Connected })
	// Somebody says when it was seen last, for those that come later.
	enginetest.Eventually(t, "it was seen when the relay died", func() bool {
		d := prepare(t, client, "d", "")
		if err := d.Recover(t.Context(), d.registry); err != nil {
			t.Fatal(err)
		}
		connected, last := d.registry.LastSign("one")
		return !connected && last.After(died)
	})
	if len(c.see("one").Targets) != 1 {
		t.Error("its targets are listed no more")
	}
}

func TestARelayThatStopsHasNoAgents(t *testing.T) {
	client := cell(t)
	a, b := start(t, client, "a"), start(t, client, "b")
	a.attach(t, "site", 1, 1)
	b.wantPlaces(t, "site", "a")
	a.stop()
	b.wantPlaces(t, "site")
	// One of the same name does not think that they are its own.
	left, err := client.Get(t.Context(), prefix+"sessions/site/", clientv3.WithPrefix())
	if err != nil || len(left.Kvs) > 0 {
		t.Errorf("%v, %v", left.Kvs, err)
	}
}

func TestARelayThatStartsAgainTakesAwayWhatItHad(t *testing.T) {
	client := cell(t)
	b := start(t, client, "b")
	dead := prepare(t, client, "a", "")
	if err := dead.Recover(t.Context(), dead.registry); err != nil {
		t.Fatal(err)
	}
	at, _ := dead.attach(t, "site", 1, 1)
	catchUp(t, at.Epoch(), b)
	kept, stop := context.WithCancel(t.Context()) // or the lease might end first
	defer stop()
	leases, err := client.Leases(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, held := range leases.Leases {
		if _, err := client.KeepAlive(kept, held.ID); err != nil {
			t.Fatal(err)
		}
	}
	start(t, client, "a")
	b.wantPlaces(t, "site")
}

func TestWithoutAMajority(t *testing.T) {
	cluster := enginetest.New(t, 3)
	members := cluster.Start(t, "a", "b", "c")
	a, c := start(t, members["a"].Client(), "a"), start(t, members["c"].Client(), "c")
	known, _ := a.attach(t, "site", 1, 1)
	enginetest.Eventually(t, "relay c knows the agent", func() bool { return c.see("site").Connected })
	a.stop()
	known.Close()
	cluster.Stop("a", "b")

	at, s := c.attach(t, "site", 1, 2)
	if at.Epoch() != 0 || !at.Current() || !c.IsHere("site") {
		t.Fatalf("an agent that the relay knows: epoch %d, current %v", at.Epoch(), at.Current())
	}
	if _, err := c.registry.Register(roster.Registration{Agent: "stranger", Session: &session{}, ProcessID: [16]byte{2}, TrustDomain: "example.org"}); err == nil {
		t.Error("an agent that nobody can say of who it is was taken in")
	}
	if err := c.registry.Forget("stranger"); !errors.Is(err, roster.ErrUnknown) {
		t.Errorf("Forget of the stranger = %v", err)
	}
	cluster.Start(t, "b")
	enginetest.Eventually(t, "the session is registered", func() bool { return at.Epoch() != 0 })
	catchUp(t, at.Epoch(), c)
	if !c.EpochCurrent("site", at.Epoch()) || s.by() != "" {
		t.Error("the session is not current")
	}
	enginetest.Eventually(t, "the stranger is taken in", func() bool {
		_, err := c.registry.Register(roster.Registration{Agent: "stranger", Session: &session{}, ProcessID: [16]byte{2}, TrustDomain: "example.org"})
		return err == nil
	})
}

// What a later release has written stops a relay, whether it is there at the start or comes (C20).
func TestNotUnderstood(t *testing.T) {
	client := cell(t)
	r := prepare(t, client, "a", "")
	ctx, cancel := context.WithTimeout(t.Context(), grace)
	defer cancel()
	if err := r.Recover(ctx, r.registry); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- r.Run(t.Context()) }()
	if _, err := client.Put(t.Context(), prefix+"agents/site", "\x09of a later release"); err != nil {
		t.Fatal(err)
	}
	enginetest.Eventually(t, "the relay stops", func() bool { return len(ended) > 0 })
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "a later release") {
		t.Errorf("Run = %v", err)
	}
	late := prepare(t, client, "b", "")
	if err := late.Recover(ctx, late.registry); err == nil || !strings.Contains(err.Error(), "a later release") {
		t.Errorf("Recover = %v", err)
	}
}
