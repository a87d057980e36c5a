package replicated_test

import (
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"pushrelay/internal/change"
	"pushrelay/internal/cluster/enginetest"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/keep/replicated"
)

// TestWipe: a wipe is committed by one small key (C4). All copies are the leader's from then on, also one that begins while records of what was wiped are there;
// in the end there are none.
func TestWipe(t *testing.T) {
	engines := enginetest.New(t, 3).Start(t, enginetest.Names(3)...)
	started := func(name string) *member {
		store := groupstore.Config{ShortWipes: func() bool { return true }}
		return start(t, name, replicated.Config{Client: engines[name].Client(), Store: store})
	}
	names := enginetest.Names(3)
	first, second := started(names[0]), started(names[1])
	leader := leaderOf(t, first, second)
	const groups = 6000
	pushJobs(t, leader, groups)
	client := engines[names[0]].Client()
	count := func() int64 {
		t.Helper()
		resp, err := client.Get(t.Context(), "/test/records/", clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil {
			t.Fatal(err)
		}
		return resp.Count
	}
	if got := count(); got != 2*groups {
		t.Fatalf("%d records, want two of each group", got)
	}
	if o, _ := leader.Store().Apply(t.Context(), &change.Change{Operation: change.Wipe, At: time.Now()}, groupstore.Content{}); o.Kind != change.Applied {
		t.Fatal(o)
	}
	if o := push(t.Context(), t, leader, "j1", 1); o.Kind != change.Applied {
		t.Fatal(o)
	}
	if got := count(); got < groups {
		t.Errorf("%d records are left just after the wipe: it has waited for each to go", got)
	}
	wantEqual(t, first, second, started(names[2]))
	enginetest.Eventually(t, "the records of what was wiped are gone", func() bool { return count() == 3 })
	if got := wantEqual(t, first, second).Store().Stats().Groups; got != 1 {
		t.Errorf("%d groups, want the one that came later", got)
	}
}

// pushJobs pushes to so many groups.
func pushJobs(t *testing.T, leader *member, groups int) {
	t.Helper()
	todo := make(chan int, groups)
	for i := range groups {
		todo <- i
	}
	close(todo)
	done := make(chan change.Outcome)
	for range 32 {
		go func() {
			for i := range todo {
				done <- push(t.Context(), t, leader, fmt.Sprint("j", i), i)
			}
		}()
	}
	for range groups {
		if o := <-done; o.Kind != change.Applied {
			t.Fatal(o)
		}
	}
}
