package keep_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/lifetime"
)

// lastDigit matches the groups whose job ends with the digit.
type lastDigit string

func (d lastDigit) String() string { return string(d) }

func (d lastDigit) Matches(key grouping.Key) bool {
	job, _ := key.Get("job")
	return strings.HasSuffix(job, string(d))
}

// BenchmarkPushWhileExpiring measures pushes to a durable store of 1M series in 10,000 groups while a tenth of them expire within a minute of its clock,
// are hidden from scrapes, and are removed: all at once, which is harder than over a minute. What counts is the 99th percentile of the time of a push,
// beside that of the same pushes while nothing expires.
func BenchmarkPushWhileExpiring(b *testing.B) {
	if testing.Short() {
		b.Skip("makes 1M series")
	}
	var now atomic.Int64
	now.Store(noon.UnixNano())
	cfg := realConfig(b.TempDir())
	cfg.Store.Now = func() time.Time { return time.Unix(0, now.Load()) }
	k := open(b, cfg)
	defer k.close()
	s := k.Store()
	fillWith(b, s, 10_000)
	ttl := lifetime.Regime{Rules: []lifetime.Rule{{Match: lastDigit("7"), Declaration: lifetime.Declaration{TTL: lifetime.Period(time.Minute)}}}}
	for b.Loop() {
		s.SetRegime(lifetime.Regime{})
		calm := pushFor(b, s, 3*time.Second, func() {})
		removed := 0
		stressed := pushFor(b, s, 3*time.Second, func() {
			s.SetRegime(ttl)
			now.Add(int64(time.Hour))
			s.Snapshot()
			removed = removeExpired(b, s)
		})
		if removed != 1000 {
			b.Fatalf("%d groups were removed", removed)
		}
		b.ReportMetric(calm, "ms-p99-calm")
		b.ReportMetric(stressed, "ms-p99-expiring")
		now.Add(-int64(time.Hour))
		fillWith(b, s, 10_000)
	}
}

// pushFor lets 8 pushers push for a while, and something else happen meanwhile. It returns the 99th percentile of what a push took, in milliseconds.
func pushFor(b *testing.B, s *groupstore.Store, whole time.Duration, meanwhile func()) float64 {
	b.Helper()
	var pushers sync.WaitGroup
	var mu sync.Mutex
	var took []time.Duration
	end := time.Now().Add(whole)
	for w := range 8 {
		pushers.Go(func() {
			var p exposition.Parser
			var mine []time.Duration
			for i := 0; time.Now().Before(end); i++ {
				start := time.Now()
				pushPage(b, s, &p, "pusher"+string(rune('a'+w)), page(i))
				mine = append(mine, time.Since(start))
				time.Sleep(5 * time.Millisecond)
			}
			mu.Lock()
			took = append(took, mine...)
			mu.Unlock()
		})
	}
	meanwhile()
	pushers.Wait()
	slices.Sort(took)
	return float64(took[len(took)*99/100].Microseconds()) / 1000
}

// removeExpired removes what has expired, as package lifecycle does.
func removeExpired(b *testing.B, s *groupstore.Store) int {
	b.Helper()
	var removed atomic.Int64
	for expired := s.Expired(256); len(expired) > 0; expired = s.Expired(256) {
		var work sync.WaitGroup
		for i := range expired {
			work.Go(func() {
				c := &change.Change{Operation: change.Expire, Key: expired[i].Key, At: noon, Version: expired[i].Version}
				if o := s.ApplyBodiless(b.Context(), c); !o.IsTaken() {
					b.Error(fmt.Sprint(o))
				}
				removed.Add(1)
			})
		}
		work.Wait()
	}
	return int(removed.Load())
}
