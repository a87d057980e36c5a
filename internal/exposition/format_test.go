package exposition_test

import (
	"testing"

	"pushrelay/internal/exposition"
)

func TestFormatOfPush(t *testing.T) {
	const protobuf = "application/vnd.google.protobuf"
	tests := []struct {
		contentType string
		want        exposition.Format
	}{
		{"", exposition.Text004},
		{"text/plain; version=0.0.4", exposition.Text004},
		{"application/json", exposition.Text004},
		{"application/openmetrics-text; version=1.0.0", exposition.Text004},
		{protobuf, exposition.Text004},
		{protobuf + "; encoding=delimited", exposition.Text004},
		{protobuf + "; proto=io.prometheus.client.MetricFamily", exposition.Text004},
		{protobuf + "; proto=io.prometheus.client.MetricFamily; encoding=text", exposition.Text004},
		{protobuf + "; proto=io.prometheus.client.MetricFamily; encoding=delimited; ;=", exposition.Text004},
		{protobuf + "; proto=io.prometheus.client.MetricFamily; encoding=delimited", exposition.ProtobufDelimited},
		{protobuf + `;encoding="delimited";escaping=values;proto=io.prometheus.client.MetricFamily`, exposition.ProtobufDelimited},
		{"Application/VND.Google.Protobuf; Proto=io.prometheus.client.MetricFamily; Encoding=delimited", exposition.ProtobufDelimited},
	}
	for _, tt := range tests {
		if got := exposition.FormatOfPush(tt.contentType); got != tt.want {
			t.Errorf("FormatOfPush(%q) = %v, want %v", tt.contentType, got, tt.want)
		}
	}
}

func TestNegotiate(t *testing.T) {
	const (
		text       = "text/plain; version=0.0.4; charset=utf-8; escaping="
		protobuf   = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding="
		prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
	)
	tests := []struct{ accept, want, withOpenMetrics string }{
		{"", text + "underscores", ""},
		{"*/*", text + "underscores", ""},
		{"text/html", text + "underscores", ""},
		{"text/plain;version=0.0.4;escaping=allow-utf-8", text + "allow-utf-8", ""},
		{"text/plain;version=0.0.4;escaping=dots", text + "dots", ""},
		{"text/plain;version=0.0.4;escaping=values", text + "values", ""},
		{"text/plain;version=0.0.4;escaping=nonsense", text + "underscores", ""},
		{"text/plain;version=1.0.0", text + "underscores", ""},
		{"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited", protobuf + "delimited; escaping=underscores", ""},
		{"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text", protobuf + "text; escaping=underscores", ""},
		{"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=compact-text;escaping=dots", protobuf + "compact-text; escaping=dots", ""},
		{"application/vnd.google.protobuf;proto=other;encoding=delimited", text + "underscores", ""},
		{"application/openmetrics-text;version=1.0.0", text + "underscores", "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"},
		{prometheus, text + "allow-utf-8", "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8"},
		{"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7," + prometheus, protobuf + "delimited; escaping=underscores", ""},
	}
	for _, tt := range tests {
		format, escaping := exposition.Negotiate(tt.accept, exposition.Offers{})
		if got := format.ContentType(escaping); got != tt.want {
			t.Errorf("Negotiate(%q) = %q, want %q", tt.accept, got, tt.want)
		}
		want := tt.withOpenMetrics
		if want == "" {
			want = tt.want
		}
		format, escaping = exposition.Negotiate(tt.accept, exposition.Offers{OpenMetrics: true})
		if got := format.ContentType(escaping); got != want {
			t.Errorf("Negotiate(%q) with OpenMetrics = %q, want %q", tt.accept, got, want)
		}
	}
}

func TestNegotiateEncoding(t *testing.T) {
	tests := []struct {
		header string
		want   exposition.Encoding
	}{
		{"", exposition.Identity},
		{"gzip", exposition.Gzip},
		{"GZIP", exposition.Gzip},
		{"x-gzip", exposition.Gzip},
		{"zstd,gzip", exposition.Gzip},
		{"gzip;q=0", exposition.Identity},
		{"gzip;q=0.000", exposition.Identity},
		{"gzip;q=0.5, identity", exposition.Identity},
		{"gzip;q=0.5, identity;q=0.5", exposition.Gzip},
		{"identity", exposition.Identity},
		{"identity;q=0", exposition.Identity},
		{"identity;q=0, gzip;q=0.1", exposition.Gzip},
		{"identity;q=0, *", exposition.Gzip},
		{"*", exposition.Gzip},
		{"*;q=0", exposition.Identity},
		{"*;q=0, gzip", exposition.Gzip},
		{"*, gzip;q=0", exposition.Identity},
		{"deflate, br", exposition.Identity},
		{"gzip; foo=bar ; Q = 0 ", exposition.Identity},
		{"gzip;q=x", exposition.Identity},
		{"gzip;q=NaN", exposition.Identity},
		{"gzip;q=2", exposition.Identity},
		{",,;q=1,gzip", exposition.Gzip},
	}
	for _, tt := range tests {
		if got := exposition.NegotiateEncoding(tt.header); got != tt.want {
			t.Errorf("NegotiateEncoding(%q) = %s, want %s", tt.header, got, tt.want)
		}
	}
}
