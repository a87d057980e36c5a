package queryapi_test

import (
	"math"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"

	"pushrelay/internal/queryapi"
)

// TestBounds: the bounds of buckets are Prometheus' own in every schema, but for its rounding: its table is off by up to
// four units in the last place, and ours is exact.
func TestBounds(t *testing.T) {
	for schema := int32(-4); schema <= 8; schema++ {
		// From below the smallest power of two to beyond the largest.
		first, last := int64(-1080), int64(1026)
		if schema > 0 {
			first, last = first<<schema, last<<schema
		} else {
			first, last = first>>-schema, last>>-schema+2
		}
		for index := first; index <= last; index++ {
			h := histogram.Histogram{
				Schema: schema, PositiveSpans: []histogram.Span{{Offset: int32(index), Length: 1}}, PositiveBuckets: []int64{1},
			}
			it := h.PositiveBucketIterator()
			it.Next()
			if got, want := queryapi.UpperBound(index, schema), it.At().Upper; !near(got, want) {
				t.Fatalf("UpperBound(%d, %d) = %v, want %v", index, schema, got, want)
			}
		}
	}
}

func near(a, b float64) bool {
	return a == b || math.Abs(a-b) <= 1e-15*b || math.Abs(a-b) <= 4*math.SmallestNonzeroFloat64
}

// TestBoundsOfHostileIndices: spans may lead anywhere that an int32 can.
func TestBoundsOfHostileIndices(t *testing.T) {
	for schema := int32(-4); schema <= 8; schema++ {
		if got := queryapi.UpperBound(math.MaxInt32, schema); !math.IsInf(got, +1) {
			t.Errorf("UpperBound(%d, %d) = %v, want +Inf", math.MaxInt32, schema, got)
		}
		if got := queryapi.UpperBound(math.MinInt32, schema); got != 0 {
			t.Errorf("UpperBound(%d, %d) = %v, want 0", math.MinInt32, schema, got)
		}
	}
}
