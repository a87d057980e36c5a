package exposition_test

import (
	"bytes"
	"errors"
	"mime"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"

	"pushrelay/internal/exposition"
)

// FuzzDecode looks for a body that passes its limit, for one that is not what was encoded, and for one after which the next is read
// otherwise: readers are used again.
func FuzzDecode(f *testing.F) {
	f.Add([]byte("m 1\n"), uint8(0), int64(10))
	for encoding := range uint8(3) {
		f.Add(encoded(f, encoding, []byte("m 1\n")), encoding, int64(3))
		f.Add(encoded(f, encoding, bytes.Repeat([]byte("m 1\n"), 1000)), encoding, int64(0))
	}
	f.Fuzz(func(t *testing.T, body []byte, encoding uint8, limit int64) {
		encoding %= 3
		name := []string{"gzip", "Snappy", "br"}[encoding]
		limit = min(max(limit, 1), 1<<20)
		var out bytes.Buffer
		err := exposition.Decode(&out, bytes.NewReader(body), name, limit)
		if int64(out.Len()) > limit+1 || err == nil && int64(out.Len()) > limit {
			t.Errorf("%d bytes come out, and %d are allowed: %v", out.Len(), limit, err)
		}
		// Whatever that was, the next one is what was encoded.
		out.Reset()
		err = exposition.Decode(&out, bytes.NewReader(encoded(t, encoding, body)), name, int64(len(body)))
		if len(body) > 0 && err != nil || !bytes.Equal(out.Bytes(), body) {
			t.Errorf("decoding what was encoded: %d bytes, %v, want %d", out.Len(), err, len(body))
		}
		if err := exposition.Decode(&out, bytes.NewReader(encoded(t, encoding, body)), name, int64(len(body)-1)); len(body) > 1 && !errors.Is(err, exposition.ErrTooLarge) {
			t.Errorf("one byte more than allowed: %v", err)
		}
	})
}

func encoded(tb testing.TB, encoding uint8, body []byte) []byte {
	tb.Helper()
	var out bytes.Buffer
	var err error
	switch encoding {
	case 0:
		w := gzip.NewWriter(&out)
		_, err = w.Write(body)
		err = errors.Join(err, w.Close())
	case 1:
		w := snappy.NewBufferedWriter(&out)
		_, err = w.Write(body)
		err = errors.Join(err, w.Close())
	default:
		return body
	}
	if err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

// FuzzNegotiate looks for headers of which a format or an encoding comes that was not asked for, or a type that cannot be read again.
func FuzzNegotiate(f *testing.F) {
	f.Add("text/plain", "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8", "gzip;q=0.5, *;q=0", true)
	f.Add("application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited", "*/*", "identity", false)
	f.Fuzz(func(t *testing.T, contentType, accept, acceptEncoding string, openMetrics bool) {
		if exposition.FormatOfPush(contentType) == exposition.ProtobufDelimited && !strings.Contains(strings.ToLower(contentType), "protobuf") {
			t.Errorf("%q is protobuf", contentType)
		}
		format, escaping := exposition.Negotiate(accept, exposition.Offers{OpenMetrics: openMetrics})
		if format == exposition.OpenMetrics100 && (!openMetrics || !strings.Contains(strings.ToLower(accept), "openmetrics")) {
			t.Errorf("%q is answered in OpenMetrics", accept)
		}
		answered := format.ContentType(escaping)
		if _, _, err := mime.ParseMediaType(answered); err != nil {
			t.Errorf("%q is answered as %q: %v", accept, answered, err)
		}
		if again, escapingAgain := exposition.Negotiate(answered, exposition.Offers{OpenMetrics: openMetrics}); again != format || escapingAgain != escaping {
			t.Errorf("%q is answered as %q, and that as %q", accept, answered, again.ContentType(escapingAgain))
		}
		if lower := strings.ToLower(acceptEncoding); exposition.NegotiateEncoding(acceptEncoding) == exposition.Gzip && !strings.Contains(lower, "gzip") && !strings.Contains(lower, "*") {
			t.Errorf("%q is answered in gzip", acceptEncoding)
		}
	})
}
