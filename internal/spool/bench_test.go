package spool_test

import (
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/spool"
)

// bodyOf returns a push of 50 series with values of its own.
func bodyOf(salt int) []byte {
	var b []byte
	for line := range 50 {
		b = fmt.Appendf(b, "# HELP worker_requests_%[1]d_total Requests that were served.\n# TYPE worker_requests_%[1]d_total counter\n"+
			"worker_requests_%[1]d_total{endpoint=\"/api/v2/resource-%02[1]d/detail\",region=\"eu-central-1\",tenant=\"customer-production\"} %d\n",
			line, uint32(salt+1)*2654435761^uint32(line*40503))
	}
	return b
}

func openForBench(tb testing.TB, dir string) *spool.Spool {
	tb.Helper()
	s := spool.New(spool.Config{
		Dir: dir, Agent: "site-a", Relays: []string{"a:1"}, Wait: time.Minute, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	if err := s.Recover(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

func put(tb testing.TB, s *spool.Spool, group int) {
	tb.Helper()
	r := &change.Change{
		Operation: change.Replace, Key: keyOf(fmt.Sprintf("job-%06d", group)), Format: exposition.Text004, Body: bodyOf(group), At: time.Now(),
	}
	if err := s.Apply(tb.Context(), r).Err(); err != nil {
		tb.Error(err)
	}
}

// fillSpool pushes to so many groups, many at once so that they share syncs.
func fillSpool(tb testing.TB, s *spool.Spool, groups int) {
	tb.Helper()
	const pushers = 256
	var all sync.WaitGroup
	for p := range pushers {
		all.Go(func() {
			for g := p; g < groups; g += pushers {
				put(tb, s, g)
			}
		})
	}
	all.Wait()
}

// BenchmarkPush is a push while no relay is attached.
func BenchmarkPush(b *testing.B) {
	const groups = 256
	for _, kept := range []string{"memory", "disk"} {
		for _, pushers := range []int{1, 16} {
			b.Run(fmt.Sprintf("%s/pushers=%d", kept, pushers), func(b *testing.B) {
				dir := ""
				if kept == "disk" {
					dir = b.TempDir() + "/spool"
				}
				s := openForBench(b, dir)
				requests := make([]*change.Change, groups)
				for i := range requests {
					requests[i] = &change.Change{
						Operation: change.Replace, Key: keyOf(fmt.Sprint("job-", i)), Format: exposition.Text004, Body: bodyOf(i), At: time.Now(),
					}
				}
				b.ReportAllocs()
				b.SetBytes(int64(len(requests[0].Body)))
				if pushers == 1 {
					for i := 0; b.Loop(); i++ {
						if err := s.Apply(b.Context(), requests[i%groups]).Err(); err != nil {
							b.Fatal(err)
						}
					}
					return
				}
				b.SetParallelism(pushers / runtime.GOMAXPROCS(0))
				b.RunParallel(func(pb *testing.PB) {
					for i := 0; pb.Next(); i++ {
						if err := s.Apply(b.Context(), requests[i%groups]).Err(); err != nil {
							b.Error(err)
						}
					}
				})
			})
		}
	}
}

// waitingGroups are how many groups wait in a spool that is large.
const waitingGroups = 100_000

// BenchmarkRecover starts with a spool where many groups wait, read from the journal alone and from a snapshot.
func BenchmarkRecover(b *testing.B) {
	for _, from := range []string{"journal", "snapshot"} {
		b.Run(from, func(b *testing.B) {
			dir := b.TempDir() + "/spool"
			s := openForBench(b, dir)
			fillSpool(b, s, waitingGroups)
			if from == "snapshot" {
				if err := s.Snapshot(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				s := spool.New(spool.Config{
					Dir: dir, Agent: "site-a", Relays: []string{"a:1"}, Wait: time.Minute, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
				})
				if err := s.Recover(b.Context()); err != nil {
					b.Fatal(err)
				}
				if n := s.Status().Entries; n != waitingGroups {
					b.Fatalf("%d changes wait, want %d", n, waitingGroups)
				}
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkLargeSpool is what happens beside pushes, each under the lock that they need: so long a push may have to wait.
func BenchmarkLargeSpool(b *testing.B) {
	s := openForBench(b, b.TempDir()+"/spool")
	fillSpool(b, s, waitingGroups)
	attach := func() (*spool.Feed, error) {
		return s.Attach(spool.Attachment{Relay: "a:1", Store: spool.StoreID{1}, Journal: s.Journal()})
	}
	for _, work := range []struct {
		name string
		do   func() error
	}{
		{"attach and detach", func() error {
			feed, err := attach()
			if err == nil {
				feed.Detach()
			}
			return err
		}},
		{"status", func() error { s.Status(); return nil }},
		{"pending", func() error { s.Pending(); return nil }},
		{"snapshot", func() error { return s.Snapshot(b.Context()) }},
		{"state", func() error {
			feed, err := attach()
			if err != nil {
				return err
			}
			defer feed.Detach()
			feed.State(b.Context())
			return nil
		}},
	} {
		b.Run(work.name, func(b *testing.B) {
			var waits []float64
			for b.Loop() {
				var err error
				waits = append(waits, s.Beside(func() { err = work.do() }).Seconds()*1000)
				if err != nil {
					b.Fatal(err)
				}
			}
			slices.Sort(waits)
			b.ReportMetric(waits[len(waits)/2], "held-p50-ms")
		})
	}
}

// TestMemoryOfAGroup bounds what a group costs that waits, beside its body.
func TestMemoryOfAGroup(t *testing.T) {
	const groups = 2000
	s := openForBench(t, t.TempDir()+"/spool")
	before := heap()
	fillSpool(t, s, groups)
	each := (heap() - before) / groups
	st := s.Status()
	said := st.Bytes / groups
	t.Logf("%d bytes a group, of which the spool knows %d", each, said)
	if each > said+said/4 {
		t.Errorf("a group takes %d bytes of memory, and the spool counts %d", each, said)
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
