package addup_test

import (
	"bytes"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"

	"pushrelay/internal/addup"
	"pushrelay/internal/exposition"
	"pushrelay/internal/metric"
)

// accepted returns the first family of a body as a push may have it; nil if the body is none that is accepted.
func accepted(body []byte) *dto.MetricFamily {
	b, err := new(exposition.Parser).ParseProtobuf(body, exposition.Options{Names: metric.UTF8Names})
	if err != nil || len(b.Families) == 0 {
		return nil
	}
	mf, err := b.Message(0)
	if err != nil {
		return nil
	}
	return mf
}

func delimited(tb testing.TB, mf *dto.MetricFamily) []byte {
	tb.Helper()
	var body bytes.Buffer
	if _, err := protodelim.MarshalTo(&body, mf); err != nil {
		tb.Fatal(err)
	}
	return body.Bytes()
}

// FuzzAdd looks for two families that are accepted and whose sum is not, or that make adding panic.
func FuzzAdd(f *testing.F) {
	schema, length := int32(3), uint32(2)
	native := &dto.MetricFamily{Name: proto.String("m"), Type: dto.MetricType_HISTOGRAM.Enum(), Metric: []*dto.Metric{{Histogram: &dto.Histogram{
		SampleCount: proto.Uint64(4), Schema: &schema, ZeroThreshold: proto.Float64(0.1), ZeroCount: proto.Uint64(1),
		PositiveSpan: []*dto.BucketSpan{{Offset: proto.Int32(-1), Length: &length}}, PositiveDelta: []int64{1, 1},
	}}}}
	coarse, floats := clone(native), clone(native)
	coarse.Metric[0].Histogram.Schema = proto.Int32(-2)
	h := floats.Metric[0].Histogram
	h.SampleCountFloat, h.ZeroCountFloat, h.PositiveCount, h.PositiveDelta = proto.Float64(1.5), proto.Float64(0.5), []float64{0.5, 0.5}, nil
	counter := &dto.MetricFamily{Name: proto.String("m"), Type: dto.MetricType_COUNTER.Enum(), Metric: []*dto.Metric{{Counter: &dto.Counter{Value: proto.Float64(1)}}}}
	summary := &dto.MetricFamily{Name: proto.String("m"), Type: dto.MetricType_SUMMARY.Enum(), Metric: []*dto.Metric{{Summary: &dto.Summary{SampleCount: proto.Uint64(1)}}}}
	for _, pair := range [][2]*dto.MetricFamily{{native, native}, {native, coarse}, {floats, coarse}, {native, floats}, {counter, counter}, {summary, summary}, {counter, native}} {
		f.Add(delimited(f, pair[0]), delimited(f, pair[1]), uint8(addup.Sum))
	}
	f.Fuzz(func(t *testing.T, first, second []byte, gauges uint8) {
		base, more := accepted(first), accepted(second)
		if base == nil || more == nil {
			return
		}
		more.Name = base.Name
		before := [2]*dto.MetricFamily{clone(base), clone(more)}
		g := addup.Gauges(gauges % 4)
		addup.AreAlike(base, more)
		sum := addup.Add(addup.Add(nil, base, g, noon), more, g, noon)
		if accepted(delimited(t, sum)) == nil {
			_, err := new(exposition.Parser).ParseProtobuf(delimited(t, sum), exposition.Options{Names: metric.UTF8Names})
			t.Errorf("the sum of\n%v and\n%v is not accepted: %v\n%v", before[0], before[1], err, sum)
		}
	})
}
