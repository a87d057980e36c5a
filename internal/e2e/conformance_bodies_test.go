//go:build linux

package e2e_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/klauspost/compress/snappy"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"
)

const pushedM = `
	m{instance="",job="j"} 1
	group{instance="",job="j"} pushed`

var bodyBehaviours = []behaviour{
	{name: "no line feed at the end", do: []request{
		put("/job/j", "m 1").refused("text format parsing error in line 1: unexpected end of input stream"),
	}},
	{name: "carriage return", do: []request{put("/job/j", "m 1\r\n").refused(`expected float as value, got "1\r"`)}},
	{name: "no exposition", do: []request{put("/job/j", "blablabla\n").refused(`text format parsing error in line 1: expected float as value, got ""`)}},
	{name: "two types, or a type too late", do: []request{
		put("/job/j", "# TYPE m gauge\n# TYPE m gauge\nm 1\n").refused(`second TYPE line for metric name "m", or TYPE reported after samples`),
		put("/job/j", "m 1\n# TYPE m gauge\n").refused(`second TYPE line for metric name "m", or TYPE reported after samples`),
	}},
	{name: "two helps", do: []request{put("/job/j", "# HELP m a\n# HELP m b\nm 1\n").refused(`second HELP line for metric name "m"`)}},
	{name: "types of OpenMetrics", do: []request{put("/job/j", "# TYPE m info\nm 1\n").refused(`unknown metric type "info"`)}},
	{name: "a label twice", do: []request{put("/job/j", "m{a=\"1\",a=\"2\"} 1\n").refused("duplicate label names")}},
	{name: "a label value that is no UTF-8", do: []request{put("/job/j", "m{a=\"\xff\"} 1\n").refused(`invalid label value "\xff"`)}},
	{name: "hexadecimal numbers", do: []request{put("/job/j", "m 0x10\n").refused("expected float as value")}},
	{
		name: "numbers that are none", do: []request{put("/job/j", "m NaN\nn +Inf\no -Inf\n")},
		want: `
			m{instance="",job="j"} NaN
			n{instance="",job="j"} +Inf
			o{instance="",job="j"} -Inf
			group{instance="",job="j"} pushed`,
	},
	{
		// Text 0.0.4 has no exemplars. Clients that send them speak OpenMetrics, which no Pushgateway takes.
		name: "exemplars", do: []request{put("/job/j", "c_total 1 # {a=\"b\"} 1\n").refused(`expected integer as timestamp, got "#"`)},
	},
	{
		// As the reference does: what reads as text 0.0.4 is taken, whatever it calls itself.
		name: "OpenMetrics in name only", want: pushedM,
		do: []request{put("/job/j", "m 1\n# EOF\n").with("Content-Type", "application/openmetrics-text; version=1.0.0; charset=utf-8")},
	},
	{name: "text of any other name", do: []request{put("/job/j", "m 1\n").with("Content-Type", "application/json")}, want: pushedM},
	{name: "names in quotes without the flag", unlike: later, do: []request{
		put("/job/j", "{\"my.metric\",\"lab.el\"=\"v\"} 1\n").refused(`invalid metric name "my.metric"`),
	}},
	{
		name: "histogram without +Inf", do: []request{put("/job/j", "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_sum 3\nh_count 2\n")},
		want: `
			# TYPE h histogram
			h_bucket{instance="",job="j",le="1"} 1
			h_bucket{instance="",job="j",le="+Inf"} 2
			h_sum{instance="",job="j"} 3
			h_count{instance="",job="j"} 2
			group{instance="",job="j"} pushed`,
	},
	{
		name: "values are rendered anew", do: []request{put("/job/j", "# HELP m a\\\\b\\nc\n# TYPE m gauge\nm{a=\"q\\\"\\\\\\n\"} 1000000.0\n")},
		want: `
			# HELP m a\\b\nc
			# TYPE m gauge
			m{a="q\"\\\n",instance="",job="j"} 1e+06
			group{instance="",job="j"} pushed`,
	},
}

var encodingBehaviours = []behaviour{
	{
		name: "gzip", unlike: later, want: pushedM,
		do: []request{put("/job/j", inGzip("m 1\n")).with("Content-Encoding", "gzip")},
	},
	{
		name: "gzip in capitals", unlike: later, want: pushedM,
		do: []request{put("/job/j", inGzip("m 1\n")).with("Content-Encoding", "GZIP")},
	},
	{name: "plain body that says gzip", unlike: later, do: []request{
		put("/job/j", "m 1\n").with("Content-Encoding", "gzip").refused("unexpected EOF\n"),
		put("/job/j", strings.Repeat("m 1\n", 10)).with("Content-Encoding", "gzip").refused("gzip: invalid header\n"),
		put("/job/j", inGzip("m 1\n")[:20]).with("Content-Encoding", "gzip").refused("unexpected EOF\n"),
	}},
	{
		name: "framed snappy", unlike: later, want: pushedM,
		do: []request{put("/job/j", inSnappy("m 1\n")).with("Content-Encoding", "snappy")},
	},
	{name: "block snappy, and none", unlike: later, do: []request{
		put("/job/j", string(snappy.Encode(nil, []byte("m 1\n")))).with("Content-Encoding", "snappy").refused("snappy: corrupt input\n"),
		put("/job/j", "m 1\n").with("Content-Encoding", "snappy").refused("snappy: corrupt input\n"),
	}},
	{
		// Kept: a body that reads as text in spite of its header was not encoded.
		name: "other encodings are ignored", want: pushedM, do: []request{
			put("/job/j", "m 1\n").with("Content-Encoding", "deflate"), put("/job/j", "m 1\n").with("Content-Encoding", "br"),
			put("/job/j", "m 1\n").with("Content-Encoding", "zstd"), put("/job/j", "m 1\n").with("Content-Encoding", "identity"),
		},
	},
	{
		// Clients that encode whatever they push say so of an empty body too; and nobody reads that of a DELETE.
		name: "nothing in an encoding", unlike: "refuses it", want: `group{instance="",job="j"} pushed`, do: []request{
			put("/job/j", "").with("Content-Encoding", "gzip"), post("/job/j", "").with("Content-Encoding", "snappy"),
			{method: http.MethodPut, path: "/metrics/job/j", chunked: true, status: http.StatusOK, exact: true, header: http.Header{"Content-Encoding": {"gzip"}}},
			del("/job/other", "").with("Content-Encoding", "gzip"), del("/job/other", "x").with("Content-Encoding", "gzip"),
		},
	},
	{
		// Kept: nobody looks into a comment, and what ends its line is part of a HELP.
		name: "carriage returns in comments", do: []request{put("/job/j", "# a comment\r\n# HELP m That.\r\n# TYPE m gauge\nm 1\n")},
		want: "# HELP m That.\r\n# TYPE m gauge\nm{instance=\"\",job=\"j\"} 1\ngroup{instance=\"\",job=\"j\"} pushed",
	},
	{name: "gzip that does not say so", do: []request{put("/job/j", inGzip("m 1\n")).refused("invalid metric name")}},
	{
		name: "chunked", want: pushedM,
		do: []request{{method: http.MethodPut, path: "/metrics/job/j", body: "m 1\n", chunked: true, status: http.StatusOK, exact: true}},
	},
	{name: "100-continue", do: []request{put("/job/j", "m 1\n").with("Expect", "100-continue")}, want: pushedM},
}

// delimited returns the families as clients push them in protobuf.
func delimited(families ...*dto.MetricFamily) string {
	var b bytes.Buffer
	for _, f := range families {
		protodelim.MarshalTo(&b, f)
	}
	return b.String()
}

func familyOf(name string, typ dto.MetricType, metrics ...*dto.Metric) *dto.MetricFamily {
	return &dto.MetricFamily{Name: proto.String(name), Type: typ.Enum(), Metric: metrics}
}

const (
	protobufType = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
	textEscaped  = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
)

func protobufBehaviours() []behaviour {
	gauge := func(value float64) *dto.Metric { return &dto.Metric{Gauge: &dto.Gauge{Value: proto.Float64(value)}} }
	counter := &dto.Metric{Counter: &dto.Counter{Value: proto.Float64(2)}, Label: []*dto.LabelPair{{Name: proto.String("k"), Value: proto.String("v")}}}
	good := delimited(familyOf("g", dto.MetricType_GAUGE, gauge(1)), familyOf("c", dto.MetricType_COUNTER, counter))
	stamped := gauge(1)
	stamped.TimestampMs = proto.Int64(1000)
	protobuf := func(body string) request { return put("/job/j", body).with("Content-Type", protobufType) }
	return []behaviour{
		{
			name: "gauge and counter", do: []request{protobuf(good)},
			want: `
				# TYPE g gauge
				g{instance="",job="j"} 1
				# TYPE c counter
				c{instance="",job="j",k="v"} 2
				group{instance="",job="j"} pushed`,
		},
		{
			// Kept: the last family of a name counts. No client sends two.
			name: "a family twice",
			do: []request{protobuf(delimited(
				familyOf("g", dto.MetricType_GAUGE, &dto.Metric{Gauge: &dto.Gauge{Value: proto.Float64(1)}, Label: counter.Label}),
				familyOf("g", dto.MetricType_GAUGE, gauge(2)),
			))},
			want: `
				g{instance="",job="j"} 2
				group{instance="",job="j"} pushed`,
		},
		{name: "empty body", do: []request{protobuf("")}, want: `group{instance="",job="j"} pushed`},
		{name: "truncated body", do: []request{protobuf(good[:len(good)-3]).refused("unexpected EOF\n")}},
		{name: "a length of 4 GiB and no body", unlike: "takes 9 s and as much memory", do: []request{protobuf("\xff\xff\xff\xff\x0f").refused("")}},
		{name: "content types that lack a parameter", do: []request{
			put("/job/j", good).with("Content-Type", "application/vnd.google.protobuf").refused("text format parsing error"),
			put("/job/j", good).with("Content-Type", "application/vnd.google.protobuf; encoding=delimited").refused("text format parsing error"),
			put("/job/j", good).with("Content-Type", "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily").refused("text format parsing error"),
		}},
		{
			name: "timestamp", do: []request{protobuf(delimited(familyOf("g", dto.MetricType_GAUGE, stamped))).refused("must not have timestamps")},
			want: `group{instance="",job="j"} rejected`,
		},
		{
			name: "a value of another type", do: []request{protobuf(delimited(familyOf("c", dto.MetricType_COUNTER, gauge(1)))).refused("is not a COUNTER")},
			want: `group{instance="",job="j"} rejected`,
		},
		{
			name: "a name that is none", do: []request{protobuf(delimited(familyOf("", dto.MetricType_GAUGE, gauge(1)))).refused("")},
			unlike: "takes it, and then answers scrapes with nothing",
		},
		{
			name: "a gauge that says gauge histogram", unlike: "cuts every scrape off there",
			do:   []request{protobuf(delimited(familyOf("g", dto.MetricType_GAUGE_HISTOGRAM, gauge(1)))).refused("is not a GAUGE_HISTOGRAM")},
			want: `group{instance="",job="j"} rejected`,
		},
		{
			// A family without series is none, in protobuf as in text: the group keeps what it has of that name.
			name: "a family without series", unlike: "drops what the group has of it",
			do: []request{post("/job/j", "g 1\n"), post("/job/j", delimited(familyOf("g", dto.MetricType_GAUGE))).with("Content-Type", protobufType)},
			want: `
				g{instance="",job="j"} 1
				group{instance="",job="j"} pushed`,
		},
		{
			name: "a push time without series", unlike: "its API breaks off",
			do: []request{
				protobuf(delimited(familyOf("push_failure_time_seconds", dto.MetricType_GAUGE))),
				protobuf(delimited(familyOf("push_failure_time_seconds", dto.MetricType_GAUGE))),
				ask(http.MethodGet, "/api/v1/metrics", 200), ask(http.MethodGet, "/", 200),
			},
			want: `group{instance="",job="j"} pushed`,
		},
		{
			name: "native histogram", unlike: later,
			do: []request{protobuf(delimited(familyOf("h", dto.MetricType_HISTOGRAM, &dto.Metric{Histogram: nativeHistogram})))},
			want: `
				# TYPE h histogram
				h_bucket{instance="",job="j",le="+Inf"} 3
				h_sum{instance="",job="j"} 4.5
				h_count{instance="",job="j"} 3
				group{instance="",job="j"} pushed`,
			then: wantNativeHistogram,
		},
	}
}

var nativeHistogram = &dto.Histogram{
	SampleCount: proto.Uint64(3), SampleSum: proto.Float64(4.5), Schema: proto.Int32(0),
	ZeroThreshold: proto.Float64(0.001), ZeroCount: proto.Uint64(1),
	PositiveSpan:  []*dto.BucketSpan{{Offset: proto.Int32(1), Length: proto.Uint32(2)}},
	PositiveDelta: []int64{1, 0},
}

// wantNativeHistogram: a scrape in protobuf has the histogram as it was pushed, and the API its buckets.
func wantNativeHistogram(t *testing.T, g *gateway) {
	page := g.mustSend(t, ask(http.MethodGet, "/metrics", 200).with("Accept", protobufType))
	for body := bytes.NewBufferString(page.body); body.Len() > 0; {
		var f dto.MetricFamily
		if err := protodelim.UnmarshalFrom(body, &f); err != nil {
			t.Fatal(err)
		}
		if f.GetName() != "h" {
			continue
		}
		got := f.GetMetric()[0].GetHistogram()
		if got.GetSchema() != 0 || got.GetZeroCount() != 1 || len(got.GetPositiveSpan()) != 1 || len(got.GetPositiveDelta()) != 2 {
			t.Errorf("the scrape in protobuf has %v, want %v", got, nativeHistogram)
		}
		g.check(t, ask(http.MethodGet, "/api/v1/metrics", 200).answered(200, `"buckets":[[3,"-0.001","0.001","1"],[0,"1","2","1"],[0,"2","4","1"]]`))
		return
	}
	t.Error("the scrape in protobuf has no h")
}
