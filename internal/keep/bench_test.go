package keep_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/keep"
)

// page returns a push of 100 series: gauges, counters and three histograms.
func page(value int) string {
	var b strings.Builder
	for i := range 30 {
		fmt.Fprintf(&b, "# TYPE bench_gauge_%d gauge\nbench_gauge_%d{zone=\"a\",kind=\"x\"} %d.5\n", i, i, value+i)
	}
	for i := range 31 {
		fmt.Fprintf(&b, "# TYPE bench_counter_%d_total counter\nbench_counter_%d_total{zone=\"a\",kind=\"x\"} %d\n", i, i, value+i)
	}
	for i := range 3 {
		fmt.Fprintf(&b, "# TYPE bench_seconds_%d histogram\n", i)
		for le := range 10 {
			fmt.Fprintf(&b, "bench_seconds_%d_bucket{zone=\"a\",le=\"%d\"} %d\n", i, le, value+le)
		}
		fmt.Fprintf(&b, "bench_seconds_%d_bucket{zone=\"a\",le=\"+Inf\"} %d\nbench_seconds_%d_sum{zone=\"a\"} 7\nbench_seconds_%d_count{zone=\"a\"} %d\n", i, value+10, i, i, value+10)
	}
	return b.String()
}

// realConfig keeps the log on a real disk.
func realConfig(dir string) keep.Config {
	cfg := config(dir)
	cfg.FS = nil
	return cfg
}

// fillWith pushes so many groups of 100 series from 64 pushers.
func fillWith(tb testing.TB, s *groupstore.Store, groups int) {
	tb.Helper()
	var next atomic.Int64
	var pushers sync.WaitGroup
	for range 64 {
		pushers.Go(func() {
			var p exposition.Parser
			for i := int(next.Add(1)) - 1; i < groups; i = int(next.Add(1)) - 1 {
				pushPage(tb, s, &p, fmt.Sprint("g", i), page(i))
			}
		})
	}
	pushers.Wait()
}

func pushPage(tb testing.TB, s *groupstore.Store, p *exposition.Parser, job, text string) {
	tb.Helper()
	body, err := p.ParseText([]byte(text), exposition.Options{})
	if err == nil {
		o, _ := s.Apply(context.Background(), &change.Change{Operation: change.Replace, Key: key(tb, job), At: noon}, groupstore.Content{Body: body})
		err = o.Err()
	}
	if err != nil {
		tb.Error(err)
	}
}

// syncMedian measures how long the disk takes to make 4 KiB durable.
func syncMedian(tb testing.TB) time.Duration {
	tb.Helper()
	f, err := os.Create(filepath.Join(tb.TempDir(), "sync"))
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 4096)
	var took []time.Duration
	for i := range 200 {
		if _, err := f.WriteAt(block, int64(i%16)*4096); err != nil {
			tb.Fatal(err)
		}
		start := time.Now()
		if err := f.Sync(); err != nil {
			tb.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	return took[len(took)/2]
}

// BenchmarkPush pushes 100 series at once, parsing included: to a store in memory, and to one that keeps them on disk.
func BenchmarkPush(b *testing.B) {
	median := syncMedian(b)
	for _, pushers := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("memory/%d", pushers), func(b *testing.B) {
			benchmarkPush(b, groupstore.New(groupstore.Config{}), pushers)
		})
		b.Run(fmt.Sprintf("disk/%d", pushers), func(b *testing.B) {
			k := open(b, realConfig(b.TempDir()))
			benchmarkPush(b, k.Store(), pushers)
			b.ReportMetric(float64(median.Microseconds()), "sync-p50-µs")
			k.close()
		})
	}
}

func benchmarkPush(b *testing.B, s *groupstore.Store, pushers int) {
	b.Helper()
	var next atomic.Int64
	var running sync.WaitGroup
	b.ResetTimer()
	for i := range pushers {
		running.Go(func() {
			var p exposition.Parser
			text := page(i)
			for next.Add(1) <= int64(b.N) {
				pushPage(b, s, &p, fmt.Sprint("pusher", i), text)
			}
		})
	}
	running.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pushes/s")
}

// BenchmarkRecover recovers 1M series, from the log of the pushes that made them and from a snapshot.
func BenchmarkRecover(b *testing.B) {
	const groups = 10_000
	dir := b.TempDir()
	k := open(b, realConfig(dir))
	fillWith(b, k.Store(), groups)
	k.close()
	backup, restored := filepath.Join(b.TempDir(), "backup"), b.TempDir()
	if _, err := keep.Backup(b.Context(), keep.Place{Dir: dir}, nil, backup); err != nil {
		b.Fatal(err)
	}
	if _, err := keep.Restore(b.Context(), keep.Place{Dir: restored}, backup, nil); err != nil {
		b.Fatal(err)
	}
	for name, from := range map[string]string{"log": dir, "snapshot": restored} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				k := open(b, realConfig(from))
				if got := k.Store().Stats().Series; got != 100*groups {
					b.Fatalf("%d series", got)
				}
				b.StopTimer()
				k.close()
				runtime.GC()
				b.StartTimer()
			}
		})
	}
}

// BenchmarkPushDuringSnapshot measures the slowest pushes of 16 pushers, without and with a snapshot of 1M series being
// written.
func BenchmarkPushDuringSnapshot(b *testing.B) {
	for _, floor := range []int64{1 << 40, 1} {
		name := map[bool]string{true: "with", false: "without"}[floor == 1]
		b.Run(name, func(b *testing.B) {
			cfg := realConfig(b.TempDir())
			k := open(b, cfg)
			fillWith(b, k.Store(), 10_000)
			k.close()
			cfg.SnapshotFloorBytes = floor
			k = open(b, cfg)
			b.ResetTimer()
			var tooks []time.Duration
			for range b.N {
				tooks = append(tooks, pushWhileRunning(b, k)...)
			}
			slices.Sort(tooks)
			b.ReportMetric(float64(tooks[len(tooks)*99/100].Microseconds())/1000, "p99-ms")
			b.ReportMetric(float64(tooks[len(tooks)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(tooks[len(tooks)-1].Microseconds())/1000, "max-ms")
			k.close()
		})
	}
}

// pushWhileRunning pushes from 16 pushers for the time in which Run makes its snapshots, and returns how long each took.
func pushWhileRunning(b *testing.B, k *keeper) []time.Duration {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 3*time.Second)
	defer cancel()
	var running sync.WaitGroup
	running.Go(func() { k.Run(ctx) })
	took := make([][]time.Duration, 16)
	for i := range took {
		running.Go(func() {
			var p exposition.Parser
			text := page(i)
			for ctx.Err() == nil {
				start := time.Now()
				pushPage(b, k.Store(), &p, fmt.Sprint("pusher", i), text)
				took[i] = append(took[i], time.Since(start))
			}
		})
	}
	running.Wait()
	return slices.Concat(took...)
}
