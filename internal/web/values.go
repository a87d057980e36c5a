package web

import (
	"math"
	"slices"
	"strconv"
	"time"

	dto "github.com/prometheus/client_model/go"

	"pushrelay/internal/buckets"
	"pushrelay/internal/grouping"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/metric"
	"pushrelay/internal/webpage"
)

const (
	// familiesPerPage and valuesPerPage bound what the page of a group shows: values are lines of a table, and those of a histogram are its
	// buckets.
	familiesPerPage = 200
	valuesPerPage   = 1500
	// barsPerHistogram bounds a drawing. Further buckets are drawn together with their neighbours.
	barsPerHistogram = 80
)

// A family is one metric family of a group, with its values.
type family struct {
	Name, Type, Help, Unit string
	Series                 int
	Pushed                 webpage.Moment
	Quarantined            string
	Values                 []value
	More                   int // metrics that are not shown

	cost int
}

// A value is one metric.
type value struct {
	Labels []option
	Value  string // of a simple one
	// Of a summary or a histogram:
	Count, Sum string
	Quantiles  []option
	Histogram  *histogram
}

// A histogram is drawn, with the numbers beside.
type histogram struct {
	Graph   webpage.Graph
	Buckets []option // their bounds and what is in them; without empty ones
	Native  bool
}

// newFamily returns a family with as many of its values as there is room for. Labels that the whole group has are left out.
func newFamily(f groupstore.Family, key grouping.Key, room int, now time.Time) family {
	out := family{
		Name: f.Name(), Type: f.Type().String(), Help: f.Help(), Unit: f.Unit(), Series: f.Series(), Pushed: webpage.MomentOf(f.PushTime(), now),
	}
	for m := range f.Metrics() {
		if out.cost >= room {
			out.More++
			continue
		}
		v, cost := newValue(f.Type(), m, key)
		out.Values = append(out.Values, v)
		out.cost += cost
	}
	return out
}

func newValue(typ metric.Type, m *dto.Metric, key grouping.Key) (value, int) {
	v, cost := value{}, 1
	for _, l := range m.GetLabel() {
		if grouped, _ := key.Get(l.GetName()); grouped != l.GetValue() {
			v.Labels = append(v.Labels, option{l.GetName(), l.GetValue()})
		}
	}
	switch {
	case typ.Simple():
		v.Value = number(metric.SimpleValue(m))
	case typ.Bucketed():
		h := m.GetHistogram()
		v.Count, v.Sum = countOf(h.GetSampleCount(), h.GetSampleCountFloat()), number(h.GetSampleSum())
		v.Histogram = newHistogram(h)
		cost += len(v.Histogram.Buckets)
	default:
		s := m.GetSummary()
		v.Count, v.Sum = countOf(s.GetSampleCount(), 0), number(s.GetSampleSum())
		for _, q := range s.GetQuantile() {
			v.Quantiles = append(v.Quantiles, option{number(q.GetQuantile()), number(q.GetValue())})
		}
		cost += len(v.Quantiles)
	}
	return v, cost
}

// newHistogram draws a histogram, one bar for each bucket from the lowest to the highest that something is in.
func newHistogram(h *dto.Histogram) *histogram {
	out := &histogram{Native: len(h.GetPositiveSpan())+len(h.GetNegativeSpan()) > 0}
	all := buckets.OfClassic(h)
	if out.Native {
		all = buckets.OfNative(h)
	}
	// What is empty at either end says nothing, and would make the bars narrow.
	isFull := func(b buckets.Bucket) bool { return !b.IsEmpty() }
	first := slices.IndexFunc(all, isFull)
	if first < 0 {
		out.Graph = webpage.NewGraph(nil, nil)
		out.Graph.Words = "The histogram is empty."
		return out
	}
	last := len(all) - 1
	for all[last].IsEmpty() {
		last--
	}
	all = all[first : last+1]
	each := (len(all) + barsPerHistogram - 1) / barsPerHistogram
	var heights []float64
	for together := range slices.Chunk(all, each) {
		sum := 0.0
		for _, b := range together {
			sum += b.Number()
		}
		heights = append(heights, sum)
	}
	for _, b := range all {
		if !b.IsEmpty() && len(out.Buckets) < barsPerHistogram {
			out.Buckets = append(out.Buckets, option{boundsOf(b), number(b.Number())})
		}
	}
	out.Graph = webpage.NewGraph(heights, nil)
	out.Graph.From, out.Graph.To = rounded(all[0].Lower), rounded(all[len(all)-1].Upper)
	out.Graph.Words = "Histogram of " + webpage.Plural(len(all), "bucket", "buckets") + " from " + out.Graph.From + " to " + out.Graph.To + "; the numbers are in the table below."
	return out
}

// boundsOf writes the bounds of a bucket as Prometheus does.
func boundsOf(b buckets.Bucket) string {
	left, right := "(", "]"
	switch b.Boundaries {
	case buckets.UpperOpen:
		left, right = "[", ")"
	case buckets.Closed:
		left = "["
	}
	return left + rounded(b.Lower) + ", " + rounded(b.Upper) + right
}

func countOf(count uint64, float float64) string {
	if float > 0 {
		return number(float)
	}
	return strconv.FormatUint(count, 10)
}

// rounded writes a bound: those of native histograms are powers of roots of two, of which nobody reads all digits.
func rounded(f float64) string { return strconv.FormatFloat(f, 'g', 5, 64) }

// number writes a number as Prometheus does, large ones in full as long as people can read them.
func number(f float64) string {
	if math.Abs(f) < 1e15 && f == math.Trunc(f) {
		return strconv.FormatFloat(f, 'f', -1, 64)
	}
	return strconv.FormatFloat(f, 'g', -1, 64)
}
