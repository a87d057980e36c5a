package exposition_test

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"

	"pushrelay/internal/exposition"
)

// inUTF16 returns a text in UTF-16, the lower byte first or last.
func inUTF16(text string, lowFirst bool) string {
	var b []byte
	for _, unit := range utf16.Encode([]rune(text)) {
		if lowFirst {
			b = append(b, byte(unit), byte(unit>>8))
		} else {
			b = append(b, byte(unit>>8), byte(unit))
		}
	}
	return string(b)
}

func compressed(tb testing.TB, kind, text string) string {
	tb.Helper()
	var b bytes.Buffer
	var err error
	switch kind {
	case "zlib":
		w := zlib.NewWriter(&b)
		_, err = w.Write([]byte(text))
		w.Close()
	case "zstd":
		w, newErr := zstd.NewWriter(&b)
		if newErr != nil {
			tb.Fatal(newErr)
		}
		_, err = w.Write([]byte(text))
		w.Close()
	}
	if err != nil {
		tb.Fatal(err)
	}
	return b.String()
}

func pushedProtobuf(tb testing.TB) string {
	tb.Helper()
	var b bytes.Buffer
	family := &dto.MetricFamily{
		Name: proto.String("requests_total"), Type: dto.MetricType_COUNTER.Enum(),
		Metric: []*dto.Metric{{Counter: &dto.Counter{Value: proto.Float64(3)}}},
	}
	if _, err := protodelim.MarshalTo(&b, family); err != nil {
		tb.Fatal(err)
	}
	return b.String()
}

// TestDiagnose: whoever pushes something else than intended reads what it is and how it is sent, after what a Pushgateway says.
func TestDiagnose(t *testing.T) {
	const text = "# HELP m That.\n# TYPE m gauge\nm 1\n"
	for _, tt := range []struct {
		name, body string
		protobuf   bool
		looks      string // what is said of the body; empty for nothing
		advice     string
	}{
		{name: "byte order mark", body: "\uFEFF" + text, looks: "begins with a byte order mark", advice: "sed"},
		{name: "byte order mark in between", body: text + "\uFEFF" + text, looks: "has a byte order mark at the start of that line"},
		{name: "CR LF", body: strings.ReplaceAll(text, "\n", "\r\n"), looks: "has CR LF where lines end", advice: `tr -d '\r'`},
		{name: "CR LF after the value only", body: "m 1\r\n", looks: "has CR LF where lines end"},
		{name: "CR LF elsewhere than the mistake", body: "# a comment\r\nm one\nm 1\r\n"},
		{name: "UTF-16, low byte first", body: inUTF16("\uFEFF"+text, true), looks: "is UTF-16", advice: "iconv"},
		{name: "UTF-16, high byte first", body: inUTF16("\uFEFF"+text, false), looks: "is UTF-16"},
		{name: "UTF-16 without its mark", body: inUTF16(text, true), looks: "is UTF-16"},
		{name: "UTF-16 without its mark, high byte first", body: inUTF16(text, false), looks: "is UTF-16"},
		{name: "gzip", body: gzipped(t, text), looks: "is a gzip stream", advice: "-H 'Content-Encoding: gzip' --data-binary @FILE"},
		{name: "gzip as protobuf", body: gzipped(t, text), protobuf: true, looks: "is a gzip stream"},
		{name: "framed snappy", body: snapped(t, text), looks: "is a snappy stream", advice: "-H 'Content-Encoding: snappy'"},
		{name: "zstd", body: compressed(t, "zstd", text), looks: "is a zstd stream", advice: "zstd -dc"},
		{name: "zlib", body: compressed(t, "zlib", text), looks: "is compressed"},
		{
			name: "form", looks: "is a form of several parts", advice: "--data-binary @FILE",
			body: "--------------------------d74496d66958873e\r\nContent-Disposition: form-data; name=\"file\"; filename=\"m.prom\"\r\n\r\n" + text + "\r\n--------------------------d74496d66958873e--\r\n",
		},
		{name: "URL-encoded", body: "m%201%0A", looks: "is URL-encoded", advice: "--data-binary"},
		{name: "line feeds dropped", body: strings.ReplaceAll(text, "\n", ""), looks: "has no line feed", advice: "curl -d @FILE drops them"},
		{name: "one line without a line feed", body: "m 1", looks: "has no line feed", advice: "echo 'NAME 1' | curl --data-binary @-"},
		{name: "last line feed", body: strings.TrimSuffix(text, "\n"), looks: "has no line feed at its end", advice: `"$(cat FILE)" drops it`},
		{name: "another mistake before that", body: "m one\nm 1"},
		{name: "exemplar", body: "# TYPE c counter\nc_total 1 # {trace_id=\"x\"} 1 1600000000.0\n# EOF\n", looks: "is OpenMetrics with an exemplar", advice: "Accept: text/plain; version=0.0.4"},
		{name: "type of OpenMetrics", body: "# TYPE m info\nm_info 1\n", looks: "is OpenMetrics, and", advice: "Accept: text/plain; version=0.0.4"},
		{name: "time of OpenMetrics", body: "m 1 1600000000.0\n# EOF\n", looks: "is OpenMetrics, and"},
		{name: "what looks like an exemplar", body: "m{a=\" # {\"} one\n"},
		{name: "page", body: "<!DOCTYPE html>\n<html></html>\n", looks: "is HTML or XML"},
		{name: "JSON", body: "{\n  \"m\": 1\n}\n", looks: "is JSON", advice: `NAME{LABEL="VALUE"} 1`},
		{name: "list", body: "[{\"m\": 1}]", looks: "is JSON"},
		{name: "names in braces", body: "{\"m\"} 1\n{\"n\"} one\n"},
		{name: "key", body: "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----\n", looks: "is PEM"},
		{name: "protobuf as text", body: pushedProtobuf(t), looks: "is protobuf", advice: "-H 'Content-Type: application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited'"},
		{name: "text as protobuf", body: text, protobuf: true, looks: "is text", advice: "without that header"},
		{name: "protobuf that is cut off", body: pushedProtobuf(t)[:20], protobuf: true},
		{name: "simple mistake", body: "m one\n"},
		{name: "nothing of these", body: "m 1\nm{ 1\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			format := exposition.Text004
			if tt.protobuf {
				format = exposition.ProtobufDelimited
			}
			_, err := new(exposition.Parser).Parse(format, []byte(tt.body), exposition.Options{})
			if err == nil {
				t.Fatal("the body was parsed")
			}
			got := exposition.Diagnose(err, format, []byte(tt.body))
			said, ok := strings.CutPrefix(got, err.Error())
			if !ok {
				t.Errorf("%q does not begin with what a Pushgateway says, %q", got, err)
			}
			if found := strings.HasPrefix(said, "; the body "+tt.looks) && strings.Contains(said, tt.advice); tt.looks == "" && said != "" || tt.looks != "" && !found {
				t.Errorf("Diagnose says %q, want %q and %q", said, tt.looks, tt.advice)
			}
			if strings.ContainsAny(said, "\n\r") {
				t.Errorf("%q is more than a line", said)
			}
		})
	}
}

// TestDiagnoseOtherErrors: limits and contradictions are what they are.
func TestDiagnoseOtherErrors(t *testing.T) {
	for _, body := range []string{"m{a=\"1\",b=\"2\",c=\"3\"} 1", "m{__a=\"1\"} 1\n"} {
		_, err := new(exposition.Parser).ParseText([]byte(body), exposition.Options{Limits: exposition.Limits{MaxLabels: 1}})
		if err == nil || exposition.Diagnose(err, exposition.Text004, []byte(body)) != err.Error() {
			t.Errorf("Diagnose of %q changes %v", body, err)
		}
	}
}
