package groupstore_test

import (
	"fmt"
	"maps"
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
	"pushrelay/internal/metric"
	"pushrelay/internal/series"
)

// An oracle is the plainest grouping store there can be: a map of groups of families, and a push is taken if all of it
// together can be gathered by client_golang. It differs from a Pushgateway on purpose in three points: a label with an empty
// value is none (S7), a rejected push leaves a group only where that fits (S10), and pushed times are ignored.
type oracle struct {
	own    prometheus.Gatherer
	groups map[grouping.Key]oracleGroup
}

type oracleGroup struct {
	families       map[string]*dto.MetricFamily // with all labels
	pushed, failed float64
}

func newOracle() *oracle {
	r := prometheus.NewRegistry()
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "own", Help: "Our own."})
	g.Set(7)
	r.MustRegister(g)
	return &oracle{own: r, groups: map[grouping.Key]oracleGroup{}}
}

// push applies the push to a copy, and keeps the copy if it can be gathered.
func (o *oracle) push(op change.Operation, k grouping.Key, families []*dto.MetricFamily) error {
	next := maps.Clone(o.groups)
	if op == change.Delete {
		delete(next, k)
		o.groups = next
		return nil
	}
	group := oracleGroup{families: map[string]*dto.MetricFamily{}, pushed: float64(noon.Unix()), failed: next[k].failed}
	if op == change.Merge {
		maps.Copy(group.families, next[k].families)
	}
	for _, mf := range families {
		if mf.GetName() != series.PushTimeFamily && mf.GetName() != series.FailureTimeFamily {
			group.families[mf.GetName()] = withLabels(mf, k)
		}
	}
	next[k] = group
	_, err := o.gather(next)
	if err == nil {
		o.groups = next
		return nil
	}
	failed := maps.Clone(o.groups)
	group = failed[k]
	group.failed = float64(noon.Unix())
	failed[k] = group
	if _, failure := o.gather(failed); failure == nil {
		o.groups = failed
	}
	return err
}

// gather merges all families by name and lets client_golang check them.
func (o *oracle) gather(groups map[grouping.Key]oracleGroup) ([]*dto.MetricFamily, error) {
	merged := map[string]*dto.MetricFamily{}
	add := func(mf *dto.MetricFamily) {
		if merged[mf.GetName()] == nil {
			merged[mf.GetName()] = &dto.MetricFamily{Name: mf.Name, Type: mf.Type}
			if mf.GetName() == "own" {
				merged[mf.GetName()].Help = proto.String("Our own.")
			}
		}
		merged[mf.GetName()].Metric = append(merged[mf.GetName()].Metric, mf.Metric...)
	}
	for _, k := range slices.SortedFunc(maps.Keys(groups), func(a, b grouping.Key) int {
		return strings.Compare(a.Canonical(), b.Canonical())
	}) {
		add(withLabels(gaugeFamily(series.PushTimeFamily, groups[k].pushed), k))
		add(withLabels(gaugeFamily(series.FailureTimeFamily, groups[k].failed), k))
		for _, name := range slices.Sorted(maps.Keys(groups[k].families)) {
			add(groups[k].families[name])
		}
	}
	families := slices.SortedFunc(maps.Values(merged), func(a, b *dto.MetricFamily) int { return strings.Compare(a.GetName(), b.GetName()) })
	return prometheus.Gatherers{o.own, prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return families, nil })}.Gather()
}

func gaugeFamily(name string, value float64) *dto.MetricFamily {
	return &dto.MetricFamily{Name: &name, Type: dto.MetricType_GAUGE.Enum(), Metric: []*dto.Metric{{Gauge: &dto.Gauge{Value: &value}}}}
}

// withLabels returns a copy of the family with the grouping labels, and without labels that are empty.
func withLabels(mf *dto.MetricFamily, k grouping.Key) *dto.MetricFamily {
	labelled := proto.Clone(mf).(*dto.MetricFamily)
	for _, m := range labelled.Metric {
		values := map[string]string{}
		for _, l := range m.Label {
			values[l.GetName()] = l.GetValue()
		}
		for _, l := range k.Labels() {
			values[l.Name] = l.Value
		}
		m.Label = nil
		for _, name := range slices.Sorted(maps.Keys(values)) {
			if values[name] != "" {
				m.Label = append(m.Label, &dto.LabelPair{Name: proto.String(name), Value: proto.String(values[name])})
			}
		}
	}
	return labelled
}

// flatten returns a line per metric, sorted: its family and type, its labels that are not empty, and its values.
func flatten(families []*dto.MetricFamily) []string {
	var lines []string
	for _, mf := range families {
		for _, m := range mf.Metric {
			var b strings.Builder
			fmt.Fprintf(&b, "%s %s", mf.GetType(), mf.GetName())
			for _, l := range m.Label {
				if l.GetValue() != "" {
					fmt.Fprintf(&b, " %s=%q", l.GetName(), l.GetValue())
				}
			}
			fmt.Fprintf(&b, " %v %v %v", m.Gauge.GetValue(), m.Counter.GetValue(), m.Untyped.GetValue())
			fmt.Fprintf(&b, " %v %v %d", m.Summary.GetSampleSum(), m.Histogram.GetSampleSum(), m.Histogram.GetSampleCount())
			lines = append(lines, b.String())
		}
	}
	slices.Sort(lines)
	return lines
}

// A universe makes pushes that collide.
type universe struct {
	*rand.Rand
	// wide makes many shapes of few families, so that families are checked by an index.
	wide bool
}

func (u universe) pick(choices ...string) string { return choices[u.IntN(len(choices))] }

func (u universe) key(tb testing.TB) grouping.Key {
	tb.Helper()
	pairs := []string{"job", u.pick("a", "b")}
	if u.wide {
		for _, name := range []string{"instance", "k", "x", "y", "z"} {
			if u.IntN(2) == 0 {
				pairs = append(pairs, name, u.pick("1", "2", "1", ""))
			}
		}
		return key(tb, pairs...)
	}
	for _, name := range []string{"instance", "k", "x"} {
		if u.IntN(4) == 0 {
			pairs = append(pairs, name, u.pick("", "1", "2"))
		}
	}
	if u.IntN(8) == 0 {
		pairs = append(pairs, "quantile", "1")
	}
	return key(tb, pairs...)
}

func (u universe) families() []*dto.MetricFamily {
	names := []string{"m", "h", "h_count", "h_sum", "h_bucket", "s", "s_count", "own", "own_sum", series.FailureTimeFamily}
	u.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	if u.wide {
		names = []string{"m", "s", "s_count"}
	}
	var families []*dto.MetricFamily
	for _, name := range names[:u.IntN(3)] {
		typ := dto.MetricType(u.IntN(5))
		if u.wide || u.IntN(2) == 0 {
			typ = dto.MetricType_GAUGE
		}
		mf := &dto.MetricFamily{Name: proto.String(name), Type: &typ}
		for range 1 + u.IntN(2) {
			mf.Metric = append(mf.Metric, u.metric(typ))
		}
		families = append(families, mf)
	}
	return families
}

func (u universe) metric(typ dto.MetricType) *dto.Metric {
	m := &dto.Metric{}
	for _, name := range []string{"instance", "job", "k", "x", "y"} {
		if (name != "y" || u.wide) && u.IntN(3) == 0 {
			m.Label = append(m.Label, &dto.LabelPair{Name: proto.String(name), Value: proto.String(u.pick("", "1", "2", "a"))})
		}
	}
	value := float64(u.IntN(100))
	switch typ {
	case dto.MetricType_GAUGE:
		m.Gauge = &dto.Gauge{Value: &value}
	case dto.MetricType_COUNTER:
		m.Counter = &dto.Counter{Value: &value}
	case dto.MetricType_SUMMARY:
		m.Summary = &dto.Summary{SampleSum: &value, Quantile: []*dto.Quantile{{Quantile: proto.Float64(0.5), Value: &value}}}
	case dto.MetricType_HISTOGRAM:
		m.Histogram = &dto.Histogram{SampleSum: &value, SampleCount: proto.Uint64(3), Bucket: []*dto.Bucket{
			{UpperBound: proto.Float64(0.5), CumulativeCount: proto.Uint64(2)},
		}}
	default:
		m.Untyped = &dto.Untyped{Value: &value}
	}
	return m
}

// TestOracle pushes at random to the store and to the oracle: both accept the same pushes and expose the same series.
func TestOracle(t *testing.T) {
	for _, tt := range []struct {
		name           string
		wide           bool
		rounds, pushes int
	}{{"narrow", false, 120, 40}, {"wide", true, 12, 200}} {
		t.Run(tt.name, func(t *testing.T) {
			if testing.Short() {
				tt.rounds /= 6
			}
			accepted, rejected, indexed := 0, 0, 0
			for round := range tt.rounds {
				u := universe{Rand: rand.New(rand.NewPCG(1, uint64(round))), wide: tt.wide}
				a, r, byIndex := playRound(t, u, round, tt.pushes)
				accepted, rejected = accepted+a, rejected+r
				if byIndex {
					indexed++
				}
			}
			t.Logf("%d pushes accepted alike, %d rejected alike, an index in %d of %d rounds", accepted, rejected, indexed, tt.rounds)
			if total := tt.rounds * tt.pushes; accepted < total/10 || rejected < total/10 || tt.wide && indexed < tt.rounds/2 {
				t.Errorf("the universe is lopsided")
			}
		})
	}
}

func playRound(t *testing.T, u universe, round, pushes int) (accepted, rejected int, indexed bool) {
	t.Helper()
	s := newTester(t, groupstore.Config{OwnFamilies: []groupstore.OwnFamily{{Name: "own", Type: metric.Gauge}}})
	o := newOracle()
	for i := range pushes {
		k, families := u.key(t), u.families()
		op := []change.Operation{put, put, post, post, change.Delete}[u.IntN(5)]
		_, err := apply(t.Context(), s.store, pushing{Operation: op, Key: k, Body: bodyOf(families...), At: noon})
		want := o.push(op, k, families)
		if (err == nil) != (want == nil) {
			t.Fatalf("round %d, push %d: Push(%v, %v, %v) = %v, the oracle says %v", round, i, op, k, families, err, want)
		}
		if err == nil {
			accepted++
		} else {
			rejected++
		}
		byIndex, _, _ := s.store.Indexed("m")
		indexed = indexed || byIndex
	}
	compareToOracle(t, round, s, o)
	return accepted, rejected, indexed
}

func compareToOracle(t *testing.T, round int, s *tester, o *oracle) {
	t.Helper()
	ownFamilies, err := o.own.Gather()
	if err != nil {
		t.Fatal(err)
	}
	want, err := o.gather(o.groups)
	if err != nil {
		t.Fatal(err)
	}
	got := parse(t, s.write(groupstore.Form{Escaping: metric.AllowUTF8}, ownFamilies...))
	if diff := cmp.Diff(flatten(want), flatten(got)); diff != "" {
		t.Fatalf("round %d: exposition (-oracle +store):\n%s", round, diff)
	}
	if stats := s.store.Stats(); stats.Groups != len(o.groups) || stats.Quarantined != 0 {
		t.Fatalf("round %d: Stats() = %+v, want %d groups", round, stats, len(o.groups))
	}
}
