package addup_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/prometheus/model/histogram"
	"google.golang.org/protobuf/proto"

	"pushrelay/internal/addup"
)

// randomNative returns a sound native histogram with that resolution.
func randomNative(random *rand.Rand, schema int32, floats bool) *dto.Histogram {
	h := &dto.Histogram{Schema: &schema, ZeroThreshold: proto.Float64([]float64{0, 0.001, 0.1}[random.IntN(3)]), SampleSum: proto.Float64(float64(random.IntN(100)))}
	total := uint64(random.IntN(5))
	h.ZeroCount = proto.Uint64(total)
	side := func() (spans []*dto.BucketSpan, counts []uint64) {
		for i := range random.IntN(3) {
			offset, length := int32(random.IntN(6)), uint32(1+random.IntN(4))
			if i == 0 {
				offset -= 3
			}
			spans = append(spans, &dto.BucketSpan{Offset: &offset, Length: &length})
			for range length {
				counts = append(counts, uint64(random.IntN(9)))
			}
		}
		return spans, counts
	}
	deltas := func(counts []uint64) (d []int64) {
		before := uint64(0)
		for _, c := range counts {
			d, before, total = append(d, int64(c)-int64(before)), c, total+c
		}
		return d
	}
	var positive, negative []uint64
	h.PositiveSpan, positive = side()
	h.NegativeSpan, negative = side()
	h.PositiveDelta, h.NegativeDelta = deltas(positive), deltas(negative)
	h.SampleCount = &total
	if floats {
		toFloats(h, positive, negative)
	}
	if len(h.PositiveSpan) == 0 { // what says that it is native
		h.PositiveSpan = []*dto.BucketSpan{{Offset: proto.Int32(0), Length: proto.Uint32(0)}}
	}
	return h
}

// toFloats makes it a histogram whose counts need not be whole numbers.
func toFloats(h *dto.Histogram, positive, negative []uint64) {
	quarters := func(counts []uint64) (f []float64) {
		for _, c := range counts {
			f = append(f, float64(c)/4)
		}
		return f
	}
	h.PositiveCount, h.NegativeCount, h.PositiveDelta, h.NegativeDelta = quarters(positive), quarters(negative), nil, nil
	h.SampleCountFloat, h.ZeroCountFloat = proto.Float64(float64(h.GetSampleCount())/4), proto.Float64(float64(h.GetZeroCount())/4)
	h.SampleCount, h.ZeroCount = nil, nil
}

// reference returns a native histogram as Prometheus has it.
func reference(h *dto.Histogram) *histogram.FloatHistogram {
	spans := func(in []*dto.BucketSpan) (out []histogram.Span) {
		for _, s := range in {
			out = append(out, histogram.Span{Offset: s.GetOffset(), Length: s.GetLength()})
		}
		return out
	}
	if h.SampleCountFloat != nil {
		return &histogram.FloatHistogram{
			Schema: h.GetSchema(), ZeroThreshold: h.GetZeroThreshold(), ZeroCount: h.GetZeroCountFloat(), Count: h.GetSampleCountFloat(), Sum: h.GetSampleSum(),
			PositiveSpans: spans(h.PositiveSpan), PositiveBuckets: h.PositiveCount, NegativeSpans: spans(h.NegativeSpan), NegativeBuckets: h.NegativeCount,
		}
	}
	whole := histogram.Histogram{
		Schema: h.GetSchema(), ZeroThreshold: h.GetZeroThreshold(), ZeroCount: h.GetZeroCount(), Count: h.GetSampleCount(), Sum: h.GetSampleSum(),
		PositiveSpans: spans(h.PositiveSpan), PositiveBuckets: h.PositiveDelta, NegativeSpans: spans(h.NegativeSpan), NegativeBuckets: h.NegativeDelta,
	}
	return whole.ToFloat(nil)
}

// coarse returns a histogram at the coarser resolution of two: the library adds such without counting anything twice.
func coarse(t *testing.T, h, other *dto.Histogram) *histogram.FloatHistogram {
	t.Helper()
	f := reference(h).Compact(0)
	if other.GetSchema() < f.Schema {
		if err := f.ReduceResolution(other.GetSchema()); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// TestAddNative: native histograms of any two resolutions come to what Prometheus makes of them.
func TestAddNative(t *testing.T) {
	for _, schemas := range [][2]int32{{0, 0}, {3, 3}, {8, 5}, {2, 4}, {-4, 8}} {
		for _, floats := range [][2]bool{{false, false}, {true, true}, {false, true}, {true, false}} {
			t.Run(fmt.Sprint(schemas, floats), func(t *testing.T) {
				random := rand.New(rand.NewPCG(uint64(schemas[0]-schemas[1]), 1))
				for range 200 {
					base, more := randomNative(random, schemas[0], floats[0]), randomNative(random, schemas[1], floats[1])
					compareNative(t, base, more)
				}
			})
		}
	}
}

func compareNative(t *testing.T, base, more *dto.Histogram) {
	t.Helper()
	of := func(h *dto.Histogram) *dto.MetricFamily {
		return &dto.MetricFamily{Type: dto.MetricType_HISTOGRAM.Enum(), Metric: []*dto.Metric{{Histogram: h}}}
	}
	sum := addup.Add(clone(of(base)), clone(of(more)), addup.Last, noon).Metric[0].Histogram
	got := reference(sum)
	want, _, _, err := coarse(t, base, more).Add(coarse(t, more, base)) // which uses them up
	if err != nil {
		t.Fatal(err)
	}
	if err := got.Validate(); err != nil {
		t.Errorf("the sum of %v and %v is %v: %v", base, more, sum, err)
	}
	if !got.Compact(0).Equals(want.Compact(0)) {
		t.Errorf("the sum of %v and %v is\n%v, want\n%v", base, more, got, want)
	}
	// Prometheus reads other numbers than whole ones where there are any.
	if fractions := base.GetSampleCountFloat() > 0 || more.GetSampleCountFloat() > 0; fractions && sum.SampleCountFloat == nil || sum.SampleCount != nil && sum.SampleCountFloat != nil {
		t.Errorf("the sum of %v and %v is %v", base, more, sum)
	}
}
