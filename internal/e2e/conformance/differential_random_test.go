//go:build linux

package conformance_test

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"

	"pushrelay/internal/e2e/gateway"
)

// kinds of random requests.
type kind int

const (
	pushes kind = iota
	wipes
	asks
)

// ambiguousPath is the kind of a path whose redirect leads to another group.
const ambiguousPath = "ambiguous"

// A randomRequest is a request, and how it came to be.
type randomRequest struct {
	gateway.Request
	kind     kind
	pathKind string
	// plain is the body without its content encoding, which the reference is too old for.
	plain string
}

// to returns the request as the one or the other is sent it.
func (r randomRequest) to(reference bool) gateway.Request {
	if !reference || r.Header.Get("Content-Encoding") == "" {
		return r.Request
	}
	plain := r.Request
	plain.Header = plain.Header.Clone()
	plain.Header.Del("Content-Encoding")
	plain.Body = r.plain
	return plain
}

func (r randomRequest) String() string {
	return fmt.Sprintf("%s %s %v %q", r.Method, r.Path, map[string][]string(r.Header), r.plain)
}

// A generator makes requests that meet each other: few groups, few families, few label values.
type generator struct{ *rand.Rand }

// pick returns one of the choices.
func pick[T any](g generator, choices ...T) T { return choices[g.IntN(len(choices))] }

// chance is true n times in a hundred.
func (g generator) chance(n int) bool { return g.IntN(100) < n }

func (g generator) request() randomRequest {
	switch n := g.IntN(100); {
	case n < 2:
		return randomRequest{kind: wipes, Request: gateway.Request{Method: http.MethodPut, Path: "/api/v1/admin/wipe"}}
	case n < 5:
		return randomRequest{kind: asks, Request: gateway.Request{
			Method: pick(g, http.MethodGet, http.MethodPatch, http.MethodOptions, http.MethodHead, http.MethodPost),
			Path: pick(g, "/metrics/job/a", "/metrics/job/a/b/c", "/metrics/job@base64/YQ", "/metrics/job", "/metrics/jobs/a", "/api/v1/status",
				"/api/v1/metrics", "/api/v1/zzz", "/api/v1/admin/wipe/", "/-/ready", "/-/healthy", "/", "/status", "/nothing"),
		}}
	}
	r := randomRequest{kind: pushes}
	r.Method = pick(g, http.MethodPut, http.MethodPut, http.MethodPut, http.MethodPost, http.MethodPost, http.MethodPost, http.MethodDelete)
	r.Path, r.pathKind = g.path()
	if r.Method != http.MethodDelete || g.chance(10) {
		g.body(&r)
	}
	return r
}

// path returns the path of a group, or one that is none.
func (g generator) path() (path, pathKind string) {
	switch n := g.IntN(100); {
	case n < 4:
		return g.badPath(), "bad"
	case n < 6:
		return pick(g, "/metrics/job/", "/metrics/job//instance/x", "/metrics/job/a/zone//rack/b", "/metrics/job/a/zone/../rack/b", "/metrics/job/a/./"), ambiguousPath
	case n < 8:
		return pick(g, "/metrics//job/a/zone/b", "//metrics/job/a", "/metrics/job/a//zone/b", "/metrics/Job/a"), "redirected"
	case n < 9:
		return pick(g, "/metrics/job/a/zone%2Fb", "/metrics/job%2Fa%2Fzone%2Fb", "/metrics/job/a%2Fzone%2Fb"), "escaped whole"
	}
	var b strings.Builder
	b.WriteString("/metrics/job")
	b.WriteString(g.component(pick(g, "a", "a", "b", "c", "two words", "ü/x")))
	for range pick(g, 0, 0, 1, 1, 2) {
		b.WriteString("/" + pick(g, "zone", "rack", "instance", "_x"))
		b.WriteString(g.component(pick(g, "1", "2", "eu-west", "50%", "a\"b\\c\nd", "Π")))
	}
	return b.String() + pick(g, "", "", "", "/"), "good"
}

// component returns the value that follows a name in a path, in one of the spellings.
func (g generator) component(value string) string {
	if g.chance(25) || strings.ContainsAny(value, "/") {
		encoding := pick(g, base64.RawURLEncoding, base64.URLEncoding)
		return "@base64/" + encoding.EncodeToString([]byte(value))
	}
	return "/" + escapePath(value)
}

func escapePath(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' {
			b.WriteByte(c)
			continue
		}
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}

func (g generator) badPath() string {
	return "/metrics" + pick(g, "/job/a/odd", "/job/a/zone/1/odd/x/", "/job/a/l@base64/foo.bar", "/job/a%2Fb",
		"/job/a/a-b/x", "/job/a/a.b/x", "/job/a/a:b/x", "/job/a/1a/x", "/job/a/__x/y", "/job/a/@base64/eA", "/job/a/x@base64@base64/eA",
		"/job/a/%CE%A0/x", "/job/a/%20/x", "/job")
}

// Families have one type and one help most of the time: which of two helps wins is chance at the reference, so that it
// belongs to the name.
var familyTypes = map[string]string{
	"rows": "gauge", "runs_total": "counter", "plain": "", "lat": "histogram", "quant": "summary", "other": "untyped",
	// Names that the suffixes of the others collide with.
	"lat_count": "gauge", "quant_sum": "counter", "lat_bucket": "",
}

// familyNames are the names to pick from: those that collide seldom, because after one of them many pushes are refused.
var familyNames = []string{
	"rows", "rows", "rows", "runs_total", "runs_total", "runs_total", "plain", "plain", "plain", "lat", "lat", "lat", "quant", "quant", "quant",
	"other", "other", "other", "lat_count", "quant_sum", "lat_bucket",
}

func (g generator) body(r *randomRequest) {
	switch n := g.IntN(100); {
	case n < 5:
		r.plain = ""
	case n < 17:
		r.plain = g.malformed()
	case n < 40:
		r.plain = g.protobuf()
		r.Request = r.With("Content-Type", protobufType)
		if g.chance(8) {
			// Within the last family: 1.5.1 takes a length with nothing behind it for the end of the body.
			r.plain = r.plain[:len(r.plain)-1-g.IntN(3)]
		}
	default:
		r.plain = g.text()
		if g.chance(20) {
			r.Request = r.With("Content-Type", pick(g, "text/plain; version=0.0.4", "application/json", "application/x-www-form-urlencoded", "text/plain; charset=latin1"))
		}
	}
	r.Body = r.plain
	switch n := g.IntN(100); {
	case n < 8:
		r.Request = r.With("Content-Encoding", "gzip")
		r.Body = gateway.InGzip(r.plain)
	case n < 12:
		r.Request = r.With("Content-Encoding", "snappy")
		r.Body = gateway.InSnappy(r.plain)
	}
	r.Chunked = g.chance(10)
}

func (g generator) malformed() string {
	return pick(g, "rows 1", "rows 1\r\n", "blablabla\n", "# TYPE rows gauge\n# TYPE rows gauge\nrows 1\n", "rows 1\n# TYPE rows gauge\n",
		"# HELP rows a\n# HELP rows b\nrows 1\n", "# TYPE rows info\nrows 1\n", "rows{k=\"\xff\"} 1\n", "rows 0x1p3\n", "rows 1_000\n", "rows{k=\"1\" 1\n",
		"rows{k=1} 1\n", "rows{1k=\"1\"} 1\n", "1rows 1\n", "rows 1 2 3\n", "rows 1 # {a=\"b\"} 1\n", "rows{k=\"1\",k=\"2\"} 1\n", "\x00", "{}\n", "rows\n",
		"# TYPE lat histogram\nlat_bucket{le=\"x\"} 1\n", "# TYPE quant summary\nquant{quantile=\"x\"} 1\n", "# TYPE rows gauge extra\nrows 1\n")
}

// text returns a well-formed body, most of the time without contradictions.
func (g generator) text() string {
	var b strings.Builder
	seen := map[string]bool{}
	for range 1 + g.IntN(4) {
		name := pick(g, familyNames...)
		if seen[name] {
			continue
		}
		seen[name] = true
		typ := familyTypes[name]
		if g.chance(2) {
			typ = pick(g, "gauge", "counter", "untyped", "")
		}
		fmt.Fprintf(&b, "# HELP %s The %s of it.\n", name, name)
		if typ != "" {
			fmt.Fprintf(&b, "# TYPE %s %s\n", name, pick(g, typ, typ, strings.ToUpper(typ)))
		}
		g.series(&b, name, typ)
	}
	if g.chance(4) {
		b.WriteString(pick(g, "push_time_seconds 5\n", "go_goroutines 1\n", "# TYPE go_goroutines gauge\ngo_goroutines 1\n", "rows{__bad=\"1\"} 1\n",
			"stamped 1 1000\n", "# EOF\n", "\n\n", "# TYPE lonely gauge\n", "empty{k=\"\"} 1\n"))
	}
	return b.String()
}

func (g generator) series(b *strings.Builder, name, typ string) {
	labels := []string{`k="1"`, `k="2"`, `k="a\"\\\n"`, `job="mine"`, `instance="mine"`, `zone="1"`, `zone="2",k="1"`}
	used := map[string]bool{}
	for range 1 + g.IntN(3) {
		l := pick(g, append(labels, "", "", "")...)
		if used[l] && (typ == "histogram" || typ == "summary" || !g.chance(5)) {
			continue
		}
		used[l] = true
		braces := func(more string) string {
			if all := strings.Trim(l+","+more, ","); all != "" {
				return "{" + all + "}"
			}
			return ""
		}
		switch typ {
		case "histogram":
			fmt.Fprintf(b, "%s_bucket%s %d\n%s_bucket%s %d\n", name, braces(`le="0.5"`), g.IntN(3), name, braces(`le="1"`), 2+g.IntN(3))
			if g.chance(80) {
				fmt.Fprintf(b, "%s_bucket%s 5\n", name, braces(`le="+Inf"`))
			}
			fmt.Fprintf(b, "%s_sum%s %s\n%s_count%s 5\n", name, braces(""), g.number(), name, braces(""))
		case "summary":
			fmt.Fprintf(b, "%s%s %s\n%s_sum%s %s\n%s_count%s %d\n", name, braces(`quantile="0.5"`), g.number(), name, braces(""), g.number(), name, braces(""), g.IntN(9))
		default:
			fmt.Fprintf(b, "%s%s %s\n", name, braces(""), g.number())
		}
	}
}

func (g generator) number() string {
	if g.chance(60) {
		return strconv.Itoa(g.IntN(5))
	}
	return pick(g, "NaN", "+Inf", "-Inf", "-0", "1e9", "1000000.0", "0.1", "1e-7", "123456789.123", "-3.5e+300", "Infinity", "nan")
}

// protobuf returns a well-formed body, most of the time without contradictions.
func (g generator) protobuf() string {
	var families []*dto.MetricFamily
	seen := map[string]bool{}
	for range 1 + g.IntN(3) {
		name := pick(g, familyNames...)
		if seen[name] { // which of two families of a name counts is a quirk, see TestConformance
			continue
		}
		seen[name] = true
		typ := map[string]dto.MetricType{
			"gauge": dto.MetricType_GAUGE, "counter": dto.MetricType_COUNTER, "histogram": dto.MetricType_HISTOGRAM, "summary": dto.MetricType_SUMMARY,
		}[familyTypes[name]]
		if familyTypes[name] == "" || familyTypes[name] == "untyped" {
			typ = dto.MetricType_UNTYPED
		}
		f := familyOf(name, typ)
		f.Help = proto.String("The " + name + " of it.")
		for _, label := range [][]string{nil, {"k", "1"}, {"k", "2"}, {"zone", "1"}, {"job", "mine"}} {
			if g.chance(40) {
				f.Metric = append(f.Metric, g.metric(typ, label))
			}
		}
		if len(f.Metric) == 0 {
			f.Metric = append(f.Metric, g.metric(typ, nil))
		}
		families = append(families, f)
	}
	return delimited(families...)
}

func (g generator) metric(typ dto.MetricType, label []string) *dto.Metric {
	m := &dto.Metric{}
	if label != nil {
		m.Label = []*dto.LabelPair{{Name: proto.String(label[0]), Value: proto.String(label[1])}}
	}
	if g.chance(2) {
		m.TimestampMs = proto.Int64(1000)
	}
	if g.chance(2) { // a value of another type
		typ = pick(g, dto.MetricType_GAUGE, dto.MetricType_COUNTER)
	}
	value := float64(g.IntN(5)) / 4
	switch typ {
	case dto.MetricType_GAUGE:
		m.Gauge = &dto.Gauge{Value: proto.Float64(value)}
	case dto.MetricType_COUNTER:
		m.Counter = &dto.Counter{Value: proto.Float64(value)}
	case dto.MetricType_HISTOGRAM:
		m.Histogram = &dto.Histogram{
			SampleCount: proto.Uint64(5), SampleSum: proto.Float64(value),
			Bucket: []*dto.Bucket{{UpperBound: proto.Float64(0.5), CumulativeCount: proto.Uint64(uint64(g.IntN(5)))}},
		}
	case dto.MetricType_SUMMARY:
		m.Summary = &dto.Summary{
			SampleCount: proto.Uint64(5), SampleSum: proto.Float64(value),
			Quantile: []*dto.Quantile{{Quantile: proto.Float64(0.5), Value: proto.Float64(value)}},
		}
	default:
		m.Untyped = &dto.Untyped{Value: proto.Float64(value)}
	}
	return m
}
