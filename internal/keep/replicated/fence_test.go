package replicated_test

import (
	"bytes"
	"context"
	"log/slog"
	"maps"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	"pushrelay/internal/change"
	"pushrelay/internal/cluster/enginetest"
	storagev1 "pushrelay/internal/gen/storage/v1"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/keep/replicated"
)

// putLeader makes a member the leader, whoever it was before, as a transaction of a candidate does.
func putLeader(t *testing.T, client *clientv3.Client, name string) {
	t.Helper()
	value, err := proto.Marshal(&storagev1.ClusterLeader{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Put(t.Context(), "/test/leader", string(value)); err != nil {
		t.Fatal(err)
	}
}

// TestFence: one that leads no longer, and does not know it, writes nothing and acknowledges nothing, whichever of the two has changed that its transactions
// want to be as it saw them; and of what it had decided nothing is left with it (C4, C8).
func TestFence(t *testing.T) {
	for name, depose := range map[string]func(t *testing.T, client *clientv3.Client){
		"another leads": func(t *testing.T, client *clientv3.Client) { putLeader(t, client, "b") },
		"another has written": func(t *testing.T, client *clientv3.Client) {
			has, err := client.Get(t.Context(), "/test/position")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := client.Put(t.Context(), "/test/position", string(has.Kvs[0].Value)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			client := enginetest.New(t, 1).Start(t, "a")["a"].Client()
			m := start(t, "a", replicated.Config{Client: client, Silence: time.Hour}) // which writes nothing by itself for as long
			putLeader(t, client, "a")
			leaderOf(t, m)
			if o := push(t.Context(), t, m, "j", 1); o.Kind != change.Applied {
				t.Fatal(o)
			}
			depose(t, client)
			if o := push(t.Context(), t, m, "j", 2); o.Kind == change.Applied || o.Decided.Position == 0 {
				t.Errorf("a push to one that leads no longer: %+v", o)
			}
			if o := push(t.Context(), t, m, "j", 3); o.Kind != change.NotWritable || o.Decided.Position != 0 {
				t.Errorf("another one after that: %+v", o)
			}
			want, position := records(start(t, "anew", replicated.Config{Client: client, Silence: time.Hour}))
			if position != 1 {
				t.Errorf("etcd has position %d, want 1", position)
			}
			enginetest.Eventually(t, "nothing is left of what was decided in vain", func() bool {
				got, at := records(m)
				return at == position && maps.EqualFunc(want, got, bytes.Equal)
			})
		})
	}
}

// TestLostAnswer: a transaction whose answer was lost is asked for again, and known for the one that was committed: the push is acknowledged, and the leader leads
// on (C4).
func TestLostAnswer(t *testing.T) {
	client, way := enginetest.OverFaulty(enginetest.New(t, 1).Start(t, "a")["a"])
	m := start(t, "a", replicated.Config{Client: client, Silence: time.Hour})
	putLeader(t, client, "a")
	leaderOf(t, m)
	term := m.Leader().Term
	for i := range 3 {
		way.LoseAnswer()
		if o := push(t.Context(), t, m, "j", i); o.Kind != change.Applied {
			t.Errorf("push %d: %+v", i, o)
		}
	}
	if now := m.Leader().Term; now != term || !m.Leads() {
		t.Errorf("leads: %v, in term %d, want %d", m.Leads(), now, term)
	}
	wantEqual(t, m, start(t, "b", replicated.Config{Client: client, Silence: time.Hour}))
}

// TestSlowToHear: a member that hears late of what is written takes nobody's place who writes (C6), and shows nothing before it has what was committed when it was
// asked (C9).
func TestSlowToHear(t *testing.T) {
	const silence = 300 * time.Millisecond
	engine := enginetest.New(t, 1).Start(t, "a")["a"]
	leader := start(t, "a", replicated.Config{Client: engine.Client(), Silence: silence})
	leaderOf(t, leader)
	if o := push(t.Context(), t, leader, "j", 1); o.Kind != change.Applied {
		t.Fatal(o)
	}
	term := leader.Leader().Term
	client, way := enginetest.OverFaulty(engine)
	claims := make(chan struct{}, 1000)
	way.Before = func(then []clientv3.Op) {
		if len(then) == 1 && string(then[0].KeyBytes()) == "/test/leader" {
			claims <- struct{}{}
		}
	}
	letGo := make(chan struct{})
	client.Watcher = &enginetest.HeldWatcher{Watcher: client.Watcher, Pass: func(ctx context.Context) error {
		select {
		case <-letGo:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}}
	slow := start(t, "slow", replicated.Config{Client: client, Silence: silence})
	if o := push(t.Context(), t, leader, "j", 2); o.Kind != change.Applied {
		t.Fatal(o)
	}
	if err := slow.CatchUp(t.Context()); err == nil || valueOf(slow, keyOf(t, "j")) != 1 {
		t.Errorf("one that lacks what is committed shows %d, and %v", valueOf(slow, keyOf(t, "j")), err)
	}
	enginetest.Eventually(t, "it takes the leader for silent again and again", func() bool { return len(claims) > 3 || !leader.Leads() })
	if o := push(t.Context(), t, leader, "j", 3); o.Kind != change.Applied || leader.Leader().Term != term {
		t.Errorf("a leader that was never silent was replaced: %+v, in term %d, it was %d", o, leader.Leader().Term, term)
	}
	close(letGo)
	enginetest.Eventually(t, "it has caught up", func() bool { return slow.CatchUp(t.Context()) == nil && valueOf(slow, keyOf(t, "j")) == 3 })
}

// A meanwhileKV has something happen before the first record is read.
type meanwhileKV struct {
	clientv3.KV
	happens func()
	once    sync.Once
}

func (k *meanwhileKV) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	if key == "/test/records/" {
		k.once.Do(k.happens)
	}
	return k.KV.Get(ctx, key, opts...)
}

// TestReadAtOneRevision: a copy that is read while others write is what the store was at one position, and the rest comes after it (C2).
func TestReadAtOneRevision(t *testing.T) {
	engine := enginetest.New(t, 1).Start(t, "a")["a"]
	leader := start(t, "a", replicated.Config{Client: engine.Client(), Silence: time.Hour})
	putLeader(t, engine.Client(), "a")
	leaderOf(t, leader)
	apply := func(job string, value int) {
		if o := push(t.Context(), t, leader, job, value); o.Kind != change.Applied {
			t.Errorf("push to %s: %+v", job, o)
		}
	}
	apply("j", 1)
	apply("gone", 1)
	client := *engine.Client()
	client.KV = &meanwhileKV{KV: client.KV, happens: func() { apply("j", 2); apply("new", 1); remove(t, leader, "gone") }}
	late := replicated.New(replicated.Config{Client: &client, Name: "late", Prefix: "/test/", Silence: time.Hour, Logger: slog.New(slog.DiscardHandler)})
	if err := late.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	for job, want := range map[string]int{"j": 1, "gone": 1, "new": 0} {
		if got := valueOf(&member{Keep: late}, keyOf(t, job)); got != want || late.Store().Position() != 2 {
			t.Errorf("group %s is %d at position %d, want %d at 2", job, got, late.Store().Position(), want)
		}
	}
}

// TestTimesRise: a push that comes by a clock which is behind sets the time of its group back nowhere (C9).
func TestTimesRise(t *testing.T) {
	client := enginetest.New(t, 1).Start(t, "a")["a"].Client()
	leader := start(t, "a", replicated.Config{Client: client, Silence: time.Hour})
	putLeader(t, client, "a")
	leaderOf(t, leader)
	key, now := keyOf(t, "j"), time.Now()
	for _, at := range []time.Time{now, now.Add(-time.Hour)} {
		c := &change.Change{Operation: change.Replace, Key: key, At: at}
		if o, _ := leader.Store().Apply(t.Context(), c, groupstore.Content{}); o.Kind != change.Applied {
			t.Fatal(o)
		}
	}
	for _, m := range []*member{leader, start(t, "b", replicated.Config{Client: client, Silence: time.Hour})} {
		if g, found := m.Store().Group(key); !found || !g.PushTime().Equal(now.Truncate(0)) {
			t.Errorf("member %s shows that the group was pushed at %v, want %v", m.name, g.PushTime(), now)
		}
	}
}
