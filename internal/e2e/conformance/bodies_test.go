//go:build linux

package conformance_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/klauspost/compress/snappy"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"

	"pushrelay/internal/e2e/gateway"
)

const pushedM = `
	m{instance="",job="j"} 1
	group{instance="",job="j"} pushed`

var bodyBehaviours = []behaviour{
	{name: "no line feed at the end", do: []gateway.Request{
		gateway.Put("/job/j", "m 1").Refused("text format parsing error in line 1: unexpected end of input stream"),
	}},
	{name: "carriage return", do: []gateway.Request{gateway.Put("/job/j", "m 1\r\n").Refused(`expected float as value, got "1\r"`)}},
	{name: "no exposition", do: []gateway.Request{gateway.Put("/job/j", "blablabla\n").Refused(`text format parsing error in line 1: expected float as value, got ""`)}},
	{name: "two types, or a type too late", do: []gateway.Request{
		gateway.Put("/job/j", "# TYPE m gauge\n# TYPE m gauge\nm 1\n").Refused(`second TYPE line for metric name "m", or TYPE reported after samples`),
		gateway.Put("/job/j", "m 1\n# TYPE m gauge\n").Refused(`second TYPE line for metric name "m", or TYPE reported after samples`),
	}},
	{name: "two helps", do: []gateway.Request{gateway.Put("/job/j", "# HELP m a\n# HELP m b\nm 1\n").Refused(`second HELP line for metric name "m"`)}},
	{name: "types of OpenMetrics", do: []gateway.Request{gateway.Put("/job/j", "# TYPE m info\nm 1\n").Refused(`unknown metric type "info"`)}},
	{name: "a label twice", do: []gateway.Request{gateway.Put("/job/j", "m{a=\"1\",a=\"2\"} 1\n").Refused("duplicate label names")}},
	{name: "a label value that is no UTF-8", do: []gateway.Request{gateway.Put("/job/j", "m{a=\"\xff\"} 1\n").Refused(`invalid label value "\xff"`)}},
	{name: "hexadecimal numbers", do: []gateway.Request{gateway.Put("/job/j", "m 0x10\n").Refused("expected float as value")}},
	{
		name: "numbers that are none", do: []gateway.Request{gateway.Put("/job/j", "m NaN\nn +Inf\no -Inf\n")},
		want: `
			m{instance="",job="j"} NaN
			n{instance="",job="j"} +Inf
			o{instance="",job="j"} -Inf
			group{instance="",job="j"} pushed`,
	},
	{
		// Text 0.0.4 has no exemplars. Clients that send them speak OpenMetrics, which no Pushgateway takes.
		name: "exemplars", do: []gateway.Request{gateway.Put("/job/j", "c_total 1 # {a=\"b\"} 1\n").Refused(`expected integer as timestamp, got "#"`)},
	},
	{
		// As the reference does: what reads as text 0.0.4 is taken, whatever it calls itself.
		name: "OpenMetrics in name only", want: pushedM,
		do: []gateway.Request{gateway.Put("/job/j", "m 1\n# EOF\n").With("Content-Type", "application/openmetrics-text; version=1.0.0; charset=utf-8")},
	},
	{name: "text of any other name", do: []gateway.Request{gateway.Put("/job/j", "m 1\n").With("Content-Type", "application/json")}, want: pushedM},
	{name: "names in quotes without the flag", unlike: later, do: []gateway.Request{
		gateway.Put("/job/j", "{\"my.metric\",\"lab.el\"=\"v\"} 1\n").Refused(`invalid metric name "my.metric"`),
	}},
	{
		name: "histogram without +Inf", do: []gateway.Request{gateway.Put("/job/j", "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_sum 3\nh_count 2\n")},
		want: `
			# TYPE h histogram
			h_bucket{instance="",job="j",le="1"} 1
			h_bucket{instance="",job="j",le="+Inf"} 2
			h_sum{instance="",job="j"} 3
			h_count{instance="",job="j"} 2
			group{instance="",job="j"} pushed`,
	},
	{
		name: "values are rendered anew", do: []gateway.Request{gateway.Put("/job/j", "# HELP m a\\\\b\\nc\n# TYPE m gauge\nm{a=\"q\\\"\\\\\\n\"} 1000000.0\n")},
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
		do: []gateway.Request{gateway.Put("/job/j", gateway.InGzip("m 1\n")).With("Content-Encoding", "gzip")},
	},
	{
		name: "gzip in capitals", unlike: later, want: pushedM,
		do: []gateway.Request{gateway.Put("/job/j", gateway.InGzip("m 1\n")).With("Content-Encoding", "GZIP")},
	},
	{name: "plain body that says gzip", unlike: later, do: []gateway.Request{
		gateway.Put("/job/j", "m 1\n").With("Content-Encoding", "gzip").Refused("unexpected EOF\n"),
		gateway.Put("/job/j", strings.Repeat("m 1\n", 10)).With("Content-Encoding", "gzip").Refused("gzip: invalid header\n"),
		gateway.Put("/job/j", gateway.InGzip("m 1\n")[:20]).With("Content-Encoding", "gzip").Refused("unexpected EOF\n"),
	}},
	{
		name: "framed snappy", unlike: later, want: pushedM,
		do: []gateway.Request{gateway.Put("/job/j", gateway.InSnappy("m 1\n")).With("Content-Encoding", "snappy")},
	},
	{name: "block snappy, and none", unlike: later, do: []gateway.Request{
		gateway.Put("/job/j", string(snappy.Encode(nil, []byte("m 1\n")))).With("Content-Encoding", "snappy").Refused("snappy: corrupt input\n"),
		gateway.Put("/job/j", "m 1\n").With("Content-Encoding", "snappy").Refused("snappy: corrupt input\n"),
	}},
	{
		// Kept: a body that reads as text in spite of its header was not encoded.
		name: "other encodings are ignored", want: pushedM, do: []gateway.Request{
			gateway.Put("/job/j", "m 1\n").With("Content-Encoding", "deflate"), gateway.Put("/job/j", "m 1\n").With("Content-Encoding", "br"),
			gateway.Put("/job/j", "m 1\n").With("Content-Encoding", "zstd"), gateway.Put("/job/j", "m 1\n").With("Content-Encoding", "identity"),
		},
	},
	{
		// Clients that encode whatever they push say so of an empty body too; and nobody reads that of a DELETE.
		name: "nothing in an encoding", unlike: "refuses it", want: `group{instance="",job="j"} pushed`, do: []gateway.Request{
			gateway.Put("/job/j", "").With("Content-Encoding", "gzip"), gateway.Post("/job/j", "").With("Content-Encoding", "snappy"),
			{Method: http.MethodPut, Path: "/metrics/job/j", Chunked: true, Status: http.StatusOK, Exact: true, Header: http.Header{"Content-Encoding": {"gzip"}}},
			gateway.Del("/job/other", "").With("Content-Encoding", "gzip"), gateway.Del("/job/other", "x").With("Content-Encoding", "gzip"),
		},
	},
	{
		// Kept: nobody looks into a comment, and what ends its line is part of a HELP.
		name: "carriage returns in comments", do: []gateway.Request{gateway.Put("/job/j", "# a comment\r\n# HELP m That.\r\n# TYPE m gauge\nm 1\n")},
		want: "# HELP m That.\r\n# TYPE m gauge\nm{instance=\"\",job=\"j\"} 1\ngroup{instance=\"\",job=\"j\"} pushed",
	},
	{name: "gzip that does not say so", do: []gateway.Request{gateway.Put("/job/j", gateway.InGzip("m 1\n")).Refused("invalid metric name")}},
	{
		name: "chunked", want: pushedM,
		do: []gateway.Request{{Method: http.MethodPut, Path: "/metrics/job/j", Body: "m 1\n", Chunked: true, Status: http.StatusOK, Exact: true}},
	},
	{name: "100-continue", do: []gateway.Request{gateway.Put("/job/j", "m 1\n").With("Expect", "100-continue")}, want: pushedM},
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
	protobuf := func(body string) gateway.Request {
		return gateway.Put("/job/j", body).With("Content-Type", protobufType)
	}
	return []behaviour{
		{
			name: "gauge and counter", do: []gateway.Request{protobuf(good)},
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
			do: []gateway.Request{protobuf(delimited(
				familyOf("g", dto.MetricType_GAUGE, &dto.Metric{Gauge: &dto.Gauge{Value: proto.Float64(1)}, Label: counter.Label}),
				familyOf("g", dto.MetricType_GAUGE, gauge(2)),
			))},
			want: `
				g{instance="",job="j"} 2
				group{instance="",job="j"} pushed`,
		},
		{name: "empty body", do: []gateway.Request{protobuf("")}, want: `group{instance="",job="j"} pushed`},
		{name: "truncated body", do: []gateway.Request{protobuf(good[:len(good)-3]).Refused("unexpected EOF\n")}},
		{name: "a length of 4 GiB and no body", unlike: "takes 9 s and as much memory", do: []gateway.Request{protobuf("\xff\xff\xff\xff\x0f").Refused("")}},
		{name: "content types that lack a parameter", do: []gateway.Request{
			gateway.Put("/job/j", good).With("Content-Type", "application/vnd.google.protobuf").Refused("text format parsing error"),
			gateway.Put("/job/j", good).With("Content-Type", "application/vnd.google.protobuf; encoding=delimited").Refused("text format parsing error"),
			gateway.Put("/job/j", good).With("Content-Type", "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily").Refused("text format parsing error"),
		}},
		{
			name: "timestamp", do: []gateway.Request{protobuf(delimited(familyOf("g", dto.MetricType_GAUGE, stamped))).Refused("must not have timestamps")},
			want: `group{instance="",job="j"} rejected`,
		},
		{
			name: "a value of another type", do: []gateway.Request{protobuf(delimited(familyOf("c", dto.MetricType_COUNTER, gauge(1)))).Refused("is not a COUNTER")},
			want: `group{instance="",job="j"} rejected`,
		},
		{
			name: "a name that is none", do: []gateway.Request{protobuf(delimited(familyOf("", dto.MetricType_GAUGE, gauge(1)))).Refused("")},
			unlike: "takes it, and then answers scrapes with nothing",
		},
		{
			name: "a gauge that says gauge histogram", unlike: "cuts every scrape off there",
			do:   []gateway.Request{protobuf(delimited(familyOf("g", dto.MetricType_GAUGE_HISTOGRAM, gauge(1)))).Refused("is not a GAUGE_HISTOGRAM")},
			want: `group{instance="",job="j"} rejected`,
		},
		{
			// A family without series is none, in protobuf as in text: the group keeps what it has of that name.
			name: "a family without series", unlike: "drops what the group has of it",
			do: []gateway.Request{gateway.Post("/job/j", "g 1\n"), gateway.Post("/job/j", delimited(familyOf("g", dto.MetricType_GAUGE))).With("Content-Type", protobufType)},
			want: `
				g{instance="",job="j"} 1
				group{instance="",job="j"} pushed`,
		},
		{
			name: "a push time without series", unlike: "its API breaks off",
			do: []gateway.Request{
				protobuf(delimited(familyOf("push_failure_time_seconds", dto.MetricType_GAUGE))),
				protobuf(delimited(familyOf("push_failure_time_seconds", dto.MetricType_GAUGE))),
				gateway.Ask(http.MethodGet, "/api/v1/metrics", 200), gateway.Ask(http.MethodGet, "/", 200),
			},
			want: `group{instance="",job="j"} pushed`,
		},
		{
			name: "native histogram", unlike: later,
			do: []gateway.Request{protobuf(delimited(familyOf("h", dto.MetricType_HISTOGRAM, &dto.Metric{Histogram: nativeHistogram})))},
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
func wantNativeHistogram(t *testing.T, g *gateway.Gateway) {
	page := g.MustSend(t, gateway.Ask(http.MethodGet, "/metrics", 200).With("Accept", protobufType))
	for body := bytes.NewBufferString(page.Body); body.Len() > 0; {
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
		g.Check(t, gateway.Ask(http.MethodGet, "/api/v1/metrics", 200).Answered(200, `"buckets":[[3,"-0.001","0.001","1"],[0,"1","2","1"],[0,"2","4","1"]]`))
		return
	}
	t.Error("the scrape in protobuf has no h")
}
