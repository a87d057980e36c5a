package buckets_test

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"

	"github.com/prometheus/prometheus/model/histogram"

	"pushrelay/internal/buckets"
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
			if got, want := buckets.UpperBound(index, schema), it.At().Upper; !near(got, want) {
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
		if got := buckets.UpperBound(math.MaxInt32, schema); !math.IsInf(got, +1) {
			t.Errorf("UpperBound(%d, %d) = %v, want +Inf", math.MaxInt32, schema, got)
		}
		if got := buckets.UpperBound(math.MinInt32, schema); got != 0 {
			t.Errorf("UpperBound(%d, %d) = %v, want 0", math.MinInt32, schema, got)
		}
	}
}

func TestOfClassic(t *testing.T) {
	bound := func(upper float64, cumulative uint64) *dto.Bucket {
		return &dto.Bucket{UpperBound: &upper, CumulativeCount: &cumulative}
	}
	nine, inf := uint64(9), math.Inf(+1)
	for _, tt := range []struct {
		name string
		h    *dto.Histogram
		want []buckets.Bucket
	}{
		{"none but the last", &dto.Histogram{SampleCount: &nine}, []buckets.Bucket{{Lower: -inf, Upper: inf, Count: 9}}},
		{
			"without the last", &dto.Histogram{SampleCount: &nine, Bucket: []*dto.Bucket{bound(1, 2), bound(2, 2), bound(5, 8)}},
			[]buckets.Bucket{{Lower: -inf, Upper: 1, Count: 2}, {Lower: 1, Upper: 2}, {Lower: 2, Upper: 5, Count: 6}, {Lower: 5, Upper: inf, Count: 1}},
		},
		{
			"with the last, and falling", &dto.Histogram{SampleCount: &nine, Bucket: []*dto.Bucket{bound(1, 5), bound(2, 3), bound(inf, 9)}},
			[]buckets.Bucket{{Lower: -inf, Upper: 1, Count: 5}, {Lower: 1, Upper: 2}, {Lower: 2, Upper: inf, Count: 6}},
		},
	} {
		if diff := cmp.Diff(tt.want, buckets.OfClassic(tt.h)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}
