package queryapi

import (
	"math"
	"math/big"
	"slices"
	"strconv"
	"sync"

	dto "github.com/prometheus/client_model/go"
)

// The ways in which the bounds of a bucket belong to it, as the API numbers them.
const (
	lowerOpen = 0 // (lower, upper]
	upperOpen = 1 // [lower, upper)
	closed    = 3 // [lower, upper]
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

// A nativeBucket is a bucket with its bounds.
type nativeBucket struct {
	boundaries   int
	lower, upper float64
	count        uint64
	float        float64 // instead of count in a float histogram
}

func (b nativeBucket) empty() bool { return b.count == 0 && b.float == 0 }

// appendNativeBuckets appends `[[boundaries,"lower","upper","count"],…]` from the lowest bucket to the highest, without
// empty ones.
func appendNativeBuckets(dst []byte, h *dto.Histogram) []byte {
	dst = append(dst, '[')
	first := true
	for _, b := range nativeBuckets(h) {
		if b.empty() {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = strconv.AppendInt(append(dst, '['), int64(b.boundaries), 10)
		dst = appendNumber(append(dst, ','), b.lower)
		dst = appendNumber(append(dst, ','), b.upper)
		dst = append(appendCount(append(dst, ','), b.count, b.float), ']')
	}
	return append(dst, ']')
}

// nativeBuckets returns the buckets of a native histogram that was checked when it was pushed.
func nativeBuckets(h *dto.Histogram) []nativeBucket {
	buckets := sideBuckets(h.GetNegativeSpan(), h.GetNegativeDelta(), h.GetNegativeCount(), h.GetSchema())
	slices.Reverse(buckets)
	for i := range buckets {
		b := &buckets[i]
		b.boundaries, b.lower, b.upper = upperOpen, -b.upper, -b.lower
	}
	buckets = append(buckets, nativeBucket{
		boundaries: closed, lower: -h.GetZeroThreshold(), upper: h.GetZeroThreshold(), count: h.GetZeroCount(), float: h.GetZeroCountFloat(),
	})
	return append(buckets, sideBuckets(h.GetPositiveSpan(), h.GetPositiveDelta(), h.GetPositiveCount(), h.GetSchema())...)
}

// sideBuckets returns the buckets of one side as if it were the positive one, lowest first. Each bucket has either a delta
// to the one before it or, in a float histogram, a count.
func sideBuckets(spans []*dto.BucketSpan, deltas []int64, counts []float64, schema int32) []nativeBucket {
	buckets := make([]nativeBucket, 0, max(len(deltas), len(counts)))
	var index, count int64
	for _, span := range spans {
		index += int64(span.GetOffset())
		for range span.GetLength() {
			b := nativeBucket{boundaries: lowerOpen, lower: upperBound(index-1, schema), upper: upperBound(index, schema)}
			switch i := len(buckets); {
			case i < len(counts):
				b.float = counts[i]
			case i < len(deltas):
				count += deltas[i]
				b.count = uint64(count)
			default:
				return buckets
			}
			buckets = append(buckets, b)
			index++
		}
	}
	return buckets
}
