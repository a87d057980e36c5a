package replicated_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	"pushrelay/internal/change"
	"pushrelay/internal/cluster/enginetest"
	storagev1 "pushrelay/internal/gen/storage/v1"
	"pushrelay/internal/grouping"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/keep/replicated"
)

// A pusher pushes rising values to a group of its own, and remembers what became of them.
type pusher struct {
	job      string
	last     int          // that was sent
	acked    atomic.Int64 // the last that was answered well
	possible map[int]bool // by value: it may have been taken
}

func (p *pusher) run(ctx context.Context, t *testing.T, members []*member) {
	for ctx.Err() == nil {
		for _, m := range members {
			if !m.Leads() {
				continue
			}
			p.last++
			asked, cancel := context.WithTimeout(ctx, time.Second)
			o := push(asked, t, m, p.job, p.last)
			cancel()
			switch {
			case o.Kind == change.Applied:
				p.possible[p.last] = true
				p.acked.Store(int64(p.last))
			case o.Decided.Position != 0:
				p.possible[p.last] = true
			}
		}
		time.Sleep(time.Millisecond)
	}
}

// valueOf returns what a member shows of a group; 0 for none.
func valueOf(m *member, key grouping.Key) int {
	g, found := m.Store().Group(key)
	if !found {
		return 0
	}
	for f := range g.Families() {
		if f.Name() == "done" {
			for metric := range f.Metrics() {
				return int(metric.GetGauge().GetValue())
			}
		}
	}
	return 0
}

// look wants of all that a member shows that nothing of it ever goes back (C8).
func look(ctx context.Context, t *testing.T, m *member, pushers []*pusher) {
	seen := map[string]int{}
	for ctx.Err() == nil {
		for _, p := range pushers {
			got := valueOf(m, keyOf(t, p.job))
			if got < seen[p.job] {
				t.Errorf("member %s shows %d of %s, and showed %d before", m.name, got, p.job, seen[p.job])
				return
			}
			seen[p.job] = got
		}
		time.Sleep(time.Millisecond)
	}
}

// A balancer sends a scrape to one member after another.
type balancer struct {
	values map[string]int
	clock  time.Time
}

// lookAround wants that nothing of what members show ever goes back, nor the clock, whichever is asked, if it catches up before (C9).
func (b *balancer) lookAround(ctx context.Context, t *testing.T, members []*member, pushers []*pusher) (looks int) {
	for ctx.Err() == nil {
		m := members[rand.IntN(len(members))]
		if m.CatchUp(ctx) != nil {
			continue
		}
		at := m.Clock()
		if at.Before(b.clock) {
			t.Errorf("member %s shows the time %v, and %v was shown before", m.name, at, b.clock)
			return looks
		}
		b.clock = at
		for _, p := range pushers {
			got := valueOf(m, keyOf(t, p.job))
			if got < b.values[p.job] {
				t.Errorf("member %s shows %d of %s, and %d was shown before", m.name, got, p.job, b.values[p.job])
				return looks
			}
			b.values[p.job] = got
		}
		looks++
	}
	return looks
}

// skewed returns a clock that is wrong by so much.
func skewed(by time.Duration) func() time.Time { return func() time.Time { return time.Now().Add(by) } }

// TestFaults: while ways to etcd fail and are cut, leaders come and go. What was acknowledged is there in the end, on all; what was refused is not; and nothing that
// was seen vanishes.
func TestFaults(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			u := rand.New(rand.NewPCG(seed, 20))
			engines := enginetest.New(t, 1).Start(t, "a")
			var members []*member
			var ways []*enginetest.FaultyKV
			for i, name := range enginetest.Names(3) {
				client, way := enginetest.OverFaulty(engines["a"])
				way.Fail(rand.New(rand.NewPCG(u.Uint64(), 1)), 12)
				ways = append(ways, way)
				members = append(members, start(t, name, replicated.Config{
					Client: client, Silence: 300 * time.Millisecond, Store: groupstore.Config{Now: skewed(time.Duration(i-1) * 2 * time.Hour)},
				}))
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var pushers []*pusher
			var running, looking sync.WaitGroup
			for i := range 5 {
				p := &pusher{job: fmt.Sprint("j", i), possible: map[int]bool{}}
				pushers = append(pushers, p)
				running.Go(func() { p.run(ctx, t, members) })
			}
			watching, stopLooking := context.WithCancel(t.Context())
			defer stopLooking()
			for _, m := range members {
				looking.Go(func() { look(watching, t, m, pushers) })
			}
			looks := 0
			looking.Go(func() { looks = (&balancer{values: map[string]int{}}).lookAround(watching, t, members, pushers) })
			leaders := map[int64]bool{}
			for round := 0; round < 8 || round < 40 && acknowledged(pushers) < 100; round++ { // a busy machine takes longer to show anything
				leader := leaderOf(t, members...)
				leaders[leader.Leader().Term] = true
				time.Sleep(time.Duration(50+u.IntN(200)) * time.Millisecond)
				for i, m := range members {
					if m == leader {
						resume := ways[i].Cut()
						time.Sleep(time.Duration(300+u.IntN(500)) * time.Millisecond)
						resume()
					}
				}
			}
			cancel()
			running.Wait()
			leader := wantEqual(t, members...)
			stopLooking()
			looking.Wait()
			for _, p := range pushers {
				got := valueOf(leader, keyOf(t, p.job))
				if int64(got) < p.acked.Load() {
					t.Errorf("%s is %d in the end, and %d was acknowledged", p.job, got, p.acked.Load())
				}
				if got != 0 && !p.possible[got] {
					t.Errorf("%s is %d in the end, which was refused", p.job, got)
				}
			}
			total := acknowledged(pushers)
			if len(leaders) < 3 || total < 100 || looks < 100 {
				t.Errorf("%d leaders, %d acknowledged pushes and %d looks around are too few to show anything", len(leaders), total, looks)
			}
			t.Logf("%d leaders, %d acknowledged pushes, %d looks around", len(leaders), total, looks)
		})
	}
}

func acknowledged(pushers []*pusher) (total int64) {
	for _, p := range pushers {
		total += p.acked.Load()
	}
	return total
}

// leavesMore says whether another transaction of the same outcome follows.
func leavesMore(then []clientv3.Op) (more bool) {
	for _, op := range then {
		pos := &storagev1.ClusterPosition{}
		if strings.HasSuffix(string(op.KeyBytes()), "/position") && proto.Unmarshal(op.ValueBytes(), pos) == nil {
			more = pos.GetMore()
		}
	}
	return more
}

// TestUnfinishedOutcome: a leader that is cut off between two transactions of one outcome leaves records in etcd that nobody ever shows, and the next one
// writes them again as they were (C4).
func TestUnfinishedOutcome(t *testing.T) {
	engines := enginetest.New(t, 1).Start(t, "a")
	ways := map[string]*enginetest.FaultyKV{}
	var members []*member
	for _, name := range enginetest.Names(2) {
		client, way := enginetest.OverFaulty(engines["a"])
		ways[name] = way
		members = append(members, start(t, name, replicated.Config{Client: client, Silence: 500 * time.Millisecond}))
	}
	first := leaderOf(t, members...)
	if o := pushLarge(t.Context(), t, first, "large", 1); o.Kind != change.Applied {
		t.Fatalf("the first push: %v", o)
	}
	resume := ways[first.name].CutAfter(leavesMore)
	asked, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if o := pushLarge(asked, t, first, "large", 2); o.Kind == change.Applied {
		t.Fatal("a push was acknowledged of which only a part is in etcd")
	}
	var next *member
	for _, m := range members {
		if m != first {
			next = m
		}
	}
	enginetest.Eventually(t, "the other one leads", next.Leads)
	late := start(t, "late", replicated.Config{Client: engines["a"].Client(), Silence: time.Hour})
	for _, m := range append(members, late) {
		if got := valueOf(m, keyOf(t, "large")); got != 1 {
			t.Errorf("member %s shows %d, want what is whole: 1", m.name, got)
		}
	}
	resume()
	if o := push(t.Context(), t, next, "small", 1); o.Kind != change.Applied {
		t.Errorf("a push to the next leader: %v", o)
	}
	anew := start(t, "anew", replicated.Config{Client: engines["a"].Client(), Silence: time.Hour})
	wantEqual(t, append(members, late, anew)...)
	if got := valueOf(anew, keyOf(t, "large")); got != 1 {
		t.Errorf("in etcd the group is %d, want 1", got)
	}
}

// pushLarge pushes what takes more than one transaction.
func pushLarge(ctx context.Context, t testing.TB, m *member, job string, value int) change.Outcome {
	t.Helper()
	u := rand.New(rand.NewPCG(uint64(value), 5))
	body := fmt.Appendf(nil, "# TYPE done gauge\ndone %d\n", value)
	for i := range 60_000 {
		body = fmt.Appendf(body, "noise{n=\"%d\"} %d\n", i, u.Uint64())
	}
	return pushBody(ctx, t, m, job, body)
}
