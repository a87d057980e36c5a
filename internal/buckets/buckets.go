// Package buckets is the buckets of histograms with their bounds, whether they are native or classic ones.
//
// It takes histograms that were checked when they were pushed. Start reading at [OfNative] and [OfClassic].
package buckets

import (
	"math"
	"math/big"
	"slices"
	"sync"

	dto "github.com/prometheus/client_model/go"
)

// The ways in which the bounds of a bucket belong to it, as the API of Prometheus numbers them.
const (
	LowerOpen = 0 // (lower, upper]
	UpperOpen = 1 // [lower, upper)
	Closed    = 3 // [lower, upper]
)

// finestSchema is the finest resolution of native histograms: 2^8 buckets from one power of two to the next.
const finestSchema = 8

// roots holds 2^(i/256) for each i, exactly rounded. The bounds of all schemas are among them, times a power of
// two. (Prometheus has them from a table that is off by up to four units in the last place.)
var roots = sync.OnceValue(func() (r [1 << finestSchema]float64) {
	const precision = 200 // 256 multiplications lose less than 16 bits, and 53 are wanted
	step := new(big.Float).SetPrec(precision).SetInt64(2)
	for range finestSchema {
		step.Sqrt(step)
	}
	power := new(big.Float).SetPrec(precision).SetInt64(1)
	for i := range r {
		r[i], _ = power.Float64()
		power.Mul(power, step)
	}
	return r
})

// upperBound returns the upper bound of the positive bucket with that index. The last bucket that holds finite values ends
// at the largest of them.
func upperBound(index int64, schema int32) float64 {
	exponent, fraction := index<<max(-schema, 0), int64(0)
	if schema > 0 {
		exponent, fraction = index>>schema, index&(1<<schema-1)<<(finestSchema-schema)
	}
	if exponent == 1024 && fraction == 0 {
		return math.MaxFloat64
	}
	// math.Ldexp takes an int, which a hostile index could overflow; beyond these exponents all bounds are 0 or infinite.
	return math.Ldexp(roots()[fraction], int(min(max(exponent, -10000), 10000)))
}

// A Bucket is one bucket with its bounds, and what is in it alone.
type Bucket struct {
	// Boundaries is LowerOpen, UpperOpen or Closed.
	Boundaries   int
	Lower, Upper float64
	// Count is how much is in it; Float instead in a float histogram.
	Count uint64
	Float float64
}

// IsEmpty says whether nothing is in the bucket.
func (b Bucket) IsEmpty() bool { return b.Count == 0 && b.Float == 0 }

// Number returns what is in it, of either kind of histogram.
func (b Bucket) Number() float64 {
	if b.Float != 0 {
		return b.Float
	}
	return float64(b.Count)
}

// OfNative returns the buckets of a native histogram, from the lowest to the highest.
func OfNative(h *dto.Histogram) []Bucket {
	buckets := sideBuckets(h.GetNegativeSpan(), h.GetNegativeDelta(), h.GetNegativeCount(), h.GetSchema())
	slices.Reverse(buckets)
	for i := range buckets {
		b := &buckets[i]
		b.Boundaries, b.Lower, b.Upper = UpperOpen, -b.Upper, -b.Lower
	}
	buckets = append(buckets, Bucket{
		Boundaries: Closed, Lower: -h.GetZeroThreshold(), Upper: h.GetZeroThreshold(), Count: h.GetZeroCount(), Float: h.GetZeroCountFloat(),
	})
	return append(buckets, sideBuckets(h.GetPositiveSpan(), h.GetPositiveDelta(), h.GetPositiveCount(), h.GetSchema())...)
}

// sideBuckets returns the buckets of one side as if it were the positive one, lowest first. Each bucket has either a delta
// to the one before it or, in a float histogram, a count.
func sideBuckets(spans []*dto.BucketSpan, deltas []int64, counts []float64, schema int32) []Bucket {
	buckets := make([]Bucket, 0, max(len(deltas), len(counts)))
	var index, count int64
	for _, span := range spans {
		index += int64(span.GetOffset())
		for range span.GetLength() {
			b := Bucket{Boundaries: LowerOpen, Lower: upperBound(index-1, schema), Upper: upperBound(index, schema)}
			switch i := len(buckets); {
			case i < len(counts):
				b.Float = counts[i]
			case i < len(deltas):
				count += deltas[i]
				b.Count = uint64(count)
			default:
				return buckets
			}
			buckets = append(buckets, b)
			index++
		}
	}
	return buckets
}

// OfClassic returns the buckets of a classic histogram, from the lowest to the highest; what is above the last bound that it has is in a
// bucket up to +Inf.
func OfClassic(h *dto.Histogram) []Bucket {
	out := make([]Bucket, 0, len(h.GetBucket())+1)
	lower, count, float := math.Inf(-1), uint64(0), 0.0
	add := func(upper float64, toCount uint64, toFloat float64) {
		// What is cumulative and falls is no histogram, and is shown as one that has nothing there.
		b := Bucket{Boundaries: LowerOpen, Lower: lower, Upper: upper, Float: max(toFloat-float, 0)}
		if toCount > count {
			b.Count = toCount - count
		}
		out = append(out, b)
		lower, count, float = upper, toCount, toFloat
	}
	for _, b := range h.GetBucket() {
		add(b.GetUpperBound(), b.GetCumulativeCount(), b.GetCumulativeCountFloat())
	}
	if !math.IsInf(lower, +1) {
		add(math.Inf(+1), h.GetSampleCount(), h.GetSampleCountFloat())
	}
	return out
}
