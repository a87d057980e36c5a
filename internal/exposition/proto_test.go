package exposition_test

import (
	"errors"
	"math"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"pushrelay/internal/exposition"
)

func labelPairs(namesAndValues ...string) []*dto.LabelPair {
	var pairs []*dto.LabelPair
	for i := 0; i < len(namesAndValues); i += 2 {
		pairs = append(pairs, &dto.LabelPair{Name: &namesAndValues[i], Value: &namesAndValues[i+1]})
	}
	return pairs
}

func gauge(value float64, namesAndValues ...string) *dto.Metric {
	return &dto.Metric{Label: labelPairs(namesAndValues...), Gauge: &dto.Gauge{Value: &value}}
}

func TestParseProtobuf(t *testing.T) {
	body := protobufOf(t, richFamilies()...)
	got, err := new(exposition.Parser).ParseProtobuf(body, exposition.Options{})
	if err != nil {
		t.Fatalf("ParseProtobuf returned the error %q", err)
	}
	const want = `# HELP anything Help for anything.
# TYPE anything untyped
anything NaN
# HELP backlog Help for backlog.
# TYPE backlog histogram
backlog_bucket{le="1"} 1
backlog_bucket{le="5"} 3
backlog_bucket{le="+Inf"} 4
backlog_sum 10
backlog_count 4
# HELP latency_seconds Help for latency_seconds.
# TYPE latency_seconds histogram
latency_seconds_bucket{k="classic",le="1"} 1
latency_seconds_bucket{k="classic",le="5"} 3
latency_seconds_bucket{k="classic",le="+Inf"} 4
latency_seconds_sum{k="classic"} 10
latency_seconds_count{k="classic"} 4
latency_seconds_bucket{k="native",le="+Inf"} 6
latency_seconds_sum{k="native"} 10
latency_seconds_count{k="native"} 6
latency_seconds_bucket{k="float",le="+Inf"} 4.5
latency_seconds_sum{k="float"} 10
latency_seconds_count{k="float"} 4.5
# HELP requests_total Help for requests_total.
# TYPE requests_total counter
requests_total{a="",z="1"} 3
requests_total 1e+09
# HELP sizes Help for sizes.
# TYPE sizes summary
sizes{quantile="0.5"} 1
sizes{quantile="0.9"} 2
sizes_sum 2.5
sizes_count 7
# HELP temperature Help for temperature.
# TYPE temperature gauge
temperature 0
`
	if diff := cmp.Diff(want, render(t, got)); diff != "" {
		t.Errorf("ParseProtobuf differs (-want +got):\n%s", diff)
	}
}

func TestParseProtobufErrors(t *testing.T) {
	const metric = dto.MetricType_GAUGE
	raw := func(f *dto.MetricFamily, more []byte) []byte {
		wire := append(marshal(t, f), more...)
		return append(protowire.AppendVarint(nil, uint64(len(wire))), wire...)
	}
	typed := func(number uint64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(nil, 3, protowire.VarintType), number)
	}
	nan := math.NaN()
	sound := protobufOf(t, family("m", metric, gauge(1)))
	tests := []struct {
		name string
		body []byte
		want string
	}{
		{"100 cut off", sound[:len(sound)-1], "unexpected EOF"},
		{"length cut off", []byte{0x80}, "unexpected EOF"},
		{"length of 4 GiB", []byte("\xff\xff\xff\xff\x0f"), "unexpected EOF"},
		{"length that is no number", []byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), "proto: variable length integer overflow"},
		{"not protobuf", []byte("\x02\xff\xff"), "proto: cannot parse invalid wire-format data"},
		{"no name", protobufOf(t, &dto.MetricFamily{Metric: []*dto.Metric{gauge(1)}}), `invalid metric name ""`},
		{"name", protobufOf(t, family("a.b", metric, gauge(1))), `invalid metric name "a.b"`},
		{"label name", protobufOf(t, family("m", metric, gauge(1, "a.b", "x"))), `invalid label name "a.b"`},
		{"no label name", protobufOf(t, family("m", metric, &dto.Metric{Label: []*dto.LabelPair{{}}})), `invalid label name ""`},
		{"label value", protobufOf(t, family("m", metric, gauge(1, "a", "\xff"))), `invalid label value "\xff"`},
		{"unit", protobufOf(t, &dto.MetricFamily{Name: new("m"), Unit: new("\xff")}), `invalid unit "\xff" for metric "m"`},
		{"type", raw(family("m", metric, gauge(1)), typed(6)), "unknown metric type 6"},
		{"negative type", raw(family("m", metric, gauge(1)), typed(1<<32-1)), "unknown metric type -1"},
		{"type that wraps around", raw(family("m", metric, gauge(1)), typed(1<<32+9)), "unknown metric type 9"},
		{"rank not a number", protobufOf(t, family("m", dto.MetricType_SUMMARY, &dto.Metric{Summary: &dto.Summary{Quantile: []*dto.Quantile{{Quantile: &nan}}}})), `metric "m" has a quantile that is not a number`},
		{"bound not a number", protobufOf(t, family("m", dto.MetricType_HISTOGRAM, &dto.Metric{Histogram: &dto.Histogram{Bucket: []*dto.Bucket{{UpperBound: &nan}}}})), `metric "m" has a le that is not a number`},
		{"negative bucket", protobufOf(t, family("m", dto.MetricType_HISTOGRAM, &dto.Metric{Histogram: &dto.Histogram{Bucket: []*dto.Bucket{{CumulativeCountFloat: proto.Float64(-1)}}}})), `negative bucket population for histogram "m"`},
		{"negative count", protobufOf(t, family("m", dto.MetricType_HISTOGRAM, &dto.Metric{Histogram: &dto.Histogram{SampleCountFloat: proto.Float64(-1)}})), `negative count for histogram "m"`},
		{"created", protobufOf(t, family("m", dto.MetricType_COUNTER, &dto.Metric{Counter: &dto.Counter{CreatedTimestamp: &timestamppb.Timestamp{Nanos: -1}}})), `invalid created timestamp for metric "m"`},
		{"exemplar label", protobufOf(t, family("m", dto.MetricType_COUNTER, &dto.Metric{Counter: &dto.Counter{Exemplar: &dto.Exemplar{Label: labelPairs("a", "\xff")}}})), `invalid label "a"="\xff" in an exemplar of metric "m"`},
		{"exemplar time", protobufOf(t, family("m", dto.MetricType_COUNTER, &dto.Metric{Counter: &dto.Counter{Exemplar: &dto.Exemplar{Timestamp: &timestamppb.Timestamp{Seconds: math.MaxInt64}}}})), `invalid timestamp in an exemplar of metric "m"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := new(exposition.Parser).ParseProtobuf(tt.body, exposition.Options{})
			var parse *exposition.ParseError
			if !errors.As(err, &parse) || err.Error() != tt.want {
				t.Errorf("ParseProtobuf(%q) returned the error %v, want %s", tt.body, err, tt.want)
			}
		})
	}
}

func TestParseProtobufInconsistent(t *testing.T) {
	bounds := func(bounds ...float64) *dto.Metric {
		h := &dto.Histogram{}
		for _, b := range bounds {
			h.Bucket = append(h.Bucket, &dto.Bucket{UpperBound: &b})
		}
		return &dto.Metric{Histogram: h}
	}
	tests := []struct {
		name   string
		family *dto.MetricFamily
		want   string
	}{
		{"103 counter with the value of a gauge", family("m", dto.MetricType_COUNTER, gauge(1, "a", "b")), `collected metric "m" {a="b"} is not a COUNTER`},
		{"no type, which is a counter", &dto.MetricFamily{Name: new("m"), Metric: []*dto.Metric{gauge(1)}}, `collected metric "m" {} is not a COUNTER`},
		{"gauge histogram with the value of a gauge", family("m", dto.MetricType_GAUGE_HISTOGRAM, gauge(1)), `collected metric "m" {} is not a GAUGE_HISTOGRAM`},
		{"no value at all", family("m", dto.MetricType_UNTYPED, &dto.Metric{}), `collected metric "m" {} is not a UNTYPED`},
		{"label twice", family("m", dto.MetricType_GAUGE, gauge(1, "b", "1", "a", "2", "b", "3")), `collected metric "m" {a="2",b="1",b="3"} has two or more labels with the same name: b`},
		{"name as a label", family("m", dto.MetricType_GAUGE, gauge(1, "__name__", "x")), `collected metric "m" {__name__="x"} has a label with an invalid name: __name__`},
		{"quantile", family("m", dto.MetricType_SUMMARY, &dto.Metric{Label: labelPairs("quantile", "x"), Summary: &dto.Summary{}}), `collected metric "m" {quantile="x"} must not have an explicit "quantile" label`},
		{"le", family("m", dto.MetricType_HISTOGRAM, &dto.Metric{Label: labelPairs("le", "x"), Histogram: &dto.Histogram{}}), `collected metric "m" {le="x"} must not have an explicit "le" label`},
		{"bucket twice", family("m", dto.MetricType_HISTOGRAM, bounds(0, 1, math.Copysign(0, -1))), `collected metric "m_bucket" {le="0"} was collected before with the same name and label values`},
		{"+Inf twice", family("m", dto.MetricType_HISTOGRAM, bounds(math.Inf(1), math.Inf(1))), `collected metric "m_bucket" {le="+Inf"} was collected before with the same name and label values`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := new(exposition.Parser).ParseProtobuf(protobufOf(t, tt.family), exposition.Options{})
			var inconsistent *exposition.InconsistentError
			if !errors.As(err, &inconsistent) || err.Error() != tt.want {
				t.Errorf("ParseProtobuf(%v) returned the error %v, want %s", tt.family, err, tt.want)
			}
		})
	}
}

func TestParseProtobufOddities(t *testing.T) {
	foreign := gauge(1)
	foreign.Counter = &dto.Counter{Value: proto.Float64(7)}
	stamped := gauge(1)
	stamped.TimestampMs = proto.Int64(0)
	broken := family("m", dto.MetricType_GAUGE, gauge(1))
	broken.Help = new("a\xff\xfeb\n")
	tests := []struct {
		name     string
		families []*dto.MetricFamily
		want     string
	}{
		{"99 empty", nil, ""},
		{"family without metrics", []*dto.MetricFamily{family("m", dto.MetricType_GAUGE)}, ""},
		{
			"98 the last of a name wins",
			[]*dto.MetricFamily{
				family("m", dto.MetricType_GAUGE, gauge(1), gauge(2, "a", "b")), family("n", dto.MetricType_GAUGE, gauge(3)),
				{Name: new("m"), Type: dto.MetricType_GAUGE.Enum(), Metric: []*dto.Metric{gauge(4, "x", "y")}},
			},
			"# TYPE m gauge\nm{x=\"y\"} 4\n# HELP n Help for n.\n# TYPE n gauge\nn 3\n",
		},
		{"98 and if it has no metrics", []*dto.MetricFamily{family("m", dto.MetricType_GAUGE, gauge(1)), family("m", dto.MetricType_GAUGE)}, ""},
		{"102 timestamp, if only 0", []*dto.MetricFamily{family("m", dto.MetricType_GAUGE, stamped)}, "# HELP m Help for m.\n# TYPE m gauge\nm 1 @\n"},
		{"value of another type", []*dto.MetricFamily{family("m", dto.MetricType_GAUGE, foreign)}, "# HELP m Help for m.\n# TYPE m gauge\nm 1\n"},
		{"HELP not UTF-8", []*dto.MetricFamily{broken}, "# HELP m a\uFFFDb\\n\n# TYPE m gauge\nm 1\n"},
		{"empty value", []*dto.MetricFamily{family("m", dto.MetricType_GAUGE, &dto.Metric{Gauge: &dto.Gauge{}})}, "# HELP m Help for m.\n# TYPE m gauge\nm 0\n"},
		{"stale marker", []*dto.MetricFamily{family("m", dto.MetricType_GAUGE, gauge(math.Float64frombits(0x7ff0000000000002)))}, "# HELP m Help for m.\n# TYPE m gauge\nm NaN\n"},
	}
	parser := new(exposition.Parser)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parser.ParseProtobuf(protobufOf(t, tt.families...), exposition.Options{})
			if err != nil {
				t.Fatalf("ParseProtobuf returned the error %q", err)
			}
			if diff := cmp.Diff(tt.want, render(t, got)); diff != "" {
				t.Errorf("ParseProtobuf differs (-want +got):\n%s", diff)
			}
			for _, m := range got.Metrics {
				if m.Extra != nil {
					t.Errorf("a metric has an Extra: %q", m.Extra.Wire)
				}
				if v := got.Points[m.Points.Start].Value; math.IsNaN(v) && math.Float64bits(v) != math.Float64bits(math.NaN()) {
					t.Errorf("a NaN has kept its payload: %x", math.Float64bits(v))
				}
			}
		})
	}
}

func TestCreatedTimestamps(t *testing.T) {
	when := time.Date(2026, 11, 22, 7, 33, 0, 87166179, time.UTC)
	before := time.Date(1969, 12, 31, 23, 59, 59, 5e8, time.UTC)
	body := protobufOf(t,
		family("c", dto.MetricType_COUNTER, &dto.Metric{Counter: &dto.Counter{CreatedTimestamp: timestamppb.New(when)}}),
		family("s", dto.MetricType_SUMMARY, &dto.Metric{Summary: &dto.Summary{CreatedTimestamp: timestamppb.New(before)}}),
		family("h", dto.MetricType_HISTOGRAM, &dto.Metric{Histogram: &dto.Histogram{CreatedTimestamp: timestamppb.New(when)}}),
		family("g", dto.MetricType_GAUGE, gauge(1)))
	got, err := new(exposition.Parser).ParseProtobuf(body, exposition.Options{})
	if err != nil {
		t.Fatalf("ParseProtobuf returned the error %q", err)
	}
	for i, want := range []int64{when.UnixNano(), before.UnixNano(), when.UnixNano(), 0} {
		if m := got.Metrics[i]; m.Created != want || m.Extra != nil {
			t.Errorf("metric %d is created at %d with Extra %v, want %d and none", i, m.Created, m.Extra, want)
		}
	}
}

// What Extra holds must be the whole value, and nothing else, so that it can follow any labels.
func TestExtra(t *testing.T) {
	families := richFamilies()
	got, err := new(exposition.Parser).ParseProtobuf(protobufOf(t, families...), exposition.Options{})
	if err != nil {
		t.Fatalf("ParseProtobuf returned the error %q", err)
	}
	var natives []string
	for i, f := range got.Families {
		for k, m := range got.Metrics[f.Metrics.Start:f.Metrics.End] {
			if m.Extra == nil {
				continue
			}
			sent := families[i].Metric[k]
			if m.Extra.Native {
				natives = append(natives, sent.Label[0].GetValue())
			}
			wire := marshal(t, &dto.Metric{Label: labelPairs("other", "label")})
			var read dto.Metric
			if err := proto.Unmarshal(append(wire, m.Extra.Wire...), &read); err != nil {
				t.Fatalf("reading Extra: %v", err)
			}
			want := proto.Clone(sent).(*dto.Metric)
			want.Label = labelPairs("other", "label")
			if diff := cmp.Diff(want, &read, protocmp.Transform()); diff != "" {
				t.Errorf("Extra of metric %d of %s (-want +got):\n%s", k, f.Name, diff)
			}
		}
	}
	if diff := cmp.Diff([]string{"native", "float"}, natives); diff != "" {
		t.Errorf("native histograms (-want +got):\n%s", diff)
	}
}

// A length that no body can have must not be believed: memory for it is never asked for.
func TestClaimedLengthCostsNothing(t *testing.T) {
	p := new(exposition.Parser)
	body := []byte("\xff\xff\xff\xff\x07")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 100 {
		if _, err := p.ParseProtobuf(body, exposition.Options{}); err == nil {
			t.Fatal("the body was accepted")
		}
	}
	runtime.ReadMemStats(&after)
	if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 1<<20 {
		t.Errorf("refusing five bytes a hundred times allocates %d bytes", allocated)
	}
}
