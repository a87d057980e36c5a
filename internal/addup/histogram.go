package addup

import (
	"math"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/prometheus/model/histogram"
	"google.golang.org/protobuf/proto"
)

// addHistogram adds two histograms, classic or native. One that is native and one that is not have no buckets in common: the newer one stays.
func addHistogram(base, more *dto.Histogram) *dto.Histogram {
	if isNative(base) != isNative(more) {
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
	if isNative(base) {
		addNative(sum, base, more, whole)
	}
	return sum
}

// isNative says whether Prometheus takes the histogram for one that has buckets by a schema, also if those are all empty: a schema alone is none.
func isNative(h *dto.Histogram) bool {
	return len(h.PositiveSpan)+len(h.NegativeSpan) > 0 || h.GetZeroThreshold() > 0 || h.GetZeroCount() > 0
}

// isWhole says whether the histogram counts in whole numbers.
func isWhole(h *dto.Histogram) bool {
	if h.SampleCountFloat != nil || h.ZeroCountFloat != nil || len(h.PositiveCount) > 0 || len(h.NegativeCount) > 0 {
		return false
	}
	for _, b := range h.Bucket {
		if b.CumulativeCountFloat != nil {
			return false
		}
	}
	return true
}

func countOf(h *dto.Histogram) float64 {
	if h.SampleCountFloat != nil {
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
	if b.CumulativeCountFloat != nil {
		return b.GetCumulativeCountFloat()
	}
	return float64(b.GetCumulativeCount())
}

// addNative adds the native buckets of two histograms, at the coarser of their resolutions.
func addNative(sum, base, more *dto.Histogram, whole bool) {
	a, b := toFloat(base).Compact(0), toFloat(more).Compact(0) // the library takes no spans without buckets
	observed := inBuckets(a) + inBuckets(b)
	a, _, _, err := a.Add(b)
	if err != nil { // of bounds of its own, which the protobuf format does not have
		return
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
	zero := float64(h.GetZeroCount())
	if h.ZeroCountFloat != nil {
		zero = h.GetZeroCountFloat()
	}
	return &histogram.FloatHistogram{
		Schema: h.GetSchema(), ZeroThreshold: h.GetZeroThreshold(), ZeroCount: zero, Count: countOf(h), Sum: h.GetSampleSum(),
		PositiveSpans: toSpans(h.PositiveSpan), PositiveBuckets: countsOf(h.PositiveCount, h.PositiveDelta),
		NegativeSpans: toSpans(h.NegativeSpan), NegativeBuckets: countsOf(h.NegativeCount, h.NegativeDelta),
	}
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

// countsOf returns the counts of buckets that are pushed as they are, or each as the difference to the one before.
func countsOf(counts []float64, deltas []int64) []float64 {
	if len(counts) > 0 {
		return counts
	}
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
