package replicated_test

import (
	"bytes"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clientv3 "go.etcd.io/etcd/client/v3"

	"pushrelay/internal/change"
	"pushrelay/internal/cluster/enginetest"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/history"
	"pushrelay/internal/keep"
	"pushrelay/internal/keep/replicated"
)

// TestImport: a cluster begins with what one relay holds, as the same store: with its id, and its history goes on. What an attempt has left that did not
// come to its end is gone; one that did is not made again.
func TestImport(t *testing.T) {
	client := enginetest.New(t, 1).Start(t, "a")["a"].Client()
	memory := keep.NewMemory(groupstore.Config{}, "test")
	source := memory.Store()
	for i := range 3000 {
		if o := pushTo(t.Context(), t, source, fmt.Sprint("j", i%2500), fmt.Appendf(nil, "# TYPE done gauge\ndone %d\n", i)); o.Kind != change.Applied {
			t.Fatal(o)
		}
	}
	const prefix = "/test/"
	if _, err := client.Put(t.Context(), prefix+"records/f/left", "over"); err != nil {
		t.Fatal(err)
	}
	earlier := []history.Epoch{{ID: history.EpochID{1}}, {ID: history.EpochID{2}, Began: 1000}}
	i := replicated.Import{Client: client, Prefix: prefix, Store: source, ID: keep.ID{7}, History: history.History{Epochs: earlier, Position: source.Position()}}
	var told [][2]int64
	i.Progress = func(done, total int64) { told = append(told, [2]int64{done, total}) }
	if err := i.Write(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(told); n == 0 || told[n-1][0] != told[n-1][1] {
		t.Errorf("the progress that was told is %v", told)
	}
	before := revision(t, client)
	if err := i.Write(t.Context()); err != nil || revision(t, client) != before {
		t.Errorf("a second import: %v", err)
	}
	m := start(t, "a", replicated.Config{Client: client})
	leaderOf(t, m)
	want, position := recordsOf(source)
	got, at := recordsOf(m.Store())
	if !maps.EqualFunc(want, got, bytes.Equal) || position != at {
		t.Errorf("the cluster begins with other records, at position %d, want %d (-want +got):\n%s", at, position, cmp.Diff(want, got))
	}
	if m.ID() != (keep.ID{7}) {
		t.Errorf("the store has the id %v", m.ID())
	}
	h := m.History()
	for _, p := range []history.Point{{Epoch: history.EpochID{1}, Position: 1000}, {Epoch: history.EpochID{2}, Position: position}, {Epoch: h.Current(), Position: position}} {
		if !h.Holds(p) {
			t.Errorf("the history does not hold %v", p)
		}
	}
	for _, p := range []history.Point{{Epoch: history.EpochID{1}, Position: 1001}, {Epoch: history.EpochID{2}, Position: position + 1}, {Epoch: history.EpochID{3}, Position: 1}} {
		if h.Holds(p) {
			t.Errorf("the history holds %v", p)
		}
	}
	if o := push(t.Context(), t, m, "j1", 1); o.Kind != change.Applied {
		t.Errorf("a push to the cluster: %v", o)
	}
}

func revision(t *testing.T, client *clientv3.Client) int64 {
	t.Helper()
	resp, err := client.Get(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	return resp.Header.GetRevision()
}

// TestRenew: the store under another id holds what it did, and nobody takes it for the one that it was (C16).
func TestRenew(t *testing.T) {
	client := enginetest.New(t, 1).Start(t, "a")["a"].Client()
	before := start(t, "a", replicated.Config{Client: client, Silence: time.Hour})
	putLeader(t, client, "a")
	leaderOf(t, before)
	if o := push(t.Context(), t, before, "j", 1); o.Kind != change.Applied {
		t.Fatal(o)
	}
	before.stop()
	if err := replicated.Renew(t.Context(), client, "/test/"); err != nil {
		t.Fatal(err)
	}
	after := start(t, "a", replicated.Config{Client: client, Silence: time.Hour})
	if old := before.History().Current(); after.ID() == before.ID() || after.History().Holds(history.Point{Epoch: old, Position: 1}) {
		t.Errorf("the store has the id %v, and had %v; its history is %+v", after.ID(), before.ID(), after.History())
	}
	if got := valueOf(after, keyOf(t, "j")); got != 1 {
		t.Errorf("the group is %d, want 1", got)
	}
}
