package replicated_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pushrelay/internal/change"
	"pushrelay/internal/cluster/enginetest"
	"pushrelay/internal/exposition"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/keep"
	"pushrelay/internal/keep/replicated"
)

// page is a push of so many series.
func page(series, value int) []byte {
	var b strings.Builder
	for i := range series {
		fmt.Fprintf(&b, "# TYPE bench_gauge_%d gauge\nbench_gauge_%d{zone=\"a\",kind=\"x\"} %d.5\n", i, i, value+i)
	}
	return []byte(b.String())
}

func pushPage(tb testing.TB, s *groupstore.Store, p *exposition.Parser, job string, text []byte) (position uint64) {
	tb.Helper()
	body, err := p.ParseText(text, exposition.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	o, _ := s.Apply(context.Background(), &change.Change{Operation: change.Replace, Key: keyOf(tb, job), At: time.Now()}, groupstore.Content{Body: body})
	if o.Kind != change.Applied {
		tb.Fatal(o)
	}
	return o.Decided.Position
}

// pushers push at once.
const pushers = 16

// pushAll pushes n times 50 series by all pushers, and reports how many that are in a second, and how long half of them take at most.
func pushAll(b *testing.B, s *groupstore.Store) {
	b.Helper()
	b.ResetTimer()
	tooks := pushEach(b, s, b.N)
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pushes/s")
	report(b, tooks)
}

// pushEach pushes n times, and returns how long each push took.
func pushEach(b *testing.B, s *groupstore.Store, n int) (tooks []time.Duration) {
	b.Helper()
	var running sync.WaitGroup
	each := make([][]time.Duration, pushers)
	for i := range pushers {
		running.Go(func() {
			var p exposition.Parser
			for k := i; k < n; k += pushers {
				began := time.Now()
				pushPage(b, s, &p, fmt.Sprint("pusher", i), page(50, k))
				each[i] = append(each[i], time.Since(began))
			}
		})
	}
	running.Wait()
	return slices.Concat(each...)
}

func report(b *testing.B, tooks []time.Duration) {
	b.Helper()
	slices.Sort(tooks)
	b.ReportMetric(float64(tooks[len(tooks)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(tooks[len(tooks)*99/100].Microseconds())/1000, "p99-ms")
}

// cluster starts three copies, each of a member of its own.
func cluster(b *testing.B) (leader *member, others []*member) {
	b.Helper()
	engines := enginetest.New(b, 3).Start(b, enginetest.Names(3)...)
	var all []*member
	for _, name := range enginetest.Names(3) {
		all = append(all, startQuietly(b, name, replicated.Config{Client: engines[name].Client(), HasQuorum: engines[name].HasLeader}))
	}
	leader = leaderOf(b, all...)
	return leader, slices.DeleteFunc(all, func(m *member) bool { return m == leader })
}

func startQuietly(tb testing.TB, name string, cfg replicated.Config) *member {
	tb.Helper()
	cfg.Logger = slog.New(slog.DiscardHandler)
	return start(tb, name, cfg)
}

// BenchmarkPush pushes 50 series to a store that is kept on a disk, and to one that three relays keep, all on this machine and its one disk.
func BenchmarkPush(b *testing.B) {
	b.Run("disk", func(b *testing.B) {
		k := keep.NewDisk(keep.Config{Dir: b.TempDir(), Logger: slog.New(slog.DiscardHandler)})
		if err := k.Recover(b.Context()); err != nil {
			b.Fatal(err)
		}
		pushAll(b, k.Store())
		k.Close()
	})
	b.Run("cluster", func(b *testing.B) {
		leader, _ := cluster(b)
		pushAll(b, leader.Store())
	})
}

// BenchmarkLag pushes 50 series half as often as can be, and measures how long after each push was answered another relay shows it.
func BenchmarkLag(b *testing.B) {
	leader, others := cluster(b)
	const tried = 4000
	began := time.Now()
	pushEach(b, leader.Store(), tried)
	most := tried / time.Since(began).Seconds()
	lags := make([][]time.Duration, pushers)
	var running sync.WaitGroup
	b.ResetTimer()
	for i := range pushers {
		running.Go(func() {
			var p exposition.Parser
			tick := time.NewTicker(time.Duration(pushers * 2 / most * float64(time.Second)))
			defer tick.Stop()
			for n := i; n < b.N; n += pushers {
				<-tick.C
				position := pushPage(b, leader.Store(), &p, fmt.Sprint("pusher", i), page(50, n))
				answered := time.Now()
				if err := others[i%2].WaitFor(b.Context(), position); err != nil {
					b.Error(err)
				}
				lags[i] = append(lags[i], time.Since(answered))
			}
		})
	}
	running.Wait()
	b.StopTimer()
	b.ReportMetric(most, "most/s")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pushes/s")
	report(b, slices.Concat(lags...))
}

// BenchmarkCatchUp has one relay after another catch up, as a scrape does.
func BenchmarkCatchUp(b *testing.B) {
	leader, others := cluster(b)
	for name, m := range map[string]*member{"leader": leader, "follower": others[0]} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := m.CatchUp(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkLoad reads 10,000 groups of 100 series, as a relay does that joins.
func BenchmarkLoad(b *testing.B) {
	client := enginetest.New(b, 1).Start(b, "a")["a"].Client()
	m := startQuietly(b, "a", replicated.Config{Client: client})
	leaderOf(b, m)
	var running sync.WaitGroup
	for i := range 64 {
		running.Go(func() {
			var p exposition.Parser
			for n := i; n < 10_000; n += 64 {
				pushPage(b, m.Store(), &p, fmt.Sprint("g", n), page(100, n))
			}
		})
	}
	running.Wait()
	for b.Loop() {
		k := replicated.New(replicated.Config{Client: client, Name: "b", Prefix: "/test/", Logger: slog.New(slog.DiscardHandler)})
		if err := k.Recover(b.Context()); err != nil {
			b.Fatal(err)
		}
		if got := k.Store().Stats().Series; got != 1_000_000 {
			b.Fatalf("%d series", got)
		}
	}
}
