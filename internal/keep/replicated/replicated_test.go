package replicated_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/change"
	"pushrelay/internal/cluster/enginetest"
	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/keep/replicated"
)

// A member is a copy that runs.
type member struct {
	*replicated.Keep
	name string
	stop func()
}

func start(t testing.TB, name string, cfg replicated.Config) *member {
	t.Helper()
	cfg.Name, cfg.Prefix = name, "/test/"
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil)).With(slog.String("member", name))
	}
	k := replicated.New(cfg)
	if err := k.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := k.Run(ctx); err != nil {
			t.Errorf("member %s ended: %v", name, err)
		}
	})
	m := &member{k, name, func() { cancel(); running.Wait() }}
	t.Cleanup(m.stop)
	return m
}

// leaderOf waits for a leader of which all know.
func leaderOf(t testing.TB, members ...*member) (leader *member) {
	t.Helper()
	enginetest.Eventually(t, "all know the leader", func() bool {
		leader = nil
		for _, m := range members {
			if m.Leads() {
				leader = m
			}
		}
		if leader == nil {
			return false
		}
		for _, m := range members {
			if m.Leader().Name != leader.name {
				return false
			}
		}
		return true
	})
	return leader
}

func keyOf(t testing.TB, job string) grouping.Key {
	t.Helper()
	key, err := grouping.New(grouping.Label{Name: "job", Value: job})
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func push(ctx context.Context, t testing.TB, m *member, job string, value int) change.Outcome {
	t.Helper()
	return pushBody(ctx, t, m, job, fmt.Appendf(nil, "# TYPE done gauge\ndone %d\n", value))
}

func pushBody(ctx context.Context, t testing.TB, m *member, job string, text []byte) change.Outcome {
	t.Helper()
	return pushTo(ctx, t, m.Store(), job, text)
}

func pushTo(ctx context.Context, t testing.TB, store *groupstore.Store, job string, text []byte) change.Outcome {
	t.Helper()
	body, err := new(exposition.Parser).ParseText(text, exposition.Options{})
	if err != nil {
		t.Fatal(err)
	}
	o, _ := store.Apply(ctx, &change.Change{Operation: change.Replace, Key: keyOf(t, job), At: time.Now()}, groupstore.Content{Body: body})
	return o
}

// remove deletes a group.
func remove(t testing.TB, m *member, job string) {
	t.Helper()
	if o := m.Store().ApplyBodiless(t.Context(), &change.Change{Operation: change.Delete, Key: keyOf(t, job), At: time.Now()}); o.Kind != change.Applied {
		t.Fatalf("deleting group %s: %v", job, o)
	}
}

func records(m *member) (map[groupstore.RecordID][]byte, uint64) { return recordsOf(m.Store()) }

func recordsOf(store *groupstore.Store) (map[groupstore.RecordID][]byte, uint64) {
	f := store.Follow()
	defer f.Close()
	d := f.Take()
	return maps.Collect(d.Records()), d.Position
}

// wantEqual waits until all copies are at the leader's position, and compares all that they hold. Nobody pushes any more.
func wantEqual(t *testing.T, members ...*member) (leader *member) {
	t.Helper()
	enginetest.Eventually(t, "all are where the leader is", func() bool {
		leader = leaderOf(t, members...)
		at := leader.Store().Position()
		for _, m := range members {
			if m.Store().Committed() != at {
				return false
			}
		}
		return leader.Leads()
	})
	want, _ := records(leader)
	for _, m := range members {
		got, _ := records(m)
		if !maps.EqualFunc(want, got, bytes.Equal) {
			t.Fatalf("member %s differs from the leader (-want +got):\n%s", m.name, cmp.Diff(want, got))
		}
	}
	return leader
}

func TestThreeCopies(t *testing.T) {
	c := enginetest.New(t, 3)
	engines := c.Start(t, enginetest.Names(3)...)
	var members []*member
	for _, name := range enginetest.Names(3) {
		members = append(members, start(t, name, replicated.Config{Client: engines[name].Client()}))
	}
	leader := leaderOf(t, members...)
	for i := range 200 {
		if o := push(t.Context(), t, leader, fmt.Sprint("j", i%17), i); o.Kind != change.Applied {
			t.Fatalf("push %d: %v", i, o)
		}
		if i%7 == 6 {
			remove(t, leader, fmt.Sprint("j", i%17))
		}
	}
	wantEqual(t, members...)
	for _, m := range members {
		if m != leader {
			if o := push(t.Context(), t, m, "j", 1); o.Kind != change.NotWritable {
				t.Errorf("a member that does not lead answers %v", o)
			}
		}
	}
	leader.stop()
	var rest []*member
	for _, m := range members {
		if m != leader {
			rest = append(rest, m)
		}
	}
	began := time.Now()
	next := leaderOf(t, rest...)
	t.Logf("another member leads %v after the first has handed over", time.Since(began))
	for i := range 100 {
		if o := push(t.Context(), t, next, fmt.Sprint("j", i%23), i); o.Kind != change.Applied {
			t.Fatalf("push %d: %v", i, o)
		}
	}
	wantEqual(t, rest...)
	late := start(t, leader.name, replicated.Config{Client: engines[leader.name].Client()})
	wantEqual(t, append(rest, late)...)
}
