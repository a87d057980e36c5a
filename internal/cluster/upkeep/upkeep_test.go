package upkeep_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"pushrelay/internal/cluster/enginetest"
	"pushrelay/internal/cluster/upkeep"
)

const quota = 24 << 20

// start starts a member with a small quota, and what looks after it. Everything up to the revision is compacted.
func start(t *testing.T) (client *clientv3.Client, u *upkeep.Upkeep, revision, handed *atomic.Int64, run func()) {
	t.Helper()
	etcd := enginetest.New(t, 1).WithQuota(quota).Start(t, "a")["a"]
	client = etcd.Client()
	revision, handed = &atomic.Int64{}, &atomic.Int64{}
	reg := prometheus.NewRegistry()
	u = upkeep.New(upkeep.Config{
		Client: client, Name: "a", Quota: quota, Turn: "/turn", Leads: func() bool { return true }, Registerer: reg, Logger: slog.New(slog.DiscardHandler),
		Revisions: func() map[string]int64 { return map[string]int64{"a": revision.Load(), "b": revision.Load() + 1000} },
		HandOver: func(context.Context) error {
			if u.Busy() == "" {
				t.Error("a member is about to be defragmented, and may be asked")
			}
			handed.Add(1)
			return nil
		},
		Defragment: etcd.Defragment,
		Every:      50 * time.Millisecond, Grace: time.Millisecond,
	})
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v, %v", problems, err)
	}
	return client, u, revision, handed, func() { lookAfter(t, u) }
}

// lookAfter looks after it until the test ends.
func lookAfter(t *testing.T, u *upkeep.Upkeep) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { u.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
}

// put puts 100 KiB.
func put(t *testing.T, client *clientv3.Client, key string, revision *atomic.Int64) error {
	t.Helper()
	value := make([]byte, 100<<10)
	rand.Read(value)
	resp, err := client.Put(t.Context(), key, string(value))
	if err == nil {
		revision.Store(resp.Header.GetRevision())
	}
	return err
}

func size(t *testing.T, client *clientv3.Client) *clientv3.StatusResponse {
	t.Helper()
	s, err := client.Status(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestFlat: however much is written, what is stored stays what there is (C19).
func TestFlat(t *testing.T) {
	client, u, revision, _, run := start(t)
	run()
	for i := range 2 * quota / (100 << 10) {
		if err := put(t, client, fmt.Sprint("k", i%10), revision); err != nil {
			t.Fatalf("after %d KiB: %v", i*100, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	if got := size(t, client); got.DbSize > quota || u.Full() != "" {
		t.Errorf("%d bytes are stored, %q", got.DbSize, u.Full())
	}
}

// TestMend: an etcd that has run full takes something again (C19), once there is something that it need not keep.
func TestMend(t *testing.T) {
	client, u, revision, _, run := start(t)
	var err error
	for i := 0; err == nil; i++ {
		err = put(t, client, fmt.Sprint("k", i%10), revision)
	}
	if !errors.Is(err, rpctypes.ErrNoSpace) {
		t.Fatal(err)
	}
	run()
	for end := time.Now().Add(20 * time.Second); put(t, client, "k", revision) != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nothing is taken any more")
		}
	}
	if u.Full() != "" {
		t.Errorf("full: %q", u.Full())
	}
}

// TestFullAndGivenBack: nothing more is to be taken from 80 % of the quota on, and what was deleted is given back to the disk, by a member that leads nothing.
func TestFullAndGivenBack(t *testing.T) {
	client, u, revision, handed, run := start(t)
	run()
	for i := 0; u.Full() == ""; i++ {
		if err := put(t, client, fmt.Sprint("all/", i), revision); err != nil {
			t.Fatalf("nothing was said, and there is no room: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	if got := size(t, client); got.DbSizeInUse < quota/2 {
		t.Errorf("%d bytes of %d are in use, and that is said to be all: %s", got.DbSizeInUse, quota, u.Full())
	}
	resp, err := client.Delete(t.Context(), "all/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	revision.Store(resp.Header.GetRevision())
	for end := time.Now().Add(20 * time.Second); size(t, client).DbSize > quota/4 || u.Full() != "" || u.Busy() != ""; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after all was deleted: %+v, %q, %q", size(t, client), u.Full(), u.Busy())
		}
		if _, err := client.Put(t.Context(), "beat", ""); err != nil { // pages become free with the transaction after the one that freed them
			t.Fatal(err)
		}
	}
	if handed.Load() == 0 {
		t.Error("a member was defragmented that had not handed over")
	}
}

// TestCompactsBehindAll: nothing is forgotten that any relay has yet to hear of which was heard lately, and all that every one of them has passed is (C19).
func TestCompactsBehindAll(t *testing.T) {
	client := enginetest.New(t, 1).Start(t, "a")["a"].Client()
	var at []int64
	for range 20 {
		resp, err := client.Put(t.Context(), "k", "v")
		if err != nil {
			t.Fatal(err)
		}
		at = append(at, resp.Header.GetRevision())
	}
	u := upkeep.New(upkeep.Config{
		Client: client, Name: "a", Quota: quota, Turn: "/turn", Leads: func() bool { return true }, Logger: slog.New(slog.DiscardHandler), Every: time.Millisecond,
		Revisions: func() map[string]int64 { return map[string]int64{"ahead": at[19], "behind": at[5], "between": at[9]} },
	})
	lookAfter(t, u)
	enginetest.Eventually(t, "what all have passed is forgotten", func() bool {
		_, err := client.Get(t.Context(), "k", clientv3.WithRev(at[4]))
		return errors.Is(err, rpctypes.ErrCompacted)
	})
	if _, err := client.Get(t.Context(), "k", clientv3.WithRev(at[5])); err != nil {
		t.Errorf("what one relay does not have yet: %v", err)
	}
}

// TestOneAtATime: while a member is made smaller no other one is (C19).
func TestOneAtATime(t *testing.T) {
	client, _, revision, handed, run := start(t)
	if _, err := client.Put(t.Context(), "/turn", "b"); err != nil {
		t.Fatal(err)
	}
	for i := range 2 * quota / 3 / (100 << 10) {
		if err := put(t, client, fmt.Sprint("all/", i), revision); err != nil {
			t.Fatal(err)
		}
	}
	resp, err := client.Delete(t.Context(), "all/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	revision.Store(resp.Header.GetRevision())
	run()
	enginetest.Eventually(t, "what was deleted is free", func() bool {
		if _, err := client.Put(t.Context(), "beat", ""); err != nil { // as in TestFullAndGivenBack
			t.Fatal(err)
		}
		return size(t, client).DbSizeInUse < quota/8
	})
	looked := size(t, client).RaftIndex
	enginetest.Eventually(t, "it has asked for its turn", func() bool { return size(t, client).RaftIndex > looked+10 })
	if handed.Load() != 0 {
		t.Error("a member hands over to be made smaller, and it is another one's turn")
	}
	if _, err := client.Delete(t.Context(), "/turn"); err != nil {
		t.Fatal(err)
	}
	enginetest.Eventually(t, "its turn comes", func() bool { return handed.Load() > 0 && size(t, client).DbSize < quota/4 })
}

// TestEtcdOfOnesOwn: the members of an etcd that is there for the relays alone are made smaller by the relay that leads, and by no other one (C19).
func TestEtcdOfOnesOwn(t *testing.T) {
	etcd := enginetest.StartForeign(t, 1, 128, 3<<19)
	client := etcd.Root
	var revision atomic.Int64
	for i := range 2 * quota / 3 / (100 << 10) {
		if err := put(t, client, fmt.Sprint("all/", i), &revision); err != nil {
			t.Fatal(err)
		}
	}
	resp, err := client.Delete(t.Context(), "all/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Compact(t.Context(), resp.Header.GetRevision(), clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	size := func() *clientv3.StatusResponse {
		s, err := client.Status(t.Context(), etcd.Endpoint)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	enginetest.Eventually(t, "what was deleted is free", func() bool {
		if _, err := client.Put(t.Context(), "beat", ""); err != nil { // as in TestFullAndGivenBack
			t.Fatal(err)
		}
		return size().DbSizeInUse < quota/8
	})
	var leads atomic.Bool
	var looks atomic.Int64
	u := upkeep.New(upkeep.Config{
		Client: client, Name: "a", Endpoints: []string{etcd.Endpoint}, Quota: quota, Turn: "/turn", Leads: func() bool { looks.Add(1); return leads.Load() },
		Revisions: func() map[string]int64 { return nil }, Logger: slog.New(slog.DiscardHandler), Every: 10 * time.Millisecond,
	})
	lookAfter(t, u)
	enginetest.Eventually(t, "it has looked some times", func() bool { return looks.Load() > 10 })
	if got := size().DbSize; got < quota/2 {
		t.Errorf("%d bytes are stored: one that does not lead has made the member smaller", got)
	}
	leads.Store(true)
	enginetest.Eventually(t, "the free space is given back", func() bool { return size().DbSize < quota/4 })
}
