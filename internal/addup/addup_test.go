package addup_test

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"pushrelay/internal/addup"
)

// noon is when families are added that do not say when they began.
var noon = time.Unix(43200, 0)

// family reads a family from its text; an empty one is none.
func family(t *testing.T, text string) *dto.MetricFamily {
	t.Helper()
	if text == "" {
		return nil
	}
	mf := &dto.MetricFamily{}
	if err := prototext.Unmarshal([]byte(text), mf); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return mf
}

// TestAdd: what becomes of each type, series by series (L12, L15).
func TestAdd(t *testing.T) {
	for _, tt := range []struct {
		name             string
		gauges           addup.Gauges
		base, more, want string
	}{
		{
			name: "the first begins when it is added, without what cannot be added",
			more: `name: "c" type: COUNTER metric { counter { value: 2 exemplar { value: 1 } } }`,
			want: `name: "c" type: COUNTER metric { counter { value: 2 created_timestamp { seconds: 43200 } } }`,
		},
		{
			name: "counters, from the oldest beginning on",
			base: `name: "c" type: COUNTER help: "Old." metric { label { name: "l" value: "x" } counter { value: 2 created_timestamp { seconds: 10 } } }`,
			more: `name: "c" type: COUNTER metric { label { name: "e" value: "" } label { name: "l" value: "x" } counter { value: 3 created_timestamp { seconds: 5 } } } metric { label { name: "l" value: "y" } counter { value: 7 } }`,
			want: `name: "c" type: COUNTER help: "Old." metric { label { name: "l" value: "x" } counter { value: 5 created_timestamp { seconds: 5 } } } metric { label { name: "l" value: "y" } counter { value: 7 created_timestamp { seconds: 43200 } } }`,
		},
		{
			name: "labels in another order are the same series",
			base: `name: "c" type: COUNTER metric { label { name: "a" value: "1" } label { name: "b" value: "2" } counter { value: 2 created_timestamp { seconds: 1 } } }`,
			more: `name: "c" type: COUNTER metric { label { name: "b" value: "2" } label { name: "a" value: "1" } counter { value: 3 } }`,
			want: `name: "c" type: COUNTER metric { label { name: "a" value: "1" } label { name: "b" value: "2" } counter { value: 5 created_timestamp { seconds: 1 } } }`,
		},
		{
			name: "the last gauge",
			base: `name: "g" type: GAUGE metric { gauge { value: 2 } }`,
			more: `name: "g" type: GAUGE metric { gauge { value: 1 } }`,
			want: `name: "g" type: GAUGE metric { gauge { value: 1 } }`,
		},
		{
			name: "the sum of gauges", gauges: addup.Sum,
			base: `name: "g" type: GAUGE metric { gauge { value: 2 } }`,
			more: `name: "g" type: GAUGE metric { gauge { value: -1 } }`,
			want: `name: "g" type: GAUGE metric { gauge { value: 1 } }`,
		},
		{
			name: "the least of what is untyped", gauges: addup.Min,
			base: `name: "u" type: UNTYPED metric { untyped { value: 2 } }`,
			more: `name: "u" type: UNTYPED metric { untyped { value: 3 } }`,
			want: `name: "u" type: UNTYPED metric { untyped { value: 2 } }`,
		},
		{
			name: "the greatest of what is untyped", gauges: addup.Max,
			base: `name: "u" type: UNTYPED metric { untyped { value: 2 } }`,
			more: `name: "u" type: UNTYPED metric { untyped { value: 3 } }`,
			want: `name: "u" type: UNTYPED metric { untyped { value: 3 } }`,
		},
		{
			name: "summaries lose their quantiles",
			base: `name: "s" type: SUMMARY metric { summary { sample_count: 2 sample_sum: 5 quantile { quantile: 0.5 value: 2 } } }`,
			more: `name: "s" type: SUMMARY metric { summary { sample_count: 1 sample_sum: 4 quantile { quantile: 0.5 value: 4 } } }`,
			want: `name: "s" type: SUMMARY metric { summary { sample_count: 3 sample_sum: 9 created_timestamp { seconds: 43200 } } }`,
		},
		{
			name: "classic buckets of the bounds that both have",
			base: `name: "h" type: HISTOGRAM metric { histogram { sample_count: 4 sample_sum: 5 bucket { upper_bound: 1 cumulative_count: 2 } bucket { upper_bound: 2 cumulative_count: 3 } bucket { upper_bound: inf cumulative_count: 4 } } }`,
			more: `name: "h" type: HISTOGRAM metric { histogram { sample_count: 2 sample_sum: 3 bucket { upper_bound: 1 cumulative_count: 1 exemplar { value: 1 } } bucket { upper_bound: 3 cumulative_count: 2 } bucket { upper_bound: inf cumulative_count: 2 } } }`,
			want: `name: "h" type: HISTOGRAM metric { histogram { sample_count: 6 sample_sum: 8 bucket { upper_bound: 1 cumulative_count: 3 } bucket { upper_bound: inf cumulative_count: 6 } created_timestamp { seconds: 43200 } } }`,
		},
		{
			name: "counts that are no whole numbers",
			base: `name: "h" type: HISTOGRAM metric { histogram { sample_count: 4 bucket { upper_bound: inf cumulative_count: 4 } } }`,
			more: `name: "h" type: HISTOGRAM metric { histogram { sample_count_float: 0.5 bucket { upper_bound: inf cumulative_count_float: 0.5 } } }`,
			want: `name: "h" type: HISTOGRAM metric { histogram { sample_count_float: 4.5 sample_sum: 0 bucket { upper_bound: inf cumulative_count_float: 4.5 } created_timestamp { seconds: 43200 } } }`,
		},
		{
			name: "gauge histograms are gauges",
			base: `name: "h" type: GAUGE_HISTOGRAM metric { histogram { sample_count: 4 bucket { upper_bound: inf cumulative_count: 4 } } }`,
			more: `name: "h" type: GAUGE_HISTOGRAM metric { histogram { sample_count: 1 bucket { upper_bound: inf cumulative_count: 1 } } }`,
			want: `name: "h" type: GAUGE_HISTOGRAM metric { histogram { sample_count: 1 bucket { upper_bound: inf cumulative_count: 1 } } }`,
		},
		{
			name: "the sum of gauge histograms", gauges: addup.Sum,
			base: `name: "h" type: GAUGE_HISTOGRAM metric { histogram { sample_count: 4 bucket { upper_bound: inf cumulative_count: 4 } } }`,
			more: `name: "h" type: GAUGE_HISTOGRAM metric { histogram { sample_count: 1 bucket { upper_bound: inf cumulative_count: 1 } } }`,
			want: `name: "h" type: GAUGE_HISTOGRAM metric { histogram { sample_count: 5 sample_sum: 0 bucket { upper_bound: inf cumulative_count: 5 } created_timestamp { seconds: 43200 } } }`,
		},
		{
			name: "a native and a classic histogram have nothing in common",
			base: `name: "h" type: HISTOGRAM metric { histogram { sample_count: 4 bucket { upper_bound: inf cumulative_count: 4 } } }`,
			more: `name: "h" type: HISTOGRAM metric { histogram { sample_count: 1 schema: 0 positive_span { offset: 0 length: 1 } positive_delta: 1 } }`,
			want: `name: "h" type: HISTOGRAM metric { histogram { sample_count: 1 schema: 0 positive_span { offset: 0 length: 1 } positive_delta: 1 created_timestamp { seconds: 43200 } } }`,
		},
		{
			name: "a native histogram that has counted nothing yet",
			base: `name: "h" type: HISTOGRAM metric { histogram { schema: 3 positive_span { offset: 0 length: 0 } created_timestamp { seconds: 1 } } }`,
			more: `name: "h" type: HISTOGRAM metric { histogram { sample_count: 1 sample_sum: 1 schema: 3 positive_span { offset: 0 length: 1 } positive_delta: 1 } }`,
			want: `name: "h" type: HISTOGRAM metric { histogram { sample_count: 1 sample_sum: 1 schema: 3 zero_threshold: 0 zero_count: 0 positive_span { offset: 0 length: 1 } positive_delta: 1 created_timestamp { seconds: 1 } } }`,
		},
		{
			name: "native histograms that have counted nothing yet",
			base: `name: "h" type: HISTOGRAM metric { histogram { schema: 3 positive_span { offset: 0 length: 0 } } }`,
			more: `name: "h" type: HISTOGRAM metric { histogram { schema: 4 positive_span { offset: 0 length: 0 } } }`,
			want: `name: "h" type: HISTOGRAM metric { histogram { sample_count: 0 sample_sum: 0 schema: 3 zero_threshold: 0 zero_count: 0 positive_span { offset: 0 length: 0 } created_timestamp { seconds: 43200 } } }`,
		},
		{
			name: "native buckets within the zero bucket are counted there",
			base: `name: "h" type: HISTOGRAM metric { histogram { sample_count: 4 schema: 3 zero_threshold: 0.1 zero_count: 1 positive_span { offset: -1 length: 2 } positive_delta: 1 positive_delta: 1 } }`,
			more: `name: "h" type: HISTOGRAM metric { histogram { sample_count: 4 schema: -2 zero_threshold: 0.1 zero_count: 1 positive_span { offset: -1 length: 2 } positive_delta: 1 positive_delta: 1 } }`,
			want: `name: "h" type: HISTOGRAM metric { histogram { sample_count: 8 sample_sum: 0 schema: -2 zero_threshold: 0.1 zero_count: 3 positive_span { offset: 0 length: 1 } positive_delta: 5 created_timestamp { seconds: 43200 } } }`,
		},
		{
			name: "a native bucket that comes to lie within a wider zero bucket",
			base: `name: "h" type: HISTOGRAM metric { histogram { schema: -4 zero_threshold: 0.0059 } }`,
			more: `name: "h" type: HISTOGRAM metric { histogram { sample_count: 4 schema: -2 zero_count: 1 positive_span { offset: -1 length: 2 } positive_delta: 1 positive_delta: 1 } }`,
			want: `name: "h" type: HISTOGRAM metric { histogram { sample_count: 4 sample_sum: 0 schema: -4 zero_threshold: 1 zero_count: 4 created_timestamp { seconds: 43200 } } }`,
		},
		{
			name: "a zero bucket without a bound",
			base: `name: "h" type: HISTOGRAM metric { histogram { sample_count: 1 zero_threshold: nan zero_count: 1 } }`,
			more: `name: "h" type: HISTOGRAM metric { histogram { sample_count: 2 zero_threshold: -1 zero_count: 2 } }`,
			want: `name: "h" type: HISTOGRAM metric { histogram { sample_count: 2 zero_threshold: -1 zero_count: 2 created_timestamp { seconds: 43200 } } }`,
		},
		{
			name: "a schema alone makes no native histogram",
			base: `name: "h" type: HISTOGRAM metric { histogram { sample_count: 4 schema: -2 } }`,
			more: `name: "h" type: HISTOGRAM metric { histogram { sample_count: 1 schema: 0 positive_span { offset: 0 length: 1 } positive_delta: 1 } }`,
			want: `name: "h" type: HISTOGRAM metric { histogram { sample_count: 1 schema: 0 positive_span { offset: 0 length: 1 } positive_delta: 1 created_timestamp { seconds: 43200 } } }`,
		},
		{
			name: "another type takes the place",
			base: `name: "m" type: COUNTER metric { counter { value: 2 } }`,
			more: `name: "m" type: GAUGE metric { gauge { value: 1 } }`,
			want: `name: "m" type: GAUGE metric { gauge { value: 1 } }`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := addup.Add(family(t, tt.base), family(t, tt.more), tt.gauges, noon)
			if diff := cmp.Diff(family(t, tt.want), got, protocmp.Transform()); diff != "" {
				t.Errorf("Add (-want +got):\n%s", diff)
			}
		})
	}
}

// TestMerge: single series are replaced, and others stay.
func TestMerge(t *testing.T) {
	base := family(t, `name: "c" type: COUNTER unit: "s" metric { label { name: "l" value: "x" } counter { value: 2 } } metric { counter { value: 3 } }`)
	more := family(t, `name: "c" type: COUNTER help: "New." metric { label { name: "l" value: "x" } counter { value: 5 exemplar { value: 1 } } } metric { label { name: "l" value: "y" } counter { value: 7 } }`)
	want := family(t, `name: "c" type: COUNTER help: "New." unit: "s" metric { label { name: "l" value: "x" } counter { value: 5 exemplar { value: 1 } } } metric { counter { value: 3 } } metric { label { name: "l" value: "y" } counter { value: 7 } }`)
	if diff := cmp.Diff(want, addup.Merge(base, more), protocmp.Transform()); diff != "" {
		t.Errorf("Merge (-want +got):\n%s", diff)
	}
}

// TestAlike: what may be added up before it is added to a third.
func TestAlike(t *testing.T) {
	const absurd = `type: HISTOGRAM metric { histogram { zero_count: 1 zero_threshold: nan } }`
	const native, classic = `type: HISTOGRAM metric { histogram { zero_count: 1 } }`, `type: HISTOGRAM metric { histogram { sample_count: 1 } }`
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{`type: COUNTER`, `type: COUNTER`, true},
		{`type: COUNTER`, `type: GAUGE`, false},
		{native, native, true},
		{classic, classic, true},
		{native, classic, false},
		{absurd, absurd, false},
	} {
		if got := addup.AreAlike(family(t, tt.a), family(t, tt.b)); got != tt.want {
			t.Errorf("AreAlike(%s, %s) = %t", tt.a, tt.b, got)
		}
	}
}

func TestGauges(t *testing.T) {
	for i, name := range []string{"last", "sum", "min", "max"} {
		g, err := addup.ParseGauges(name)
		if err != nil || g != addup.Gauges(i) || g.String() != name || !g.IsKnown() {
			t.Errorf("ParseGauges(%q) = %v, %v", name, g, err)
		}
	}
	if g, err := addup.ParseGauges("mean"); err == nil || addup.Gauges(4).IsKnown() {
		t.Errorf("ParseGauges(mean) = %v", g)
	}
	if v := addup.Min.Of(math.NaN(), 1); !math.IsNaN(v) {
		t.Errorf("the least of what is no number and 1 is %v", v)
	}
}

// clone returns a copy that may be used up.
func clone(mf *dto.MetricFamily) *dto.MetricFamily { return proto.Clone(mf).(*dto.MetricFamily) }
