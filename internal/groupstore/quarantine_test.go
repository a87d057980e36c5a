package groupstore_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"

	"pushrelay/internal/change"
	"pushrelay/internal/grouping"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/history"
	"pushrelay/internal/metric"
)

func newQuarantine(t *testing.T) *tester {
	return newTester(t, groupstore.Config{
		Check:       groupstore.CheckQuarantine,
		OwnFamilies: []groupstore.OwnFamily{{Name: "own", Type: metric.Gauge}},
	})
}

func TestQuarantine(t *testing.T) {
	a, b, c := key(t, "job", "a"), key(t, "job", "b"), key(t, "job", "c")
	s := newQuarantine(t)
	s.put(a, "# TYPE m counter\nm 1\nx 1\n")
	verdict, err := s.push(put, b, "# TYPE m gauge\nm 2\ny 1\n")
	if err != nil {
		t.Fatal(err)
	}
	want := change.Outcome{Kind: change.Unchecked, Detail: `not exposed: collected metric "m" {} is not a COUNTER, which it is in group {job="a"}`, Decided: history.Point{Position: 2}}
	if diff := cmp.Diff(want, verdict); diff != "" {
		t.Errorf("verdict (-want +got):\n%s", diff)
	}
	s.put(c, "# TYPE m gauge\nm 3\n")
	exposes := func(lines ...string) {
		t.Helper()
		var got []string
		for line := range strings.Lines(s.text()) {
			if !strings.HasPrefix(line, "# ") {
				got = append(got, strings.TrimSpace(line))
			}
		}
		if diff := cmp.Diff(lines, got); diff != "" {
			t.Errorf("exposition (-want +got):\n%s", diff)
		}
	}
	exposes(`m{instance="",job="a"} 1`, `x{instance="",job="a"} 1`, `y{instance="",job="b"} 1`)
	if got := s.groups(); !slices.Contains(got, `{job="b"} pushed 0s failed never m@0s! y@0s`) || s.store.Stats().Quarantined != 2 {
		t.Errorf("groups: %q, stats %+v", got, s.store.Stats())
	}
	s.delete(a)
	exposes(`m{instance="",job="b"} 2`, `m{instance="",job="c"} 3`, `y{instance="",job="b"} 1`)
	s.put(a, "# TYPE m counter\nm 1\n")
	s.put(b, "# TYPE m counter\nm 2\n")
	exposes(`m{instance="",job="c"} 3`)
	s.put(c, "z 1\n")
	exposes(`m{instance="",job="a"} 1`, `m{instance="",job="b"} 2`, `z{instance="",job="c"} 1`)
	s.put(c, "own 1\nm{__bad=\"1\"} 1\nrelay_scrapes_total 1\nn 1\nn{k=\"\"} 2\n")
	exposes(`m{instance="",job="a"} 1`, `m{instance="",job="b"} 2`)
	if got := s.store.Stats().Quarantined; got != 4 {
		t.Errorf("%d families in quarantine, want 4", got)
	}
}

func TestQuarantinedTwins(t *testing.T) {
	first, second, third := key(t, "job", "a", "k", ""), key(t, "job", "a"), key(t, "instance", "", "job", "a")
	s := newQuarantine(t)
	s.put(first, "m 1\n")
	s.put(second, "m 2\nn 2\n")
	s.put(third, "m 3\n")
	s.put(key(t, "job", "b"), "# TYPE n gauge\nn 1\n")
	s.put(second, "m 2\nn 2\n")
	if _, err := s.push(post, third, "o 3\n"); err != nil {
		t.Fatal(err)
	}
	quarantined := func() (reasons []string) {
		for g := range s.store.Snapshot().Groups() {
			if g.Quarantined() != "" {
				reasons = append(reasons, g.Key().String())
			}
		}
		return reasons
	}
	if diff := cmp.Diff([]string{second.String(), third.String()}, quarantined(), sortStrings); diff != "" {
		t.Errorf("hidden groups (-want +got):\n%s", diff)
	}
	if text := s.full(); strings.Count(text, "push_time_seconds{") != 2 || strings.Contains(text, "m{instance=\"\",job=\"a\"}") {
		t.Errorf("a hidden group is exposed:\n%s", text)
	}
	s.delete(first)
	if diff := cmp.Diff([]string{third.String()}, quarantined()); diff != "" {
		t.Errorf("hidden groups after the first has left (-want +got):\n%s", diff)
	}
	if text := s.text(); !strings.Contains(text, "m{instance=\"\",job=\"a\"} 2\n") || strings.Contains(text, "n{instance=\"\",job=\"a\"}") {
		t.Errorf("exposition after the first has left:\n%s", text)
	}
	s.delete(second)
	if text := s.text(); !strings.Contains(text, "m{instance=\"\",job=\"a\"} 3\n") || !strings.Contains(text, "o{instance=\"\",job=\"a\"} 3\n") {
		t.Errorf("exposition after the second has left:\n%s", text)
	}
}

var sortStrings = cmp.Transformer("sorted", func(s []string) []string { return slices.Sorted(slices.Values(s)) })

// TestWaiterOfDeletedGroup: who waits for a group that is deleted is looked at while that leaves, beside others of the same labels.
func TestWaiterOfDeletedGroup(t *testing.T) {
	s := newQuarantine(t)
	s.put(key(t, "job", "a"), "m{k=\"1\"} 1\n")
	s.put(key(t, "job", "b"), "m 1\n")
	s.put(key(t, "job", "a", "k", "1"), "m 1\n")
	s.delete(key(t, "job", "a"))
	if got := s.store.Stats().Quarantined; got != 0 {
		t.Errorf("%d families in quarantine:\n%s", got, s.text())
	}
}

// TestQuarantineOracle pushes at random without enforcement. At every moment what is exposed fits together for client_golang,
// and what is hidden would not fit if it were exposed, too.
func TestQuarantineOracle(t *testing.T) {
	rounds := 75
	if testing.Short() {
		rounds = 20
	}
	hidden := 0
	for round := range rounds {
		u := universe{Rand: rand.New(rand.NewPCG(2, uint64(round))), wide: round%3 == 0}
		s, o := newQuarantine(t), newOracle()
		for range 30 {
			op := []change.Operation{put, put, post, post, change.Delete}[u.IntN(5)]
			p := pushing{Operation: op, Key: u.key(t), Body: bodyOf(u.families()...), At: noon}
			if _, err := apply(t.Context(), s.store, p); err != nil {
				t.Fatalf("round %d: Push(%v, %v) = %v", round, op, p.Key, err)
			}
			hidden += checkQuarantine(t, round, s, o.own)
		}
	}
	if hidden < rounds {
		t.Errorf("only %d families were ever hidden", hidden)
	}
}

func checkQuarantine(t *testing.T, round int, s *tester, own prometheus.Gatherer) (hidden int) {
	t.Helper()
	view := s.store.Snapshot()
	if err := gather(own, view, groupstore.Family{}); err != nil {
		t.Fatalf("round %d: what is exposed does not fit: %v", round, err)
	}
	for g := range view.Groups() {
		for f := range g.Families() {
			if f.Quarantined() == "" || g.Quarantined() != "" {
				continue
			}
			hidden++
			if err := gather(own, view, f); err == nil {
				t.Fatalf("round %d: %s of %v is hidden though it fits: %s\n%s", round, f.Name(), g.Key(), f.Quarantined(), s.text())
			}
		}
	}
	if stats := s.store.Stats(); stats.Quarantined < hidden {
		t.Fatalf("round %d: %d hidden families, Stats() = %+v", round, hidden, stats)
	}
	return hidden
}

// gather lets client_golang check what is exposed, and one family more.
func gather(own prometheus.Gatherer, v *groupstore.View, more groupstore.Family) error {
	merged := map[string]*dto.MetricFamily{}
	for g := range v.Groups() {
		for f := range g.Families() {
			if g.Quarantined() != "" || f.Quarantined() != "" && f != more {
				continue
			}
			if merged[f.Name()] == nil {
				merged[f.Name()] = &dto.MetricFamily{Name: proto.String(f.Name()), Type: f.Type().Proto().Enum()}
				if f.Name() == "own" {
					merged[f.Name()].Help = proto.String("Our own.")
				}
			}
			for m := range f.Metrics() {
				m.Label = slices.DeleteFunc(m.Label, func(l *dto.LabelPair) bool { return l.GetValue() == "" })
				merged[f.Name()].Metric = append(merged[f.Name()].Metric, m)
			}
		}
	}
	var families []*dto.MetricFamily
	for _, mf := range merged {
		families = append(families, mf)
	}
	_, err := prometheus.Gatherers{own, prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return families, nil })}.Gather()
	return err
}

// TestMayBeHidden: what may be hidden is kept family by family beside a store that refuses (S9), is in nobody's way while it is hidden, and is
// exposed once what is in its way has left.
func TestMayBeHidden(t *testing.T) {
	s := newTester(t, groupstore.Config{})
	a, b, c := key(t, "job", "a"), key(t, "job", "b"), key(t, "job", "c")
	file := func(k grouping.Key, body string) change.Outcome {
		t.Helper()
		o, err := apply(t.Context(), s.store, pushing{Operation: put, Key: k, Body: bodyOf(parse(t, body)...), At: noon, Agent: "site", MayBeHidden: true})
		if err != nil || o.Kind != change.Applied {
			t.Fatalf("%v, %v", o, err)
		}
		return o
	}
	samples := func() (lines []string) {
		for line := range strings.Lines(s.text()) {
			if !strings.HasPrefix(line, "# ") {
				lines = append(lines, strings.TrimSpace(line))
			}
		}
		return lines
	}
	file(a, "# TYPE t gauge\nt 1\n")
	file(b, "# TYPE t gauge\nt 2\n")
	hidden := file(a, "# TYPE t counter\nt 3\nu 4\n")
	if want := `not exposed: collected metric "t" {} is not a GAUGE, which it is in group {job="b"}`; hidden.Detail != want {
		t.Errorf("the outcome says %q, want %q", hidden.Detail, want)
	}
	if diff := cmp.Diff([]string{`t{instance="",job="b"} 2`, `u{instance="",job="a"} 4`}, samples()); diff != "" {
		t.Errorf("while one family is hidden (-want +got):\n%s", diff)
	}
	if stats := s.store.Stats(); stats.Series != 3 || stats.Quarantined != 1 {
		t.Errorf("what is hidden does not count: %+v", stats)
	}
	if _, err := s.push(put, c, "# TYPE t gauge\nt 5\n"); err != nil {
		t.Errorf("a push is in the way of what is hidden: %v", err)
	}
	s.delete(c)
	file(b, "# TYPE t counter\nt 6\n")
	if diff := cmp.Diff([]string{`t{instance="",job="a"} 3`, `t{instance="",job="b"} 6`, `u{instance="",job="a"} 4`}, samples()); diff != "" {
		t.Errorf("after both have changed (-want +got):\n%s", diff)
	}
	for _, g := range s.groups() {
		if !strings.Contains(g, "failed never") {
			t.Errorf("a failure is noted: %s", g)
		}
	}
	if stats := s.store.Stats(); stats.Quarantined != 0 {
		t.Errorf("%d families are hidden", stats.Quarantined)
	}
}

// TestAddedLabels: a label of the group that the pusher did not choose takes the place of none of his.
func TestAddedLabels(t *testing.T) {
	for _, tt := range []struct {
		name string
		pushing
		body string
		want []string
	}{
		{
			"chosen",
			pushing{},
			"m{agent=\"x\",job=\"x\"} 1\n",
			[]string{`m{agent="site",instance="",job="j"} 1`},
		},
		{
			"of the agent",
			pushing{Agent: "site"},
			"m{agent=\"x\",job=\"x\"} 1\nm{agent=\"y\",job=\"x\"} 2\n",
			[]string{`m{agent="site",exported_agent="x",instance="",job="j"} 1`, `m{agent="site",exported_agent="y",instance="",job="j"} 2`},
		},
		{
			"of a file",
			pushing{Agent: "site", MayBeHidden: true},
			"m{agent=\"x\",job=\"x\",z=\"\"} 1\n",
			[]string{`m{agent="site",exported_agent="x",exported_job="x",instance="",job="j",z=""} 1`},
		},
		{
			"taken",
			pushing{Agent: "site"},
			"m{agent=\"x\",exported_agent=\"y\"} 1\n",
			[]string{`m{agent="site",exported_agent="y",exported_exported_agent="x",instance="",job="j"} 1`},
		},
		{
			"taken by nothing",
			pushing{Agent: "site"},
			"m{agent=\"x\",exported_agent=\"\"} 1\n",
			[]string{`m{agent="site",exported_agent="x",instance="",job="j"} 1`},
		},
		{
			"empty",
			pushing{Agent: "site"},
			"m{agent=\"\"} 1\n",
			[]string{`m{agent="site",instance="",job="j"} 1`},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newTester(t, groupstore.Config{AccountLabel: "agent"})
			tt.Operation, tt.Key, tt.Body, tt.At = put, key(t, "job", "j", "agent", "site"), bodyOf(parse(t, tt.body)...), noon
			if _, err := apply(t.Context(), s.store, tt.pushing); err != nil {
				t.Fatal(err)
			}
			var got []string
			for line := range strings.Lines(s.text()) {
				if strings.HasPrefix(line, "m{") {
					got = append(got, strings.TrimSpace(line))
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("exposition (-want +got):\n%s", diff)
			}
		})
	}
}
