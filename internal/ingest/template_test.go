package ingest_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/ingest"
)

// A countingStore counts the pushes that were not parsed.
type countingStore struct {
	*groupstore.Store
	matched int
}

func (s *countingStore) Apply(ctx context.Context, c *change.Change, content groupstore.Content) (change.Outcome, groupstore.Finding) {
	o, found := s.Store.Apply(ctx, c, content)
	if content.Sets != nil && found != groupstore.Unmet {
		s.matched++
	}
	return o, found
}

func newCounting(tb testing.TB) (*bench, *countingStore) {
	tb.Helper()
	store := &countingStore{Store: groupstore.New(groupstore.Config{})}
	b := newBench(tb, ingest.Config{Store: store}, groupstore.Config{})
	b.store = store.Store
	return b, store
}

const job = `# HELP h A "histogram".
# TYPE h histogram
h_bucket{le="0.1",path="/b"} %s
h_bucket{le="+Inf",path="/b"} %s
h_sum{path="/b"} %s
h_count{path="/b"} %s
h_bucket{le="0.1",path="/a"} %s
# TYPE s summary
s{quantile="0.5"} %s
s_count %s

  # A comment.
z %s
a{x="} 1 \" ",y="1"}%s
{"b"} %s
push_time_seconds %s
# TYPE c counter
  c	%s
`

// values are numbers as people and libraries write them, plain ones first.
var values = []string{
	"0", "1", "7", "42", "999999", "1000000", "123456789", "123456789012345678", "0.5", "1.50", "-1", "-0", "007", "1e3", "1E3", "1.5e-7", "1e+09",
	"NaN", "nan", "+Inf", "-Inf", "Inf", "inf", "+1", ".5", "5.", "1e999", "0x10", "1_000", "", "x", "5 1000", "3.7", "-3",
}

func body(pick func() string) string {
	args := make([]any, strings.Count(job, "%s"))
	for i := range args {
		args[i] = pick()
	}
	return fmt.Sprintf(job, args...)
}

// TestTemplate pushes the same body with other values, to an ingester that knows it and to one that does not: both answer
// alike and store the same.
func TestTemplate(t *testing.T) {
	known, store := newCounting(t)
	rounds := 3000
	if testing.Short() {
		rounds = 500
	}
	keys := []grouping.Key{key(t, "job", "a"), key(t, "job", "b"), key(t, "job", "c", "path", "/c"), key(t, "job", "d", "y", "2")}
	plain := groupstore.New(groupstore.Config{})
	random := rand.New(rand.NewPCG(5, 5))
	accepted := 0
	for round := range rounds {
		r := &change.Change{Operation: change.Operation(1 + random.IntN(2)), Key: keys[random.IntN(len(keys))], At: noon}
		among := []int{4, 4, 4, len(values)}[random.IntN(4)]
		odd := random.IntN(12)
		r.Body = []byte(body(func() string {
			if odd--; odd == 0 {
				return values[random.IntN(len(values))]
			}
			return values[random.IntN(min(among, 5))]
		}))
		if random.IntN(50) == 0 {
			r.Body = []byte("other 1\n")
		}
		unknown := newBench(t, ingest.Config{Store: plain}, groupstore.Config{})
		unknown.store = plain
		want := unknown.ingester.Apply(t.Context(), r).Err()
		got := known.ingester.Apply(t.Context(), r).Err()
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("round %d: Push(%s, %s) = %v with templates, %v without", round, r.Operation, r.Body, got, want)
		}
		if diff := cmp.Diff(unknown.exposition(), known.exposition()); diff != "" {
			t.Fatalf("round %d: exposition after Push(%s, %s) (-without +with templates):\n%s", round, r.Operation, r.Body, diff)
		}
		if got == nil {
			accepted++
		}
	}
	t.Logf("%d of %d pushes accepted, %d by template", accepted, rounds, store.matched)
	if accepted < rounds/2 || store.matched < accepted/2 {
		t.Errorf("templates were hardly tried")
	}
}

// FuzzTemplate compares as TestTemplate does, with one body known and another tried.
func FuzzTemplate(f *testing.F) {
	f.Add("m{a=\"b\"} 1\n", "m{a=\"b\"} 2\n")
	f.Add(body(func() string { return "1" }), body(func() string { return "2.50" }))
	f.Add("# TYPE s summary\ns_count 1\n", "# TYPE s summary\ns_count 1.5\n")
	f.Fuzz(func(t *testing.T, first, second string) {
		known, plain := newBench(t, ingest.Config{}, groupstore.Config{}), newBench(t, ingest.Config{}, groupstore.Config{})
		k := key(t, "job", "j")
		for range 4 {
			if _, err := known.put(k, first); err != nil {
				t.Skip(err)
			}
		}
		if _, err := plain.put(k, first); err != nil {
			t.Fatalf("the first push fails where the fourth does not: %v", err)
		}
		if diff := cmp.Diff(plain.exposition(), known.exposition()); diff != "" {
			t.Fatalf("pushing the same body again changed the exposition:\n%s", diff)
		}
		_, want := plain.put(k, second)
		_, got := known.put(k, second)
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("Push(%q) after %q = %v with templates, %v without", second, first, got, want)
		}
		if diff := cmp.Diff(plain.exposition(), known.exposition()); diff != "" {
			t.Fatalf("exposition (-without +with templates):\n%s", diff)
		}
	})
}

// TestTemplatesAreShared has many groups that push one text: they share a template, also after a wipe.
func TestTemplatesAreShared(t *testing.T) {
	b, store := newCounting(t)
	round := func(value string) (matched int) {
		before := store.matched
		for i := range 20 {
			if _, err := b.put(key(t, "job", "j", "instance", fmt.Sprint(i)), body(func() string { return value })); err != nil {
				t.Fatal(err)
			}
		}
		return store.matched - before
	}
	for i, want := range []int{0, 18, 20, 20} {
		if got := round(fmt.Sprint(i)); got != want {
			t.Errorf("round %d: %d pushes by template, want %d", i, got, want)
		}
	}
	if o, _ := store.Apply(t.Context(), &change.Change{Operation: change.Wipe}, groupstore.Content{}); !o.IsTaken() {
		t.Fatal(o)
	}
	round("1")
	round("1")
	if got := round("2"); got != 20 {
		t.Errorf("%d pushes by template after a wipe, want 20", got)
	}
	if err := b.ingester.Apply(t.Context(), &change.Change{Operation: change.Replace, Key: key(t, "job", "j", "instance", "7"), Body: []byte("new 1\n"), At: noon}).Err(); err != nil {
		t.Fatal(err)
	}
	if got := round("3"); got != 19 {
		t.Errorf("%d pushes by template, want 19: one group has got other series", got)
	}
	b.exposes(`a{instance="7",job="j",x="} 1 \" ",y="1"} 3`)
}

// TestTemplatesAreBounded pushes bodies that never come again, and ever new ones that do.
func TestTemplatesAreBounded(t *testing.T) {
	b, store := newCounting(t)
	long := strings.Repeat("x", 20_000)
	for i := range 200 {
		text := func(value int) string { return fmt.Sprintf("m{i=\"%d\",long=%q} %d\n", i, long, value) }
		for j := range 4 {
			if _, err := b.put(key(t, "job", "j"), text(j)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if store.matched != 200 {
		t.Errorf("%d pushes by template, want 200", store.matched)
	}
	if got := ingest.TemplateBytes(b.ingester); got > 1<<20 {
		t.Errorf("templates take %d bytes", got)
	}
	for i := range 500 {
		if _, err := b.put(key(t, "job", "k"), fmt.Sprintf("m 1\n# %d\n", i)); err != nil {
			t.Fatal(err)
		}
	}
	if got := ingest.TemplatesMade(b.ingester); got > 300 {
		t.Errorf("%d templates were made", got)
	}
}

func TestProtobufIsNotMatched(t *testing.T) {
	b, store := newCounting(t)
	for range 5 {
		if err := b.ingester.Apply(t.Context(), &change.Change{Operation: change.Replace, Key: key(t, "job", "j"), Format: exposition.ProtobufDelimited, At: noon}).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if store.matched != 0 {
		t.Errorf("%d protobuf pushes by template", store.matched)
	}
}
