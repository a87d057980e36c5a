// Package addup adds metric families up, series by series, as those who push from many short-lived workers want it (L12, L15).
//
// It is arithmetic on messages of the protobuf format: no group, no store, no clock but the time that it is handed. Start reading at [Add].
package addup

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Gauges says what adding does with gauges, and with what is untyped. The zero value is Last.
type Gauges uint8

// The ways. Their numbers lie in journals and travel.
const (
	Last Gauges = iota // the newest one stays
	Sum
	Min
	Max
)

var gaugeNames = []string{"last", "sum", "min", "max"}

// ParseGauges reads the name of a way.
func ParseGauges(name string) (Gauges, error) {
	i := slices.Index(gaugeNames, name)
	if i < 0 {
		return Last, fmt.Errorf("%.64q is none of the ways to add up gauges: %s", name, strings.Join(gaugeNames, ", "))
	}
	return Gauges(i), nil
}

// String returns the name of the way.
func (g Gauges) String() string { return gaugeNames[g] }

// IsKnown says whether it is one of the ways.
func (g Gauges) IsKnown() bool { return int(g) < len(gaugeNames) }

// Of returns what becomes of a gauge to which more is added.
func (g Gauges) Of(base, more float64) float64 {
	switch g {
	case Sum:
		return base + more
	case Min:
		return math.Min(base, more)
	case Max:
		return math.Max(base, more)
	default:
		return more
	}
}

// Adds says whether families of that type are added up at all: gauge histograms are gauges, and only a sum of them is known. Of others the newer
// one stays.
func (g Gauges) Adds(t dto.MetricType) bool { return t != dto.MetricType_GAUGE_HISTOGRAM || g == Sum }

// Rule says how pushes are added up whose pushers do not ask for it (L11).
type Rule struct {
	// Gauges says what becomes of gauges.
	Gauges Gauges
	// Put says that a PUT is added up as well as a POST.
	Put bool
	// None says that nothing is added up, whatever later rules say.
	None bool
}

// Add returns the family base with the series of more added, which was pushed at that time: a series of both is added, and others stay or come
// as they are. A family of another type takes the place of the first. Gauge histograms are gauges: they are added up by Sum, and the newer one
// stays otherwise. Base may be nil. Neither is used afterwards.
func Add(base, more *dto.MetricFamily, gauges Gauges, at time.Time) *dto.MetricFamily {
	if !gauges.Adds(more.GetType()) {
		return Merge(base, more)
	}
	for _, m := range more.Metric {
		begin(m, at)
	}
	return join(base, more, func(base, more *dto.Metric) *dto.Metric { return addMetric(base, more, gauges) })
}

// Merge returns the family base with the series of more, each in the place of one with the same labels. A family of another type takes the
// place of the first. Base may be nil. Neither is used afterwards.
func Merge(base, more *dto.MetricFamily) *dto.MetricFamily {
	return join(base, more, func(_, more *dto.Metric) *dto.Metric { return more })
}

// AreAlike says whether adding the sum of two families to a third one is the same as adding one after the other. It is not where the second takes
// the place of the first: what the third one is then replaced by, or added to, depends on which comes first.
func AreAlike(a, b *dto.MetricFamily) bool {
	if a.GetType() != b.GetType() {
		return false
	}
	kinds := kindsOf(a) | kindsOf(b)
	return kinds == 0 || kinds == of(classic) || kinds == of(native)
}

// kindsOf returns which kinds of histograms are among the metrics of a family.
func kindsOf(f *dto.MetricFamily) (kinds uint8) {
	for _, m := range f.Metric {
		if m.Histogram != nil {
			kinds |= of(kindOf(m.Histogram))
		}
	}
	return kinds
}

func of(k kind) uint8 { return 1 << k }

// join puts two families together; both says what becomes of two metrics with the same labels.
func join(base, more *dto.MetricFamily, both func(base, more *dto.Metric) *dto.Metric) *dto.MetricFamily {
	if base == nil || base.GetType() != more.GetType() {
		return more
	}
	if more.Help == nil {
		more.Help = base.Help
	}
	if more.GetUnit() == "" {
		more.Unit = base.Unit
	}
	places := make(map[string]int, len(base.Metric))
	for i, m := range base.Metric {
		places[labelsOf(m)] = i
	}
	joined := base.Metric
	for _, m := range more.Metric {
		if i, found := places[labelsOf(m)]; found {
			joined[i] = both(joined[i], m)
		} else {
			joined = append(joined, m)
		}
	}
	more.Metric = joined
	return more
}

// labelsOf returns what two metrics have in common that are the same series: their labels that are not empty.
func labelsOf(m *dto.Metric) string {
	labels := slices.Clone(m.Label)
	slices.SortFunc(labels, func(a, b *dto.LabelPair) int { return strings.Compare(a.GetName(), b.GetName()) })
	var text strings.Builder
	for _, l := range labels {
		if l.GetValue() != "" {
			text.WriteString(l.GetName() + "\xff" + l.GetValue() + "\xff")
		}
	}
	return text.String()
}

// begin makes a metric one that can be added to: what cannot be added is left out, and it has a time at which it began, so that Prometheus sees
// where it begins anew (L15).
func begin(m *dto.Metric, at time.Time) {
	created := timestamppb.New(at)
	switch {
	case m.Counter != nil:
		m.Counter.Exemplar = nil
		if m.Counter.CreatedTimestamp == nil {
			m.Counter.CreatedTimestamp = created
		}
	case m.Summary != nil:
		m.Summary.Quantile = nil // of two summaries nobody knows the quantiles of the whole
		if m.Summary.CreatedTimestamp == nil {
			m.Summary.CreatedTimestamp = created
		}
	case m.Histogram != nil:
		m.Histogram.Exemplars = nil
		for _, b := range m.Histogram.Bucket {
			b.Exemplar = nil
		}
		if m.Histogram.CreatedTimestamp == nil {
			m.Histogram.CreatedTimestamp = created
		}
	}
}

// addMetric adds a metric to another one of the same family.
func addMetric(base, more *dto.Metric, gauges Gauges) *dto.Metric {
	switch {
	case base.Counter != nil && more.Counter != nil:
		base.Counter.Value = proto.Float64(base.Counter.GetValue() + more.Counter.GetValue())
		base.Counter.CreatedTimestamp = older(base.Counter.CreatedTimestamp, more.Counter.CreatedTimestamp)
	case base.Gauge != nil && more.Gauge != nil:
		base.Gauge.Value = proto.Float64(gauges.Of(base.Gauge.GetValue(), more.Gauge.GetValue()))
	case base.Untyped != nil && more.Untyped != nil:
		base.Untyped.Value = proto.Float64(gauges.Of(base.Untyped.GetValue(), more.Untyped.GetValue()))
	case base.Summary != nil && more.Summary != nil:
		base.Summary.SampleCount = proto.Uint64(base.Summary.GetSampleCount() + more.Summary.GetSampleCount())
		base.Summary.SampleSum = proto.Float64(base.Summary.GetSampleSum() + more.Summary.GetSampleSum())
		base.Summary.Quantile = nil
		base.Summary.CreatedTimestamp = older(base.Summary.CreatedTimestamp, more.Summary.CreatedTimestamp)
	case base.Histogram != nil && more.Histogram != nil:
		return &dto.Metric{Label: base.Label, Histogram: addHistogram(base.Histogram, more.Histogram)}
	default:
		return more
	}
	return base
}

// older returns the earlier of two times; nil is none.
func older(a, b *timestamppb.Timestamp) *timestamppb.Timestamp {
	if a == nil || b != nil && b.AsTime().Before(a.AsTime()) {
		return b
	}
	return a
}
