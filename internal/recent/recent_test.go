package recent_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/change"
	"pushrelay/internal/grouping"
	"pushrelay/internal/recent"
)

func key(t testing.TB, job string) grouping.Key {
	t.Helper()
	k, err := grouping.New(grouping.Label{Name: "job", Value: job})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestScrapes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := recent.New()
		r.Scraped("a", 100, "")
		r.Scraped("a", 20, "x")
		r.Scraped("b", -1, "")
		time.Sleep(2 * time.Minute)
		r.Scraped("a", 7, "")
		var want recent.Hour
		want[recent.Minutes-3] = recent.Minute{Scrapes: 2, FailedScrapes: 1, Bytes: 120}
		want[recent.Minutes-1] = recent.Minute{Scrapes: 1, Bytes: 7}
		if diff := cmp.Diff(want, r.Agent("a")); diff != "" {
			t.Errorf("an agent (-want +got):\n%s", diff)
		}
		want[recent.Minutes-3].Scrapes++
		if all, _ := r.All(); all != want {
			t.Errorf("all agents: %s", cmp.Diff(want, all))
		}
		if r.Agent("nobody") != (recent.Hour{}) {
			t.Error("an agent that is not known has a past")
		}
		time.Sleep(58 * time.Minute)
		if got := r.Agent("a")[1]; got.Scrapes != 1 || r.Agent("a")[0] != (recent.Minute{}) {
			t.Errorf("after an hour the point of 58 minutes ago is %+v", got)
		}
		time.Sleep(30 * 24 * time.Hour)
		if r.Agent("a") != (recent.Hour{}) {
			t.Error("what was a month ago is shown as of the last hour")
		}
	})
}

func TestPushes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := recent.New()
		var want []recent.Push
		for i := range 7 {
			p := recent.Push{At: time.Now(), Operation: change.Replace, Kind: change.Applied, Bytes: i, Took: time.Millisecond}
			if i%3 == 0 {
				p.Kind, p.Detail = change.Invalid, fmt.Sprint("reason ", i)
			}
			r.Pushed(key(t, "a"), p)
			want = append([]recent.Push{p}, want...)
			time.Sleep(time.Minute)
		}
		r.Pushed(grouping.Key{}, recent.Push{At: time.Now(), Kind: change.Full})
		if diff := cmp.Diff(want[:recent.PushesPerGroup], r.Pushes(key(t, "a")), cmp.Comparer(time.Time.Equal)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if r.Pushes(key(t, "b")) != nil {
			t.Error("a group that nobody pushed to has pushes")
		}
		if _, pushes := r.All(); pushes.Refused() != 4 {
			t.Errorf("%d pushes were refused, want 4", pushes.Refused())
		}
	})
}

// TestRefusals: the last of them are remembered, whatever groups they were to, within bounds.
func TestRefusals(t *testing.T) {
	r := recent.New()
	for i := range 150 {
		r.Pushed(key(t, fmt.Sprint("job", i)), recent.Push{At: time.Now(), Kind: change.Invalid, Detail: fmt.Sprint("reason ", i)})
		r.Pushed(key(t, "good"), recent.Push{At: time.Now(), Kind: change.Applied})
	}
	r.Pushed(grouping.Key{}, recent.Push{At: time.Now(), Kind: change.Invalid, Detail: strings.Repeat("long", 1000)})
	last := r.Refusals()
	if len(last) != 100 || !last[0].Key.IsZero() || len(last[0].Detail) > 400 || last[1].Key != key(t, "job149") || last[99].Detail != "reason 51" {
		t.Errorf("%d refusals are remembered: %+v", len(last), last)
	}
	for i := range 150 {
		r.Pushed(key(t, strings.Repeat("x", 10_000)+fmt.Sprint(i)), recent.Push{At: time.Now(), Kind: change.Full})
	}
	if last := r.Refusals(); len(last) < 20 || len(last) > 26 || !strings.HasSuffix(last[0].Key.Job(), "149") {
		t.Errorf("of long keys %d are remembered", len(last))
	}
	r.Pushed(key(t, strings.Repeat("x", 1<<20)), recent.Push{At: time.Now(), Kind: change.Full})
	if last := r.Refusals(); len(last) != 0 {
		t.Errorf("with one key of a megabyte %d are remembered", len(last))
	}
}

// TestClockSetBack: what happens then is of the newest minute that was.
func TestClockSetBack(t *testing.T) {
	r := recent.New()
	now := time.Now()
	r.Pushed(key(t, "a"), recent.Push{At: now, Kind: change.Applied})
	r.Pushed(key(t, "a"), recent.Push{At: now.Add(-24 * time.Hour), Kind: change.Full})
	r.Pushed(key(t, "a"), recent.Push{At: time.Unix(-1e6, 0), Kind: change.Full})
	if _, pushes := r.All(); pushes.Refused() != 2 {
		t.Errorf("%d pushes were refused, want 2", pushes.Refused())
	}
}

// TestBound: of whom nothing was heard for the longest time is forgotten, and the account is what the memory takes.
func TestBound(t *testing.T) {
	const most = 1 << 20
	r := recent.NewOf(most)
	long := strings.Repeat("ä", 10_000)
	for i := range 5000 {
		r.Pushed(key(t, fmt.Sprint("job", i)), recent.Push{At: time.Now(), Kind: change.Invalid, Detail: long})
		r.Scraped(fmt.Sprint("agent", i), 1, "")
		r.Pushed(key(t, "kept"), recent.Push{At: time.Now(), Kind: change.Applied})
		if r.Bytes() > most {
			t.Fatalf("after %d it has %d bytes, want at most %d", i, r.Bytes(), most)
		}
	}
	if len(r.Pushes(key(t, "kept"))) != recent.PushesPerGroup || r.Pushes(key(t, "job0")) != nil || r.Agent("agent0") != (recent.Hour{}) {
		t.Error("not the oldest was forgotten")
	}
	last := r.Pushes(key(t, "job4999"))
	if len(last) != 1 || len(last[0].Detail) > 400 || !utf8.ValidString(last[0].Detail) {
		t.Errorf("the last push is %+v", last)
	}
	if r.Agent("agent4999")[recent.Minutes-1].Scrapes+r.Agent("agent4999")[recent.Minutes-2].Scrapes != 1 {
		t.Error("the last agent has no past")
	}
}

// TestAccount: what it says that it takes is about what it does take.
func TestAccount(t *testing.T) {
	r := recent.NewOf(recent.MaxBytes)
	heap := func() int {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	before := heap()
	for i := range 10_000 {
		r.Scraped(fmt.Sprint("agent-of-some-site-", i), 1, "")
		for range recent.PushesPerGroup {
			r.Pushed(key(t, fmt.Sprint("some-job-of-a-common-length-", i)), recent.Push{At: time.Now(), Kind: change.Applied})
		}
	}
	took, told := heap()-before, r.Bytes()
	t.Logf("10,000 agents and 10,000 groups take %d bytes, and %d by the account", took, told)
	if took > told*5/4 || told > recent.MaxBytes {
		t.Errorf("it takes %d bytes, and says %d", took, told)
	}
	runtime.KeepAlive(r)
}

func BenchmarkPushed(b *testing.B) {
	r := recent.New()
	keys := make([]grouping.Key, 10_000)
	for i := range keys {
		keys[i] = key(b, fmt.Sprint("job-", i))
	}
	p := recent.Push{At: time.Now(), Kind: change.Applied}
	i := 0
	for b.Loop() {
		r.Pushed(keys[i%len(keys)], p)
		i++
	}
}
