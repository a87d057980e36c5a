package exposition_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strconv"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"pushrelay/internal/exposition"
	"pushrelay/internal/metric"
)

// FuzzParseProtobuf looks for bodies that make the scanner panic or that it understands in another way than the protobuf
// library. A body is made of two families, so that chance does not break the lengths in front of them.
func FuzzParseProtobuf(f *testing.F) {
	rich := richFamilies()
	for i, family := range rich {
		f.Add(marshal(f, family), marshal(f, rich[(i+1)%len(rich)]), false)
		f.Add(marshal(f, family), marshal(f, family), true)
	}
	parser := new(exposition.Parser)
	f.Fuzz(func(t *testing.T, first, second []byte, utf8Names bool) {
		names := metric.LegacyNames
		if utf8Names {
			names = metric.UTF8Names
		}
		body := append(binary.AppendUvarint(nil, uint64(len(first))), first...)
		body = append(binary.AppendUvarint(body, uint64(len(second))), second...)
		compareProtobuf(t, parser, body, names)
		// A body cut off anywhere must be refused or be what it is without its second family.
		compareProtobuf(t, parser, body[:len(body)-len(second)/2], names)
	})
}

func marshal(tb testing.TB, m proto.Message) []byte {
	tb.Helper()
	wire, err := proto.Marshal(m)
	if err != nil {
		tb.Fatalf("encoding a seed: %v", err)
	}
	return wire
}

// TestRandomProtobufIsTakenAsTheLibraryTakesIt makes sound families at random: all of them must be accepted.
func TestRandomProtobufIsTakenAsTheLibraryTakesIt(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	parser := new(exposition.Parser)
	for range 3000 {
		var families []*dto.MetricFamily
		for i := range rng.IntN(5) {
			families = append(families, randomFamily(rng, fmt.Sprintf("m%d", i)))
		}
		body := protobufOf(t, families...)
		if _, err := parser.ParseProtobuf(body, exposition.Options{}); err != nil {
			t.Fatalf("ParseProtobuf(%v) returned the error %q (seed %d)", families, err, seed)
		}
		compareProtobuf(t, parser, body, metric.LegacyNames)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func randomFamily(rng *rand.Rand, name string) *dto.MetricFamily {
	f := family(name, dto.MetricType(rng.IntN(6)))
	for i := range rng.IntN(4) {
		m := &dto.Metric{}
		for _, l := range []string{"z", "b", "a"}[:rng.IntN(4)] {
			m.Label = append(m.Label, &dto.LabelPair{Name: new(l), Value: new(strconv.Itoa(i))})
		}
		switch f.GetType() {
		case dto.MetricType_COUNTER:
			m.Counter = &dto.Counter{Value: randomFloat(rng)}
		case dto.MetricType_GAUGE:
			m.Gauge = &dto.Gauge{Value: randomFloat(rng)}
		case dto.MetricType_UNTYPED:
			m.Untyped = &dto.Untyped{Value: randomFloat(rng)}
		case dto.MetricType_SUMMARY:
			m.Summary = &dto.Summary{SampleSum: randomFloat(rng), SampleCount: new(rng.Uint64() >> rng.IntN(64))}
			for _, q := range rng.Perm(4)[:rng.IntN(4)] {
				m.Summary.Quantile = append(m.Summary.Quantile, &dto.Quantile{Quantile: new(float64(q) / 4), Value: randomFloat(rng)})
			}
		default:
			m.Histogram = &dto.Histogram{SampleSum: randomFloat(rng), SampleCount: new(rng.Uint64() >> rng.IntN(64))}
			for _, b := range rng.Perm(4)[:rng.IntN(4)] {
				bound := []float64{-1, 0, 0.1, math.Inf(1)}[b]
				m.Histogram.Bucket = append(m.Histogram.Bucket, &dto.Bucket{UpperBound: &bound, CumulativeCount: new(rng.Uint64() >> rng.IntN(64))})
			}
		}
		f.Metric = append(f.Metric, m)
	}
	return f
}

func randomFloat(rng *rand.Rand) *float64 {
	if rng.IntN(10) == 0 {
		return nil
	}
	f := []float64{0, math.Copysign(0, -1), 1, -1, 1e5, 1e6, 123456, 0.0001, 0.00001, math.NaN(), math.Inf(1), math.Inf(-1), 1e22, 1e300, rng.Float64(), float64(rng.IntN(1e9)), math.Float64frombits(rng.Uint64())}
	return &f[rng.IntN(len(f))]
}

func compareProtobuf(t *testing.T, parser *exposition.Parser, body []byte, names metric.NameScheme) {
	t.Helper()
	got, err := parser.ParseProtobuf(body, exposition.Options{Names: names})
	want, wantErr := decodeReference(body)
	if err != nil {
		var parse *exposition.ParseError
		var inconsistent *exposition.InconsistentError
		if !errors.As(err, &parse) && !errors.As(err, &inconsistent) {
			t.Fatalf("ParseProtobuf(%q) returned an error of type %T", body, err)
		}
		return
	}
	if wantErr != nil {
		t.Fatalf("ParseProtobuf(%q) succeeds, the library says %v", body, wantErr)
	}
	for _, f := range got.Families {
		ref := want[string(f.Name)]
		for i := range f.Metrics.Len() {
			compareMetric(t, &got.Metrics[int(f.Metrics.Start)+i], ref.Metric[i])
		}
		if string(f.Unit) != ref.GetUnit() {
			t.Errorf("unit of %q is %q, want %q", f.Name, f.Unit, ref.GetUnit())
		}
	}
	if got, want := withoutTimestamps(t, render(t, got)), withoutTimestamps(t, renderReference(t, want)); got != want {
		t.Fatalf("ParseProtobuf(%q) =\n%swant\n%s", body, got, want)
	}
}

// compareMetric compares what the text format does not show.
func compareMetric(t *testing.T, got *exposition.Metric, want *dto.Metric) {
	t.Helper()
	if got.HasTimestamp != (want.TimestampMs != nil) {
		t.Errorf("HasTimestamp of %v is %v", want, got.HasTimestamp)
	}
	if (got.Extra != nil) != needsExtra(want) {
		t.Errorf("Extra of %v is %v", want, got.Extra)
	}
	if got.Extra == nil {
		return
	}
	var extra dto.Metric
	if err := proto.Unmarshal(got.Extra.Wire, &extra); err != nil {
		t.Errorf("reading Extra of %v: %v", want, err)
	}
	if extra.Label != nil || extra.TimestampMs != nil || extra.Gauge != nil || extra.Untyped != nil || extra.Summary != nil {
		t.Errorf("Extra of %v holds too much: %v", want, &extra)
	}
	// Kinds of value that are not the family's are left out, and unknown fields, too.
	if extra.Counter != nil && !equalKnown(extra.Counter, want.Counter) || extra.Histogram != nil && !equalKnown(extra.Histogram, want.Histogram) {
		t.Errorf("Extra = %v, want the value of %v", &extra, want)
	}
}

func equalKnown(got, want proto.Message) bool {
	a, err := proto.MarshalOptions{Deterministic: true}.Marshal(got)
	if err != nil {
		return false
	}
	known := want.ProtoReflect().New().Interface()
	wire, err := proto.Marshal(want)
	if err != nil || (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(wire, known) != nil {
		return false
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(known)
	return err == nil && bytes.Equal(a, b)
}

func needsExtra(m *dto.Metric) bool {
	if m.GetCounter().GetExemplar() != nil {
		return m.Histogram == nil // otherwise it depends on the family's type
	}
	h := m.Histogram
	if h == nil {
		return false
	}
	for _, b := range h.Bucket {
		if b.Exemplar != nil || b.GetCumulativeCountFloat() != 0 {
			return true
		}
	}
	return h.GetSampleCountFloat() != 0 || h.Schema != nil || h.ZeroThreshold != nil || h.ZeroCount != nil || h.ZeroCountFloat != nil ||
		len(h.PositiveSpan)+len(h.NegativeSpan)+len(h.PositiveDelta)+len(h.PositiveCount)+len(h.NegativeDelta)+len(h.NegativeCount)+len(h.Exemplars) > 0
}

// decodeReference decodes a body with the protobuf library. Of several families with one name the last is taken, and a
// family without metrics is left out.
func decodeReference(body []byte) (map[string]*dto.MetricFamily, error) {
	families := map[string]*dto.MetricFamily{}
	r := bytes.NewReader(body)
	for {
		f := new(dto.MetricFamily)
		err := (protodelim.UnmarshalOptions{MaxSize: int64(max(1, len(body)))}).UnmarshalFrom(r, f)
		if errors.Is(err, io.EOF) {
			return families, nil
		}
		if err != nil {
			return nil, err
		}
		f.Type = f.GetType().Enum()
		delete(families, f.GetName())
		if len(f.Metric) > 0 {
			families[f.GetName()] = f
		}
	}
}

// richFamilies returns one family of each kind with all that the format can say.
func richFamilies() []*dto.MetricFamily {
	label := func(name, value string) *dto.LabelPair { return &dto.LabelPair{Name: &name, Value: &value} }
	when := timestamppb.New(timestamppb.Now().AsTime().Truncate(1e9))
	exemplar := &dto.Exemplar{Label: []*dto.LabelPair{label("trace_id", "abc")}, Value: new(0.7), Timestamp: when}
	counter := family("requests_total", dto.MetricType_COUNTER,
		&dto.Metric{Label: []*dto.LabelPair{label("z", "1"), label("a", "")}, Counter: &dto.Counter{Value: proto.Float64(3), CreatedTimestamp: when}},
		&dto.Metric{Counter: &dto.Counter{Value: new(1e9), Exemplar: exemplar}})
	counter.Unit = new("requests")
	return []*dto.MetricFamily{
		counter,
		family("temperature", dto.MetricType_GAUGE, &dto.Metric{Gauge: &dto.Gauge{Value: new(math.Copysign(0, -1))}}),
		family("anything", dto.MetricType_UNTYPED, &dto.Metric{Untyped: &dto.Untyped{Value: new(math.NaN())}}),
		family("sizes", dto.MetricType_SUMMARY, &dto.Metric{Summary: &dto.Summary{
			SampleCount: proto.Uint64(7), SampleSum: new(2.5), CreatedTimestamp: when,
			Quantile: []*dto.Quantile{{Quantile: new(0.9), Value: proto.Float64(2)}, {Quantile: new(0.5), Value: proto.Float64(1)}},
		}}),
		family("latency_seconds", dto.MetricType_HISTOGRAM,
			&dto.Metric{Label: []*dto.LabelPair{label("k", "classic")}, Histogram: classicHistogram(exemplar)},
			&dto.Metric{Label: []*dto.LabelPair{label("k", "native")}, Histogram: nativeHistogram()},
			&dto.Metric{Label: []*dto.LabelPair{label("k", "float")}, Histogram: floatHistogram()}),
		family("backlog", dto.MetricType_GAUGE_HISTOGRAM, &dto.Metric{Histogram: classicHistogram(nil)}),
	}
}

func classicHistogram(e *dto.Exemplar) *dto.Histogram {
	return &dto.Histogram{SampleCount: proto.Uint64(4), SampleSum: proto.Float64(10), Bucket: []*dto.Bucket{
		{UpperBound: proto.Float64(1), CumulativeCount: proto.Uint64(1)},
		{UpperBound: proto.Float64(5), CumulativeCount: proto.Uint64(3), Exemplar: e},
	}}
}

func nativeHistogram() *dto.Histogram {
	return &dto.Histogram{
		SampleCount: proto.Uint64(6), SampleSum: proto.Float64(10), Schema: proto.Int32(3), ZeroThreshold: new(1e-128), ZeroCount: proto.Uint64(1),
		PositiveSpan: []*dto.BucketSpan{{Offset: proto.Int32(-2), Length: proto.Uint32(2)}, {Offset: proto.Int32(3), Length: proto.Uint32(1)}},
		// The counts are 1, 2 and 1.
		PositiveDelta: []int64{1, 1, -1},
		NegativeSpan:  []*dto.BucketSpan{{Offset: proto.Int32(0), Length: proto.Uint32(1)}},
		NegativeDelta: []int64{1},
	}
}

func floatHistogram() *dto.Histogram {
	return &dto.Histogram{
		SampleCountFloat: new(4.5), SampleSum: proto.Float64(10), Schema: proto.Int32(0), ZeroThreshold: new(0.001), ZeroCountFloat: new(0.5),
		PositiveSpan:  []*dto.BucketSpan{{Offset: proto.Int32(1), Length: proto.Uint32(2)}},
		PositiveCount: []float64{1.5, 2.5},
	}
}
