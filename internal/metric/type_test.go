package metric_test

import (
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/reflect/protoreflect"

	"pushrelay/internal/metric"
)

// all are the types with all that is asked of them.
var all = []struct {
	typ    metric.Type
	number uint8 // on disk

	people, text, openMetrics, protobuf string
	proto                               dto.MetricType
	value, created                      protoreflect.Name // of fields; empty for none
	openSuffix                          string

	simple, bucketed bool
	lines            [2]int  // without bounds, and with three
	counts           [5]bool // of three bounds, sum and count; of the one line there is
	boundLabel       string
	suffixes         [3]string // of bound, sum and count
}{
	{
		typ: metric.Untyped, number: 0, people: "untyped", text: "untyped", openMetrics: "unknown", protobuf: "UNTYPED",
		proto: dto.MetricType_UNTYPED, value: "untyped",
		simple: true, lines: [2]int{1, 1},
	},
	{
		typ: metric.Gauge, number: 1, people: "gauge", text: "gauge", openMetrics: "gauge", protobuf: "GAUGE",
		proto: dto.MetricType_GAUGE, value: "gauge",
		simple: true, lines: [2]int{1, 1},
	},
	{
		typ: metric.Counter, number: 2, people: "counter", text: "counter", openMetrics: "counter", protobuf: "COUNTER",
		proto: dto.MetricType_COUNTER, value: "counter", created: "created_timestamp", openSuffix: "_total",
		simple: true, lines: [2]int{1, 1},
	},
	{
		typ: metric.Summary, number: 3, people: "summary", text: "summary", openMetrics: "summary", protobuf: "SUMMARY",
		proto: dto.MetricType_SUMMARY, value: "summary", created: "created_timestamp",
		lines: [2]int{2, 5}, counts: [5]bool{4: true},
		boundLabel: "quantile", suffixes: [3]string{"", "_sum", "_count"},
	},
	{
		typ: metric.Histogram, number: 4, people: "histogram", text: "histogram", openMetrics: "histogram", protobuf: "HISTOGRAM",
		proto: dto.MetricType_HISTOGRAM, value: "histogram", created: "created_timestamp",
		bucketed: true, lines: [2]int{2, 5}, counts: [5]bool{true, true, true, false, true},
		boundLabel: "le", suffixes: [3]string{"_bucket", "_sum", "_count"},
	},
	{
		typ: metric.GaugeHistogram, number: 5, people: "gauge histogram", text: "histogram", openMetrics: "gaugehistogram", protobuf: "GAUGE_HISTOGRAM",
		proto: dto.MetricType_GAUGE_HISTOGRAM, value: "histogram", created: "created_timestamp",
		bucketed: true, lines: [2]int{2, 5}, counts: [5]bool{true, true, true, false, true},
		boundLabel: "le", suffixes: [3]string{"_bucket", "_sum", "_count"},
	},
}

var roles = [...]metric.Role{metric.BoundLine, metric.SumLine, metric.CountLine}

func TestTypes(t *testing.T) {
	for i, want := range all {
		typ := want.typ
		if int(typ) != i || uint8(typ) != want.number || !typ.Known() {
			t.Errorf("%s is number %d, known: %v", typ, uint8(typ), typ.Known())
		}
		got := [...]string{typ.String(), typ.Text(), typ.OpenMetrics(), typ.Protobuf(), typ.OpenSuffix(), typ.BoundLabel()}
		if got != [...]string{want.people, want.text, want.openMetrics, want.protobuf, want.openSuffix, want.boundLabel} {
			t.Errorf("%s has the texts %q", want.people, got)
		}
		if typ.Simple() != want.simple || typ.Bucketed() != want.bucketed {
			t.Errorf("%s is simple: %v, bucketed: %v", typ, typ.Simple(), typ.Bucketed())
		}
		if lines := [...]int{typ.Lines(0), typ.Lines(3)}; lines != want.lines {
			t.Errorf("%s has %d lines without bounds and with three", typ, lines)
		}
		for line := range want.lines[1] {
			if got := typ.IsCount(line, want.lines[1]); got != want.counts[line] {
				t.Errorf("%s.IsCount(%d, %d) = %v", typ, line, want.lines[1], got)
			}
		}
		for _, role := range roles {
			if got := typ.Suffix(role); got != want.suffixes[role] {
				t.Errorf("%s.Suffix(%d) = %q, want %q", typ, role, got, want.suffixes[role])
			}
		}
	}
	if next := metric.Type(len(all)); next.Known() {
		t.Errorf("type %d is not in the table of this test", next)
	}
}

// TestEveryTypeIsWhole holds for a type that is added, too: it has all that its kind needs, and no more.
func TestEveryTypeIsWhole(t *testing.T) {
	for typ := metric.Type(0); typ.Known(); typ++ {
		if typ.String() == "" || typ.Text() == "" || typ.OpenMetrics() == "" || typ.Protobuf() == "" || typ.ValueField() == 0 {
			t.Errorf("type %d lacks a name or the field of its value", typ)
		}
		if typ.Simple() && typ.Bucketed() {
			t.Errorf("%s is both simple and bucketed", typ)
		}
		if (typ.BoundLabel() == "") != typ.Simple() {
			t.Errorf("%s has the label %q for its bounds", typ, typ.BoundLabel())
		}
		for _, role := range roles {
			suffix := typ.Suffix(role)
			if wants := typ.Bucketed() || role != metric.BoundLine && !typ.Simple(); (suffix != "") != wants {
				t.Errorf("%s has the suffix %q for lines of role %d", typ, suffix, role)
			}
			if base, got, ok := metric.CutSuffix("name" + suffix); suffix != "" && (base != "name" || got != role || !ok) {
				t.Errorf("CutSuffix(%q) = %q, %d, %v", "name"+suffix, base, got, ok)
			}
		}
	}
}

// TestTypesAreClientModels compares names and numbers with the messages that they are of.
func TestTypesAreClientModels(t *testing.T) {
	if len(dto.MetricType_name) != len(all) {
		t.Errorf("client_model has %d types", len(dto.MetricType_name))
	}
	fields := (&dto.Metric{}).ProtoReflect().Descriptor().Fields()
	values := map[int32]bool{}
	for _, want := range all {
		if got := want.typ.Proto(); got != want.proto || got.String() != want.typ.Protobuf() {
			t.Errorf("%s is %s, and called %s", want.typ, got, want.typ.Protobuf())
		}
		if got, ok := metric.OfProto(want.proto); got != want.typ || !ok {
			t.Errorf("OfProto(%s) = %s, %v", want.proto, got, ok)
		}
		value := fields.ByNumber(protoreflect.FieldNumber(want.typ.ValueField()))
		if value == nil || value.Name() != want.value {
			t.Fatalf("%s has its value in field %d", want.typ, want.typ.ValueField())
		}
		values[want.typ.ValueField()] = true
		created := value.Message().Fields().ByName("created_timestamp")
		if want.created == "" {
			if created != nil || want.typ.CreatedField() != 0 {
				t.Errorf("%s has its created timestamp in field %d", want.typ, want.typ.CreatedField())
			}
		} else if created == nil || int32(created.Number()) != want.typ.CreatedField() {
			t.Errorf("%s has its created timestamp in field %d", want.typ, want.typ.CreatedField())
		}
	}
	for number := int32(-1); number < 20; number++ {
		if got := metric.IsValueField(number); got != values[number] {
			t.Errorf("IsValueField(%d) = %v", number, got)
		}
		if _, known := dto.MetricType_name[number]; known {
			continue
		}
		if got, ok := metric.OfProto(dto.MetricType(number)); got != metric.Untyped || ok {
			t.Errorf("OfProto(%d) = %s, %v", number, got, ok)
		}
	}
}

func TestOfText(t *testing.T) {
	tests := map[string]metric.Type{
		"gaugehistogram": metric.GaugeHistogram, "gauge_histogram": metric.GaugeHistogram,
	}
	for _, a := range all {
		if a.typ != metric.GaugeHistogram {
			tests[a.text] = a.typ
		}
	}
	for word, want := range tests {
		if got, ok := metric.OfText(word); got != want || !ok {
			t.Errorf("OfText(%q) = %s, %v, want %s", word, got, ok, want)
		}
	}
	for _, word := range []string{"", "unknown", "info", "stateset", "Counter", "counter ", "gauge histogram"} {
		if got, ok := metric.OfText(word); got != metric.Untyped || ok {
			t.Errorf("OfText(%q) = %s, %v", word, got, ok)
		}
	}
}

func TestCutSuffix(t *testing.T) {
	tests := []struct {
		name, base string
		role       metric.Role
		ok         bool
	}{
		{"h_bucket", "h", metric.BoundLine, true},
		{"h_sum", "h", metric.SumLine, true},
		{"h_count", "h", metric.CountLine, true},
		{"h_sum_count", "h_sum", metric.CountLine, true},
		{name: "h"},
		{name: ""},
		{name: "_bucket"},
		{name: "_sum"},
		{name: "_count"},
		{name: "h_total"},
		{name: "h_count_"},
		{name: "hcount"},
	}
	for _, tt := range tests {
		want := tt.base
		if !tt.ok {
			want = tt.name
		}
		base, role, ok := metric.CutSuffix(tt.name)
		bytes, _, _ := metric.CutSuffix([]byte(tt.name))
		if base != want || string(bytes) != want || role != tt.role || ok != tt.ok {
			t.Errorf("CutSuffix(%q) = %q, %d, %v", tt.name, base, role, ok)
		}
	}
	long := []byte(strings.Repeat("x", 1000) + "_count")
	if n := testing.AllocsPerRun(10, func() { metric.CutSuffix(long) }); n > 0 {
		t.Errorf("CutSuffix allocates %v times", n)
	}
}
