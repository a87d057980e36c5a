package exposition_test

import (
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"google.golang.org/protobuf/proto"

	"pushrelay/internal/exposition"
)

func TestInvalidNativeHistograms(t *testing.T) {
	tests := []struct {
		name   string
		change func(ints, floats *dto.Histogram)
		want   string // of both, or of the one that was changed
	}{
		{"schema", func(i, f *dto.Histogram) { i.Schema, f.Schema = proto.Int32(9), proto.Int32(9) }, "schema 9 is not between -4 and 8"},
		{"too few buckets", func(i, f *dto.Histogram) {
			i.PositiveDelta, f.PositiveCount = i.PositiveDelta[1:], f.PositiveCount[1:]
		}, "positive side: spans of"},
		{"too many buckets", func(i, f *dto.Histogram) { i.NegativeSpan = nil; f.NegativeCount = []float64{1} }, "negative side: spans of 0 buckets, 1 buckets"},
		{"negative count", func(i, f *dto.Histogram) { i.PositiveDelta[1] = -5; f.PositiveCount[1] = -5 }, "a bucket has a negative count"},
		{"negative offset", func(i, f *dto.Histogram) {
			i.PositiveSpan[1].Offset = proto.Int32(-1)
			f.PositiveSpan[0].Offset = proto.Int32(math.MinInt32)
		}, "span"},
		{"index out of range", func(i, f *dto.Histogram) {
			i.PositiveSpan[0].Offset = proto.Int32(math.MaxInt32 - 1)
			f.PositiveSpan[0].Offset = proto.Int32(math.MaxInt32)
		}, "ends at bucket"},
		{"count too small", func(i, _ *dto.Histogram) { i.SampleCount = proto.Uint64(5) }, "6 observations in buckets, 5 in the count"},
		{"count too large", func(i, _ *dto.Histogram) { i.SampleCount = proto.Uint64(7) }, "6 observations in buckets, 7 in the count"},
		{"negative zero count", func(_, f *dto.Histogram) { f.ZeroCountFloat = proto.Float64(-1) }, "a count is negative"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ints, floats := nativeHistogram(), floatHistogram()
			tt.change(ints, floats)
			for _, h := range []*dto.Histogram{ints, floats} {
				if proto.Equal(h, nativeHistogram()) || proto.Equal(h, floatHistogram()) {
					continue
				}
				_, err := parseHistogram(t, h)
				var inconsistent *exposition.InconsistentError
				if !errors.As(err, &inconsistent) || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("%v: error is %v, want one with %q", h, err, tt.want)
				}
			}
		})
	}
}

// Observations that are NaN make the sum NaN and are in no bucket: this is no fault.
func TestNativeHistogramWithNaN(t *testing.T) {
	h := nativeHistogram()
	h.SampleCount, h.SampleSum = proto.Uint64(7), new(math.NaN())
	if _, err := parseHistogram(t, h); err != nil {
		t.Errorf("error is %v", err)
	}
}

// Buckets pushed beside a native histogram are kept, and one without observations is told from a classic one by its
// no-op span.
func TestNativeHistogramPoints(t *testing.T) {
	both := nativeHistogram()
	both.Bucket = classicHistogram(nil).Bucket
	empty := &dto.Histogram{Schema: proto.Int32(3), PositiveSpan: []*dto.BucketSpan{{Offset: proto.Int32(0), Length: proto.Uint32(0)}}}
	classic := classicHistogram(nil)
	classic.Schema = proto.Int32(3)
	for _, tt := range []struct {
		h      *dto.Histogram
		points int
		native bool
	}{{both, 5, true}, {empty, 3, true}, {classic, 5, false}} {
		body, err := parseHistogram(t, tt.h)
		if err != nil {
			t.Errorf("%v: error is %v", tt.h, err)
			continue
		}
		m := body.Metrics[0]
		if m.Points.Len() != tt.points || m.Extra == nil || m.Extra.Native != tt.native {
			t.Errorf("%v has %d points and Extra %v, want %d points", tt.h, m.Points.Len(), m.Extra, tt.points)
		}
	}
}

// TestNativeHistogramsAreReadableByPrometheus makes native histograms that are nearly sound at random. What the parser
// accepts Prometheus must accept, because it breaks off a scrape with one that it does not, and the other way round.
func TestNativeHistogramsAreReadableByPrometheus(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	accepted := 0
	const rounds = 5000
	for range rounds {
		h := randomNative(rng)
		_, err := parseHistogram(t, h)
		wantErr := prometheusReads(protobufOf(t, family("h", dto.MetricType_HISTOGRAM, &dto.Metric{Histogram: h})))
		// Prometheus drops spans without buckets before it looks at the offsets; nobody sends such spans in earnest.
		if wantErr == nil && err != nil && strings.Contains(err.Error(), "span ") {
			continue
		}
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%v: error is %v, Prometheus says %v (seed %d)", h, err, wantErr, seed)
		}
		if err == nil {
			accepted++
		}
	}
	if accepted < rounds/20 || accepted > rounds*19/20 {
		t.Errorf("%d of %d histograms were accepted: the test does not tell much", accepted, rounds)
	}
}

func randomNative(rng *rand.Rand) *dto.Histogram {
	h := &dto.Histogram{SampleSum: proto.Float64(1), Schema: new(int32(rng.IntN(13) - 4))}
	if rng.IntN(8) == 0 {
		h.Schema = new(int32(rng.IntN(200) - 100))
	}
	if rng.IntN(4) == 0 {
		h.SampleSum = new(math.NaN())
	}
	floats := rng.IntN(2) == 0
	total := uint64(0)
	side := func() (spans []*dto.BucketSpan, deltas []int64, counts []float64) {
		last := int64(0)
		for i := range rng.IntN(3) {
			offset, length := int32(rng.IntN(3)), uint32(rng.IntN(3))
			if i == 0 {
				offset -= 2
			}
			if rng.IntN(20) == 0 {
				offset = []int32{-1, math.MinInt32, math.MaxInt32}[rng.IntN(3)]
			}
			spans = append(spans, &dto.BucketSpan{Offset: &offset, Length: &length})
			if rng.IntN(20) == 0 {
				length++
			}
			for range length {
				count := int64(rng.IntN(20))
				if rng.IntN(20) == 0 {
					count = -1
				}
				total += uint64(count)
				deltas = append(deltas, count-last)
				counts = append(counts, float64(count))
				last = count
			}
		}
		return spans, deltas, counts
	}
	var deltas [2][]int64
	var counts [2][]float64
	h.PositiveSpan, deltas[0], counts[0] = side()
	h.NegativeSpan, deltas[1], counts[1] = side()
	if rng.IntN(10) == 0 {
		total++
	}
	if floats {
		h.PositiveCount, h.NegativeCount = counts[0], counts[1]
		h.SampleCountFloat = new(float64(total))
		h.ZeroThreshold, h.ZeroCountFloat = new(0.1), new(float64(rng.IntN(4)-1))
	} else {
		h.PositiveDelta, h.NegativeDelta = deltas[0], deltas[1]
		h.ZeroThreshold, h.ZeroCount = new(0.1), proto.Uint64(1)
		h.SampleCount = new(total + 1)
	}
	return h
}

func parseHistogram(tb testing.TB, h *dto.Histogram) (*exposition.Body, error) {
	tb.Helper()
	body := protobufOf(tb, family("h", dto.MetricType_HISTOGRAM, &dto.Metric{Histogram: h}))
	return new(exposition.Parser).ParseProtobuf(body, exposition.Options{})
}

// prometheusReads does with a scraped body what Prometheus does with it up to the storage.
func prometheusReads(body []byte) error {
	p := textparse.NewProtobufParser(body, false, false, false, false, labels.NewSymbolTable())
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if entry != textparse.EntryHistogram {
			continue
		}
		_, _, h, fh := p.Histogram()
		if h != nil {
			err = h.Validate()
		} else {
			err = fh.Validate()
		}
		if err != nil {
			return err
		}
	}
}
