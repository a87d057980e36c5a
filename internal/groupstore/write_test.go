package groupstore_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"pushrelay/internal/exposition"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/metric"
)

// readBack returns all series that Prometheus' own parser finds, sorted: labels and value.
func readBack(tb testing.TB, f groupstore.Form, text string) []string {
	tb.Helper()
	p, err := textparse.New([]byte(text), f.Format.ContentType(f.Escaping), labels.NewSymbolTable(), textparse.ParserOptions{
		KeepClassicOnClassicAndNativeHistograms: true,
	})
	if err != nil {
		tb.Fatalf("textparse.New(%+v): %v", f, err)
	}
	var series []string
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			slices.Sort(series)
			return series
		}
		if err != nil {
			tb.Fatalf("reading back %+v: %v in\n%q", f, err, text)
		}
		var l labels.Labels
		switch entry {
		case textparse.EntrySeries:
			_, _, value := p.Series()
			p.Labels(&l)
			series = append(series, fmt.Sprintf("%s %v", l, value))
		case textparse.EntryHistogram:
			p.Labels(&l)
			series = append(series, fmt.Sprintf("%s native", l))
		}
		if name, twice := l.HasDuplicateLabelNames(); twice {
			tb.Fatalf("reading back %+v: label %q stands twice in %s", f, name, l)
		}
	}
}

const mixture = `# HELP c_total Counts "things" with a \\ and a\nline.
# TYPE c_total counter
c_total{a="x\"y\\z\n"} 12
c_total{a="other"} 1e+09
# TYPE c counter
c 0.1
# TYPE h histogram
h_bucket{code="200",le="0.1"} 1
h_bucket{code="200",le="1e-05"} 0
h_bucket{code="200",le="+Inf"} 3
h_sum{code="200"} NaN
h_count{code="200"} 3
h_bucket{code="500",le="0.1"} 0
h_bucket{code="500",le="+Inf"} 0
h_sum{code="500"} 0
h_count{code="500"} 0
# TYPE s summary
s{quantile="0.5"} +Inf
s{quantile="0.99"} 2
s_sum 3
s_count 4
# HELP g
# TYPE g gauge
g{a="",instance="i"} -Inf
u -1.5e-07
`

func ownFamilies() []*dto.MetricFamily {
	return []*dto.MetricFamily{
		{
			Name: proto.String("z_own"), Help: proto.String("Ours."), Type: dto.MetricType_HISTOGRAM.Enum(),
			Metric: []*dto.Metric{{Histogram: &dto.Histogram{SampleCount: proto.Uint64(3), SampleSum: proto.Float64(1.5), Bucket: []*dto.Bucket{
				{UpperBound: proto.Float64(1), CumulativeCount: proto.Uint64(2)},
			}}}},
		},
		{
			Name: proto.String("a_own"), Help: proto.String("Ours, \"too\"."), Type: dto.MetricType_SUMMARY.Enum(),
			Metric: []*dto.Metric{{
				Label:   []*dto.LabelPair{{Name: proto.String("k"), Value: proto.String("v\"\n")}},
				Summary: &dto.Summary{SampleCount: proto.Uint64(3), SampleSum: proto.Float64(1.5), Quantile: []*dto.Quantile{{Quantile: proto.Float64(0.9), Value: proto.Float64(2)}}},
			}},
		},
		{
			Name: proto.String("g"), Help: proto.String("The help that counts."), Type: dto.MetricType_GAUGE.Enum(),
			Metric: []*dto.Metric{{Gauge: &dto.Gauge{Value: proto.Float64(8)}}},
		},
		{Name: proto.String("no_series"), Type: dto.MetricType_GAUGE.Enum()},
		{
			Name: proto.String("own_total"), Type: dto.MetricType_COUNTER.Enum(),
			Metric: []*dto.Metric{{Counter: &dto.Counter{Value: proto.Float64(9)}}},
		},
	}
}

func mixed(tb testing.TB) *tester {
	tb.Helper()
	s := newTester(tb, groupstore.Config{})
	s.put(key(tb, "job", "a"), mixture)
	s.put(key(tb, "job", "b", "zone", "z\"\\\n", "agent", "x"), mixture)
	s.put(key(tb, "job", "c", "zone", ""), strings.ReplaceAll(mixture, "12\n", "13\n"))
	s.put(key(tb, "job", "empty"), "")
	return s
}

// TestWriteText compares with what expfmt writes for the same families.
func TestWriteText(t *testing.T) {
	s := mixed(t)
	got := s.write(groupstore.Form{}, ownFamilies()...)
	families := parse(t, got)
	var want bytes.Buffer
	for _, mf := range families {
		if _, err := expfmt.MetricFamilyToText(&want, mf); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want.String(), got); diff != "" {
		t.Errorf("Write differs from expfmt (-expfmt +got):\n%s", diff)
	}
	for _, line := range []string{
		"# HELP g The help that counts.\n# TYPE g gauge\ng 8\ng{a=\"\",agent=",
		`c_total{a="x\"y\\z\n",agent="x",instance="",job="b",zone="z\"\\\n"} 12` + "\n",
		`# HELP c_total Counts "things" with a \\ and a\nline.` + "\n",
		`push_time_seconds{instance="",job="c",zone=""} 1.7e+09` + "\n",
		`push_failure_time_seconds{instance="",job="empty"} 0` + "\n",
		"# TYPE own_total counter\nown_total 9\n",
	} {
		if !strings.Contains(got, line) {
			t.Errorf("Write lacks %q in\n%s", line, got)
		}
	}
}

// TestFormatsCarryTheSameSeries reads every format through Prometheus' parser (S15).
func TestFormatsCarryTheSameSeries(t *testing.T) {
	s := mixed(t)
	want := readBack(t, groupstore.Form{}, s.write(groupstore.Form{}, ownFamilies()...))
	if len(want) < 70 {
		t.Fatalf("only %d series were read back", len(want))
	}
	for _, format := range []exposition.Format{exposition.Text004, exposition.ProtobufDelimited, exposition.OpenMetrics100} {
		for _, escaping := range []metric.Escaping{metric.EscapeUnderscores, metric.EscapeDots, metric.EscapeValues, metric.AllowUTF8} {
			f := groupstore.Form{Format: format, Escaping: escaping}
			if diff := cmp.Diff(want, readBack(t, f, s.write(f, ownFamilies()...))); diff != "" {
				t.Errorf("%v: series (-text +got):\n%s", f, diff)
			}
		}
	}
}

func TestOpenMetricsHeaders(t *testing.T) {
	s := newTester(t, groupstore.Config{})
	s.put(key(t, "job", "a"), "# HELP a_total \"A\".\n# TYPE a_total counter\na_total 1\n# TYPE b_total counter\nb_total 1\n# TYPE b gauge\nb 1\n"+
		"# TYPE c counter\nc 1\n# TYPE d gaugehistogram\nd_bucket{le=\"+Inf\"} 1\nd_sum 1\nd_count 1\n")
	seconds := bodyOf(parse(t, "# TYPE e_seconds gauge\ne_seconds 1\n")...)
	seconds.Families[0].Unit = []byte("seconds")
	bytesUnit := bodyOf(parse(t, "# TYPE f gauge\nf 1\n")...)
	bytesUnit.Families[0].Unit = []byte("bytes")
	for _, b := range []*exposition.Body{seconds, bytesUnit} {
		if _, err := apply(t.Context(), s.store, pushing{Operation: post, Key: key(t, "job", "a"), Body: b, At: noon}); err != nil {
			t.Fatal(err)
		}
	}
	var comments []string
	for line := range strings.Lines(s.write(groupstore.Form{Format: exposition.OpenMetrics100})) {
		if strings.HasPrefix(line, "#") && !strings.Contains(line, "push_") {
			comments = append(comments, strings.TrimSpace(line))
		}
	}
	want := []string{
		`# HELP a \"A\".`, "# TYPE a counter", "# TYPE b gauge", "# TYPE b_total unknown", "# TYPE c unknown", "# TYPE d gaugehistogram",
		"# TYPE e_seconds gauge", "# UNIT e_seconds seconds", "# TYPE f gauge", "# EOF",
	}
	if diff := cmp.Diff(want, comments); diff != "" {
		t.Errorf("comments (-want +got):\n%s", diff)
	}
}

// decode reads delimited protobuf.
func decode(tb testing.TB, text string) []*dto.MetricFamily {
	tb.Helper()
	var families []*dto.MetricFamily
	for r := strings.NewReader(text); ; {
		mf := &dto.MetricFamily{}
		err := protodelim.UnmarshalFrom(r, mf)
		if errors.Is(err, io.EOF) {
			return families
		}
		if err != nil {
			tb.Fatalf("decoding: %v", err)
		}
		families = append(families, mf)
	}
}

func nativeHistogram() *dto.MetricFamily {
	return &dto.MetricFamily{
		Name: proto.String("n"), Help: proto.String("Native."), Type: dto.MetricType_HISTOGRAM.Enum(),
		Metric: []*dto.Metric{{
			Label: []*dto.LabelPair{{Name: proto.String("k"), Value: proto.String("v")}},
			Histogram: &dto.Histogram{
				SampleCount: proto.Uint64(3), SampleSum: proto.Float64(1.5), Schema: proto.Int32(3), ZeroThreshold: proto.Float64(0.1), ZeroCount: proto.Uint64(1),
				PositiveSpan: []*dto.BucketSpan{{Offset: proto.Int32(2), Length: proto.Uint32(2)}}, PositiveDelta: []int64{1, 0},
				CreatedTimestamp: timestamppb.New(noon),
			},
		}},
	}
}

func createdCounter() *dto.MetricFamily {
	metric := func(k string, value float64, created time.Time) *dto.Metric {
		return &dto.Metric{
			Label:   []*dto.LabelPair{{Name: proto.String("k"), Value: proto.String(k)}},
			Counter: &dto.Counter{Value: &value, CreatedTimestamp: timestamppb.New(created)},
		}
	}
	return &dto.MetricFamily{
		Name: proto.String("cc_total"), Type: dto.MetricType_COUNTER.Enum(), Unit: proto.String("things"),
		Metric: []*dto.Metric{metric("b", 1, noon), metric("a", 2, time.Unix(5, 25)), metric("c", math.Inf(1), time.Unix(-5, 3))},
	}
}

// TestWriteProtobuf pushes what only protobuf can say, and gets it back with the grouping labels added.
func TestWriteProtobuf(t *testing.T) {
	s := newTester(t, groupstore.Config{})
	pushed := []*dto.MetricFamily{createdCounter(), nativeHistogram()}
	k := key(t, "job", "a", "zz", "1")
	if _, err := apply(t.Context(), s.store, pushing{Operation: put, Key: k, Body: bodyOf(pushed...), At: noon}); err != nil {
		t.Fatal(err)
	}
	var want []*dto.MetricFamily
	for _, mf := range pushed {
		labelled := withLabels(mf, k)
		for _, m := range labelled.Metric {
			m.Label = slices.Insert(m.Label, 0, &dto.LabelPair{Name: proto.String("instance"), Value: proto.String("")})
		}
		slices.SortFunc(labelled.Metric, func(a, b *dto.Metric) int { return strings.Compare(a.Label[2].GetValue(), b.Label[2].GetValue()) })
		want = append(want, labelled)
	}
	got := slices.DeleteFunc(decode(t, s.write(groupstore.Form{Format: exposition.ProtobufDelimited})), func(mf *dto.MetricFamily) bool {
		return strings.HasPrefix(mf.GetName(), "push_")
	})
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("Write (-want +got):\n%s", diff)
	}
	text := s.text()
	for _, line := range []string{"n_count{instance=\"\",job=\"a\",k=\"v\",zz=\"1\"} 3\n", "n_bucket{instance=\"\",job=\"a\",k=\"v\",zz=\"1\",le=\"+Inf\"} 3\n"} {
		if !strings.Contains(text, line) {
			t.Errorf("text lacks %q in\n%s", line, text)
		}
	}
	series := readBack(t, groupstore.Form{Format: exposition.ProtobufDelimited}, s.write(groupstore.Form{Format: exposition.ProtobufDelimited}))
	if !slices.Contains(series, `{__name__="n", instance="", job="a", k="v", zz="1"} native`) {
		t.Errorf("Prometheus reads no native histogram from %q", series)
	}
}

// TestWriteProtobufLarge has a family that is too large to be held until its length is known.
func TestWriteProtobufLarge(t *testing.T) {
	s := newTester(t, groupstore.Config{})
	var text strings.Builder
	for i := range 700 {
		fmt.Fprintf(&text, "m{i=\"%04d\",fill=%q} %d\n", i, strings.Repeat("x", 1200), i)
	}
	s.put(key(t, "job", "a"), text.String())
	s.put(key(t, "job", "b"), text.String())
	got := decode(t, s.write(groupstore.Form{Format: exposition.ProtobufDelimited}))
	if diff := cmp.Diff(parse(t, s.write(groupstore.Form{})), got, protocmp.Transform()); diff != "" {
		t.Errorf("protobuf differs from text (-text +protobuf):\n%s", diff[:min(len(diff), 1000)])
	}
}

func TestWritePrototext(t *testing.T) {
	s := mixed(t)
	want := decode(t, s.write(groupstore.Form{Format: exposition.ProtobufDelimited}, ownFamilies()...))
	for _, format := range []exposition.Format{exposition.ProtobufText, exposition.ProtobufCompact} {
		text := s.write(groupstore.Form{Format: format}, ownFamilies()...)
		separator := "\n\n"
		if format == exposition.ProtobufCompact {
			separator = "\n"
		}
		var got []*dto.MetricFamily
		for family := range strings.SplitSeq(strings.TrimSuffix(text, separator), separator) {
			mf := &dto.MetricFamily{}
			if err := prototext.Unmarshal([]byte(family), mf); err != nil {
				t.Fatalf("prototext.Unmarshal(%q): %v", family, err)
			}
			got = append(got, mf)
		}
		if diff := cmp.Diff(want, got, protocmp.Transform(), cmpopts.EquateNaNs()); diff != "" {
			t.Errorf("%v (-protobuf +got):\n%s", format, diff)
		}
	}
}

// TestEscaping has names that become equal when they are escaped: nothing of them may break a scrape.
func TestEscaping(t *testing.T) {
	s := newTester(t, groupstore.Config{})
	s.put(key(t, "job", "a", "g.k", "v\""), "{\"my.metric\",\"l.a\"=\"1\",l_a=\"2\",\"l a\"=\"3\"} 1\nmy_metric 2\n# TYPE \"h.x\" histogram\n{\"h.x_bucket\",le=\"+Inf\"} 1\n{\"h.x_count\"} 1\n"+
		"{\"u\",\"..name..\"=\"x\"} 1\n")
	s.put(key(t, "job", "b", "g_k", "v"), "{\"my.metric\",\"g.k\"=\"1\"} 1\n{\"my metric\"} 2\n")
	tests := []struct {
		escaping metric.Escaping
		want     []string
	}{
		{metric.EscapeUnderscores, []string{
			`U__my_2e_metric{g_k="v\"",instance="",job="a",U__l_20_a="3",U__l_2e_a="1",l_a="2"} 1`,
			`U__my_2e_metric{U__g_2e_k="1",g_k="v",instance="",job="b"} 1`,
			`my_metric{g_k="v\"",instance="",job="a"} 2`,
			`h_x_bucket{g_k="v\"",instance="",job="a",le="+Inf"} 1`,
			`u{U__..name..}`,
		}},
		{metric.AllowUTF8, []string{
			`{"my.metric","g.k"="v\"",instance="",job="a","l a"="3","l.a"="1",l_a="2"} 1`,
			`{"h.x_bucket","g.k"="v\"",instance="",job="a",le="+Inf"} 1`,
		}},
		{metric.EscapeDots, []string{`my_dot_metric{g_dot_k="v\"",instance="",job="a",l__a="3",l_dot_a="1",l_a="2"} 1`}},
		{metric.EscapeValues, []string{`U__my_2e_metric{U__g_2e_k="v\"",instance="",job="a",U__l_20_a="3",U__l_2e_a="1",l_a="2"} 1`}},
	}
	for _, tt := range tests {
		text := s.write(groupstore.Form{Escaping: tt.escaping})
		for _, line := range tt.want {
			if strings.Contains(line, "..name..") {
				line = `u{U___2e__2e_name_2e__2e_="x",g_k="v\"",instance="",job="a"} 1`
			}
			if !strings.Contains(text, line+"\n") {
				t.Errorf("%v: lacks %s in\n%s", tt.escaping, line, text)
			}
		}
		want := readBack(t, groupstore.Form{Escaping: tt.escaping}, text)
		for _, format := range []exposition.Format{exposition.ProtobufDelimited, exposition.OpenMetrics100} {
			f := groupstore.Form{Format: format, Escaping: tt.escaping}
			if diff := cmp.Diff(want, readBack(t, f, s.write(f))); diff != "" {
				t.Errorf("%v: series (-text +got):\n%s", f, diff)
			}
		}
	}
}

type failingWriter struct{ after int }

func (w *failingWriter) Write(p []byte) (int, error) {
	if w.after -= len(p); w.after < 0 {
		return 0, errors.New("broken pipe")
	}
	return len(p), nil
}

func TestWriteError(t *testing.T) {
	s := mixed(t)
	for _, format := range []exposition.Format{exposition.Text004, exposition.ProtobufDelimited, exposition.OpenMetrics100, exposition.ProtobufText} {
		err := s.store.Snapshot().Write(&failingWriter{after: rand.IntN(500)}, groupstore.Form{Format: format}, ownFamilies())
		if err == nil || err.Error() != "broken pipe" {
			t.Errorf("Write(%v) = %v, want the writer's error", format, err)
		}
	}
	if err := s.store.Snapshot().Write(io.Discard, groupstore.Form{Format: 99}, nil); err == nil {
		t.Error("Write of an unknown format succeeded")
	}
}
