package groupstore_test

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"google.golang.org/protobuf/proto"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/metric"
	"pushrelay/internal/series"
)

// noon is when most pushes of the tests arrive: a time whose rendering in seconds has no digits behind the point.
var noon = time.Unix(1_700_000_000, 0)

func key(tb testing.TB, pairs ...string) grouping.Key {
	tb.Helper()
	k, err := newKey(pairs...)
	if err != nil {
		tb.Fatalf("grouping.New(%q): %v", pairs, err)
	}
	return k
}

func newKey(pairs ...string) (grouping.Key, error) {
	labels := make([]grouping.Label, 0, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		labels = append(labels, grouping.Label{Name: pairs[i], Value: pairs[i+1]})
	}
	return grouping.New(labels...)
}

// parse reads text by expfmt, so that these tests do not depend on our own scanner.
func parse(tb testing.TB, text string) []*dto.MetricFamily {
	tb.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	byName, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		tb.Fatalf("parsing %q: %v", text, err)
	}
	families := make([]*dto.MetricFamily, 0, len(byName))
	for _, mf := range byName {
		families = append(families, mf)
	}
	slices.SortFunc(families, func(a, b *dto.MetricFamily) int { return strings.Compare(a.GetName(), b.GetName()) })
	return families
}

// bodyOf returns what the scanner makes of these families.
func bodyOf(families ...*dto.MetricFamily) *exposition.Body {
	b := &exposition.Body{}
	for _, mf := range families {
		start := len(b.Metrics)
		for _, m := range mf.Metric {
			addMetric(b, m)
		}
		b.Families = append(b.Families, exposition.Family{
			Name: []byte(mf.GetName()), Help: []byte(mf.GetHelp()), HasHelp: mf.Help != nil, Unit: []byte(mf.GetUnit()),
			Type: typeOf(mf), Metrics: exposition.Range{Start: int32(start), End: int32(len(b.Metrics))},
		})
	}
	return b
}

func addMetric(b *exposition.Body, m *dto.Metric) {
	metric := exposition.Metric{HasTimestamp: m.TimestampMs != nil}
	start := len(b.Labels)
	for _, l := range m.Label {
		b.Labels = append(b.Labels, exposition.Label{Name: []byte(l.GetName()), Value: []byte(l.GetValue())})
	}
	slices.SortFunc(b.Labels[start:], func(a, c exposition.Label) int { return strings.Compare(string(a.Name), string(c.Name)) })
	metric.Labels = exposition.Range{Start: int32(start), End: int32(len(b.Labels))}
	start = len(b.Points)
	addPoints(b, &metric, m)
	metric.Points = exposition.Range{Start: int32(start), End: int32(len(b.Points))}
	b.Metrics = append(b.Metrics, metric)
}

func addPoints(b *exposition.Body, metric *exposition.Metric, m *dto.Metric) {
	point := func(bound, value float64) {
		b.Points = append(b.Points, exposition.Point{Bound: bound, Value: value, Token: exposition.AppendFloat(nil, value)})
	}
	switch {
	case m.Gauge != nil:
		point(0, m.Gauge.GetValue())
	case m.Counter != nil:
		point(0, m.Counter.GetValue())
		if created := m.Counter.CreatedTimestamp; created != nil {
			metric.Created = created.AsTime().UnixNano()
		}
	case m.Untyped != nil:
		point(0, m.Untyped.GetValue())
	case m.Summary != nil:
		for _, q := range m.Summary.Quantile {
			point(q.GetQuantile(), q.GetValue())
		}
		point(0, m.Summary.GetSampleSum())
		point(0, float64(m.Summary.GetSampleCount()))
	case m.Histogram != nil:
		for _, bucket := range m.Histogram.Bucket {
			if !math.IsInf(bucket.GetUpperBound(), +1) {
				point(bucket.GetUpperBound(), float64(bucket.GetCumulativeCount()))
			}
		}
		point(math.Inf(+1), float64(m.Histogram.GetSampleCount()))
		point(0, m.Histogram.GetSampleSum())
		point(0, float64(m.Histogram.GetSampleCount()))
		if created := m.Histogram.CreatedTimestamp; created != nil {
			metric.Created = created.AsTime().UnixNano()
		}
		if m.Histogram.Schema != nil || slices.ContainsFunc(m.Histogram.Bucket, func(b *dto.Bucket) bool { return b.Exemplar != nil }) {
			bare := proto.Clone(m).(*dto.Metric)
			bare.Label = nil
			wire, err := proto.Marshal(bare)
			if err != nil {
				panic(err)
			}
			metric.Extra = &exposition.Extra{Wire: wire, Native: m.Histogram.Schema != nil}
		}
	}
}

func typeOf(mf *dto.MetricFamily) metric.Type {
	t, _ := metric.OfProto(mf.GetType())
	return t
}

// tester drives a store.
type tester struct {
	tb    testing.TB
	store *groupstore.Store
}

func newTester(tb testing.TB, cfg groupstore.Config) *tester {
	tb.Helper()
	return &tester{tb: tb, store: groupstore.New(cfg)}
}

func (t *tester) push(op change.Operation, k grouping.Key, text string) (change.Outcome, error) {
	t.tb.Helper()
	return apply(t.tb.Context(), t.store, pushing{Operation: op, Key: k, Body: bodyOf(parse(t.tb, text)...), At: noon})
}

// put replaces a group and expects that it works.
func (t *tester) put(k grouping.Key, text string) {
	t.tb.Helper()
	if _, err := t.push(change.Replace, k, text); err != nil {
		t.tb.Fatalf("Push(Replace, %v, %q) = %v", k, text, err)
	}
}

func (t *tester) delete(k grouping.Key) {
	t.tb.Helper()
	if _, err := apply(t.tb.Context(), t.store, pushing{Operation: change.Delete, Key: k, At: noon}); err != nil {
		t.tb.Fatalf("Push(Delete, %v) = %v", k, err)
	}
}

// text returns what is exposed, without the two times of groups.
func (t *tester) text() string {
	t.tb.Helper()
	var kept []string
	for line := range strings.Lines(t.full()) {
		if !strings.Contains(line, series.PushTimeFamily) && !strings.Contains(line, series.FailureTimeFamily) {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

func (t *tester) full() string {
	t.tb.Helper()
	return t.write(groupstore.Form{Escaping: metric.AllowUTF8})
}

func (t *tester) write(f groupstore.Form, own ...*dto.MetricFamily) string {
	t.tb.Helper()
	var b strings.Builder
	if err := t.store.Snapshot().Write(&b, f, own); err != nil {
		t.tb.Fatalf("Write(%+v) = %v", f, err)
	}
	return b.String()
}
