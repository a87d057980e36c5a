package addup

import (
	"math"
	"slices"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/prometheus/model/histogram"
	"google.golang.org/protobuf/proto"
)

// addHistogram adds two histograms, classic or native. One that is native and one that is not have no buckets in common: the newer one stays. So it
// does where the library has no sum.
func addHistogram(base, more *dto.Histogram) *dto.Histogram {
	if kindOf(base) != kindOf(more) || kindOf(base) == absurd {
		return more
	}
	sum := &dto.Histogram{SampleSum: proto.Float64(base.GetSampleSum() + more.GetSampleSum()), CreatedTimestamp: older(base.CreatedTimestamp, more.CreatedTimestamp)}
	whole := isWhole(base) && isWhole(more)
	if whole {
		sum.SampleCount = proto.Uint64(base.GetSampleCount() + more.GetSampleCount())
	} else {
		sum.SampleCountFloat = proto.Float64(countOf(base) + countOf(more))
	}
	sum.Bucket = addBuckets(base.Bucket, more.Bucket, whole)
	if isNative(base) && !addNative(sum, base, more, whole) {
		return more
	}
	return sum
}

// A kind of histograms can be added up.
type kind uint8

const (
	classic kind = iota
	native
	// absurd are native ones with a zero bucket whose bound is none: adding to it would have no end. Prometheus takes them.
	absurd
)

func kindOf(h *dto.Histogram) kind {
	bound := h.GetZeroThreshold()
	switch {
	case !isNative(h):
		return classic
	case bound >= 0 && bound <= math.MaxFloat64:
		return native
	default:
		return absurd
	}
}

// isNative says whether Prometheus takes the histogram for one that has buckets by a schema, also if those are all empty: a schema alone is none.
func isNative(h *dto.Histogram) bool {
	return len(h.PositiveSpan)+len(h.NegativeSpan) > 0 || h.GetZeroThreshold() > 0 || h.GetZeroCount() > 0
}

// isFloat says whether Prometheus reads the counts of a histogram that need not be whole numbers, and no others.
func isFloat(h *dto.Histogram) bool {
	return h.GetSampleCountFloat() > 0 || h.GetZeroCountFloat() > 0 || len(h.PositiveCount)+len(h.NegativeCount) > 0
}

// isWhole says whether the histogram counts in whole numbers.
func isWhole(h *dto.Histogram) bool {
	return !isFloat(h) && !slices.ContainsFunc(h.Bucket, func(b *dto.Bucket) bool { return b.GetCumulativeCountFloat() > 0 })
}

func countOf(h *dto.Histogram) float64 {
	if isFloat(h) {
		return h.GetSampleCountFloat()
	}
	return float64(h.GetSampleCount())
}

// addBuckets adds the buckets of the bounds that both have: what is counted up to them is known of both.
func addBuckets(base, more []*dto.Bucket, whole bool) (sum []*dto.Bucket) {
	byBound := make(map[float64]*dto.Bucket, len(more))
	for _, b := range more {
		byBound[b.GetUpperBound()] = b
	}
	for _, a := range base {
		b := byBound[a.GetUpperBound()]
		if b == nil {
			continue
		}
		added := &dto.Bucket{UpperBound: a.UpperBound}
		if whole {
			added.CumulativeCount = proto.Uint64(a.GetCumulativeCount() + b.GetCumulativeCount())
		} else {
			added.CumulativeCountFloat = proto.Float64(cumulativeOf(a) + cumulativeOf(b))
		}
		sum = append(sum, added)
	}
	return sum
}

func cumulativeOf(b *dto.Bucket) float64 {
	if b.GetCumulativeCountFloat() > 0 {
		return b.GetCumulativeCountFloat()
	}
	return float64(b.GetCumulativeCount())
}

// addNative adds the native buckets of two histograms, at the coarser of their resolutions, and reports whether they have a sum.
func addNative(sum, base, more *dto.Histogram, whole bool) bool {
	a, b := toFloat(base).Compact(0), toFloat(more).Compact(0) // the library takes no spans without buckets
	observed := inBuckets(a) + inBuckets(b)
	if !coarsen(a, b.Schema) || !coarsen(b, a.Schema) {
		return false
	}
	if _, _, _, err := a.Add(b); err != nil { // of bounds of its own, which the protobuf format does not have
		return false
	}
	// The library drops buckets that lie within the zero bucket. What was counted in them belongs there.
	a.ZeroCount += max(0, observed-inBuckets(a))
	a.Compact(0)
	sum.Schema, sum.ZeroThreshold = proto.Int32(a.Schema), proto.Float64(a.ZeroThreshold)
	sum.PositiveSpan, sum.NegativeSpan = fromSpans(a.PositiveSpans), fromSpans(a.NegativeSpans)
	if whole {
		sum.ZeroCount = proto.Uint64(uint64(math.Round(a.ZeroCount)))
		sum.PositiveDelta, sum.NegativeDelta = deltasOf(a.PositiveBuckets), deltasOf(a.NegativeBuckets)
	} else {
		sum.ZeroCountFloat = proto.Float64(a.ZeroCount)
		sum.PositiveCount, sum.NegativeCount = a.PositiveBuckets, a.NegativeBuckets
	}
	if !isNative(sum) {
		sum.PositiveSpan = []*dto.BucketSpan{{Offset: proto.Int32(0), Length: proto.Uint32(0)}} // what says that one without buckets is native
	}
	return true
}

// coarsen brings a histogram to that resolution, if its own is finer, and reports whether that is possible. The library's Add does so too, but
// after it has looked for what lies within a zero bucket, and then counts some of it twice.
func coarsen(h *histogram.FloatHistogram, schema int32) bool {
	return h.Schema <= schema || h.ReduceResolution(schema) == nil
}

// inBuckets returns how many observations are in the buckets, the zero bucket among them.
func inBuckets(h *histogram.FloatHistogram) float64 {
	n := h.ZeroCount
	for _, buckets := range [][]float64{h.PositiveBuckets, h.NegativeBuckets} {
		for _, count := range buckets {
			n += count
		}
	}
	return n
}

// toFloat returns the native part of a histogram as the library has it.
func toFloat(h *dto.Histogram) *histogram.FloatHistogram {
	f := &histogram.FloatHistogram{
		Schema: h.GetSchema(), ZeroThreshold: h.GetZeroThreshold(), Count: countOf(h), Sum: h.GetSampleSum(),
		PositiveSpans: toSpans(h.PositiveSpan), NegativeSpans: toSpans(h.NegativeSpan),
	}
	if isFloat(h) {
		f.ZeroCount, f.PositiveBuckets, f.NegativeBuckets = h.GetZeroCountFloat(), h.PositiveCount, h.NegativeCount
	} else {
		f.ZeroCount, f.PositiveBuckets, f.NegativeBuckets = float64(h.GetZeroCount()), countsOf(h.PositiveDelta), countsOf(h.NegativeDelta)
	}
	return f
}

func toSpans(spans []*dto.BucketSpan) (out []histogram.Span) {
	for _, s := range spans {
		out = append(out, histogram.Span{Offset: s.GetOffset(), Length: s.GetLength()})
	}
	return out
}

func fromSpans(spans []histogram.Span) (out []*dto.BucketSpan) {
	for _, s := range spans {
		out = append(out, &dto.BucketSpan{Offset: proto.Int32(s.Offset), Length: proto.Uint32(s.Length)})
	}
	return out
}

// countsOf returns the counts of buckets that are pushed each as the difference to the one before.
func countsOf(deltas []int64) (counts []float64) {
	count := int64(0)
	for _, d := range deltas {
		count += d
		counts = append(counts, float64(count))
	}
	return counts
}

func deltasOf(counts []float64) (deltas []int64) {
	before := int64(0)
	for _, c := range counts {
		count := int64(math.Round(c))
		deltas, before = append(deltas, count-before), count
	}
	return deltas
}
