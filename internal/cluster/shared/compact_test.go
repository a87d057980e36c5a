package shared_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"pushrelay/internal/cluster/enginetest"
	"pushrelay/internal/ledger"
)

// TestCompaction: records that are over go, while others write; who was away reads what is left; and nothing that must stay out is let in.
func TestCompaction(t *testing.T) {
	members, client := three(t)
	away := members[2]
	away.stop()
	if _, err := members[0].Revoke(ledger.Revocation{Agent: "thief", At: begin}); err != nil {
		t.Fatal(err)
	}
	const each, life = 1200, 30 * day
	together(members[:2], func(i int, m *member) {
		for n := range each {
			at := begin.Add(time.Duration(n) * 12 * time.Hour)
			c := issued(fmt.Sprintf("site-%d", i), fmt.Sprintf("%x", 1+i*each+n), at)
			if err := m.Issue(c); err != nil {
				t.Error(err)
			}
		}
	})
	wantEqual(t, members[:2]...)
	records := len(members[0].Records())
	t.Logf("%d of %d records are left", records, 2*each+1)
	if most := 4 * 2 * int((life+grace)/(12*time.Hour)); records > most {
		t.Errorf("%d records are left, want at most %d", records, most)
	}
	resp, err := client.Get(t.Context(), "/test/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil || resp.Count > 2000 {
		t.Errorf("etcd has %d keys, %v", resp.Count, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var running sync.WaitGroup
	running.Go(func() {
		if err := away.journal.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	wantEqual(t, append(members, start(t, "anew", client))...)
	for _, m := range members {
		if _, refused := m.Refuses("thief", "1"); !refused {
			t.Errorf("member %s: a revocation is forgotten", m.name)
		}
	}
	cancel()
	running.Wait()
}

// TestCompactionsMeet: members that write all anew at once, and die over it, leave what all can read.
func TestCompactionsMeet(t *testing.T) {
	members, client := three(t)
	for round := range 20 {
		together(members, func(i int, m *member) {
			for n := range 5 {
				serial := fmt.Sprintf("%x", 1+round*100+i*10+n)
				if err := m.Issue(issued("site-"+serial, serial, begin)); err != nil {
					t.Error(err)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+round)*time.Millisecond) // some come far enough
			defer cancel()
			if err := m.journal.Compact(ctx, begin); err != nil {
				t.Logf("member %s: %v", m.name, err)
			}
		})
	}
	enginetest.Eventually(t, "what was under way has come to its end", func() bool {
		return members[0].journal.Refresh(t.Context()) == nil && members[0].journal.Compact(t.Context(), begin) == nil
	})
	wantEqual(t, append(members, start(t, "anew", client))...)
	if got := len(members[0].Agents()); got != 20*3*5 {
		t.Errorf("%d agents, want %d", got, 20*3*5)
	}
}

// TestPartsInUseStay: one that deletes what others left deletes no parts that are named since, and none are named that it has deleted.
func TestPartsInUseStay(t *testing.T) {
	deletes := func(then []clientv3.Op) bool { return then[0].IsDelete() }
	marks := func(then []clientv3.Op) bool {
		return string(then[0].KeyBytes()) == "/test/ledger/mark" && then[0].IsPut()
	}
	once := func(is func([]clientv3.Op) bool, do func()) func([]clientv3.Op) {
		var first sync.Once
		return func(then []clientv3.Op) {
			if is(then) {
				first.Do(do)
			}
		}
	}
	anew := func(m *member) error {
		return errors.Join(m.journal.Refresh(t.Context()), m.journal.Compact(t.Context(), begin))
	}

	members, ways := overFaulty(t)
	must(t, members[0].Issue(issued("site-a", "a1", begin)))
	ways[0].Before = once(deletes, func() { must(t, anew(members[1])) })
	must(t, anew(members[0]))
	wantEqual(t, append(members, start(t, "named since", members[2].journal.Client()))...)

	ready, deleted, second := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	ways[1].Before = once(marks, func() { close(ready); <-deleted })
	ways[0].Before = once(deletes, func() {
		go func() { second <- anew(members[1]) }()
		<-ready
	})
	must(t, anew(members[0]))
	close(deleted)
	if err := <-second; err == nil {
		t.Error("parts were named that had been deleted")
	}
	wantEqual(t, append(members, start(t, "deleted", members[2].journal.Client()))...)
}

// TestOneCompactionCounts: of two that were begun on the same, also while the first has not yet deleted the parts of the other.
func TestOneCompactionCounts(t *testing.T) {
	members, ways := overFaulty(t)
	must(t, members[0].Issue(issued("site-a", "a1", begin)))
	wantEqual(t, members...)
	named, over, first := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	var deleting, naming sync.Once
	ways[1].Before = func(then []clientv3.Op) {
		if then[0].IsDelete() {
			deleting.Do(func() { close(named); <-over })
		}
	}
	ways[0].Before = func(then []clientv3.Op) {
		if then[0].IsPut() {
			naming.Do(func() {
				go func() { first <- members[1].journal.Compact(t.Context(), begin) }()
				<-named
			})
		}
	}
	if err := members[0].journal.Compact(t.Context(), begin); err == nil {
		t.Error("both count")
	}
	close(over)
	must(t, <-first)
	wantEqual(t, append(members, start(t, "anew", members[2].journal.Client()))...)
}
