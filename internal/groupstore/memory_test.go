package groupstore_test

import (
	"fmt"
	"io"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/groupstore"
)

// empty is what the tables of a store without groups look like.
func empty(t *testing.T, s *tester) {
	t.Helper()
	for table, size := range s.store.Tables() {
		if size != 0 {
			t.Errorf("%s = %d in an empty store", table, size)
		}
	}
}

func TestTablesEmptyAfterWipe(t *testing.T) {
	s := newTester(t, groupstore.Config{Check: groupstore.CheckQuarantine})
	fill := func() {
		for i := range 50 {
			s.put(key(t, "job", "a", "instance", strconv.Itoa(i)), mixture)
			s.put(key(t, "job", "b", fmt.Sprintf("k%d", i), ""), fmt.Sprintf("# TYPE c gauge\nc{i=\"%d\"} 1\n", i))
		}
	}
	fill()
	if s.store.Stats().Quarantined == 0 {
		t.Fatal("nothing is in quarantine")
	}
	if err := wipe(t.Context(), s.store); err != nil {
		t.Fatal(err)
	}
	empty(t, s)
	if got := s.full(); got != "" {
		t.Errorf("exposition after a wipe: %q", got)
	}
	fill()
	var keys []string
	for g := range s.store.Snapshot().Groups() {
		keys = append(keys, g.Key().String())
		s.delete(g.Key())
	}
	if len(keys) != 100 {
		t.Errorf("%d groups, want 100: twins are hidden, and there all the same", len(keys))
	}
	empty(t, s)
}

// TestReplacedSeriesAreDropped pushes ever new label values: nothing of the old ones may stay (S5).
func TestReplacedSeriesAreDropped(t *testing.T) {
	s := newTester(t, groupstore.Config{})
	pushes := 20_000
	if testing.Short() {
		pushes = 5_000
	}
	var before, after runtime.MemStats
	for i := range pushes {
		if i == pushes/2 {
			runtime.GC()
			runtime.ReadMemStats(&before)
		}
		k := key(t, "job", "a", "instance", strconv.Itoa(i%10))
		if i%3 == 0 {
			s.delete(k)
		}
		if _, err := s.push(post, k, fmt.Sprintf("m{run=\"%d\"} 1\nn%d 2\n", i, i%20)); err != nil {
			t.Fatal(err)
		}
		if i%100 == 0 {
			s.full()
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if stats := s.store.Stats(); stats.Skeletons > 10+20*10 || stats.Families > 21 {
		t.Errorf("Stats() = %+v", stats)
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 1<<20 {
		t.Errorf("the heap grew by %d bytes over %d pushes", grown, pushes/2)
	}
	runtime.KeepAlive(s)
}

// TestMergedValuesAreNotPinned merges family by family into a group that came in one push.
func TestMergedValuesAreNotPinned(t *testing.T) {
	s := newTester(t, groupstore.Config{})
	k := key(t, "job", "a")
	var text strings.Builder
	for i := range 200 {
		for j := range 20 {
			fmt.Fprintf(&text, "m%d{j=\"%d\"} 123456789\n", i, j)
		}
	}
	s.put(k, text.String())
	want := s.text()
	for i := range 199 {
		var one strings.Builder
		for j := range 20 {
			fmt.Fprintf(&one, "m%d{j=\"%d\"} 123456789\n", i, j)
		}
		if _, err := s.push(post, k, one.String()); err != nil {
			t.Fatal(err)
		}
		if used, pinned := s.store.ValueBytes(); pinned > 2*used+1024 {
			t.Fatalf("after %d merges %d bytes of values pin %d", i+1, used, pinned)
		}
	}
	if diff := cmp.Diff(want, s.text()); diff != "" {
		t.Errorf("merging the same values changed the exposition:\n%s", diff)
	}
}

// heapOf returns the heap that remains of what f makes.
func heapOf(f func() any) (bytes int64) {
	before := heapInUse()
	kept := f()
	after := heapInUse()
	runtime.KeepAlive(kept)
	return after - before
}

// heapInUse returns what is alive. What stands in a sync.Pool, also of earlier tests, survives one collection.
func heapInUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestMarksAreSmall measures what a group's mark takes, and what is left of a deleted group.
func TestMarksAreSmall(t *testing.T) {
	const groups = 10_000
	fill := func(source string, deleted bool) func() any {
		return func() any {
			s := newTester(t, groupstore.Config{})
			for i := range groups {
				p := pushing{Operation: put, Key: key(t, "job", "a", "instance", strconv.Itoa(i)), At: noon}
				if deleted {
					p.Operation = change.Delete
				}
				if source == "" {
					s.put(p.Key, "")
				} else {
					s.send(p, source, uint64(i)+1)
				}
			}
			return s
		}
	}
	bare := heapOf(fill("", false))
	marked := heapOf(fill("site\x000123456789abcdef", false))
	traces := heapOf(fill("site\x000123456789abcdef", true))
	perMark, perTrace := (marked-bare)/groups, traces/groups
	t.Logf("a group takes %d bytes, its mark %d, a trace %d", bare/groups, perMark, perTrace)
	if perMark > 150 || perTrace > 100 {
		t.Errorf("a mark takes %d bytes and a trace %d", perMark, perTrace)
	}
}

// TestOnlySharedSeriesStayPrepared adds groups to a set of series and takes them away again: its pieces of output are kept
// while there are several.
func TestOnlySharedSeriesStayPrepared(t *testing.T) {
	s := newTester(t, groupstore.Config{})
	scrape := func(want int) string {
		t.Helper()
		for _, f := range []groupstore.Form{{Format: exposition.ProtobufDelimited}, {Format: exposition.OpenMetrics100}} {
			if err := s.store.Snapshot().Write(io.Discard, f, nil); err != nil {
				t.Fatal(err)
			}
		}
		text := s.text()
		if got := s.store.Prepared(); got != want {
			t.Errorf("%d parts have prepared series, want %d", got, want)
		}
		return text
	}
	a, b := key(t, "job", "a"), key(t, "job", "b")
	s.put(a, mixture)
	families := s.store.Stats().Families
	alone := scrape(0)
	s.put(b, mixture)
	both := scrape(2 * families)
	if rest := strings.ReplaceAll(both, `job="b"`, `job="a"`); strings.Count(rest, `job="a"`) != 2*strings.Count(alone, `job="a"`) {
		t.Errorf("two groups with the same series:\n%s\none of them:\n%s", both, alone)
	}
	s.delete(b)
	if diff := cmp.Diff(alone, scrape(0)); diff != "" {
		t.Errorf("a group came and went, and the exposition changed:\n%s", diff)
	}
}

// TestMemoryOfOwnSeries fills a store with groups that have nothing in common, or only names, and scrapes it.
func TestMemoryOfOwnSeries(t *testing.T) {
	const groups, lines = 60, 100
	numbers := regexp.MustCompile(`_\d+`) // each metric name has one
	for _, tt := range []struct {
		name     string
		ownNames bool
		limit    int64 // bytes for each series
	}{{"label values", false, 200}, {"metric names, too", true, 300}} {
		t.Run(tt.name, func(t *testing.T) {
			bytes := heapOf(func() any {
				s := newTester(t, groupstore.Config{})
				for i := range groups {
					text := benchText(lines, i, true)
					if tt.ownNames {
						text = numbers.ReplaceAllString(text, fmt.Sprintf("${0}_%d", i))
					}
					s.put(key(t, "job", "batch", "instance", fmt.Sprintf("host-%06d.example.com:9091", i)), text)
				}
				for _, f := range []exposition.Format{exposition.Text004, exposition.ProtobufDelimited} {
					if err := s.store.Snapshot().Write(io.Discard, groupstore.Form{Format: f}, nil); err != nil {
						t.Fatal(err)
					}
				}
				return s
			})
			got := bytes / (groups * lines)
			t.Logf("%d bytes for each series", got)
			if got > tt.limit {
				t.Errorf("%d bytes for each series that no other group has, want at most %d", got, tt.limit)
			}
		})
	}
}
