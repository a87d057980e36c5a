package exposition_test

import (
	"bytes"
	"errors"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/snappy"

	"pushrelay/internal/exposition"
)

func gzipped(tb testing.TB, text string) string {
	tb.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, text); err != nil {
		tb.Fatalf("compressing: %v", err)
	}
	if err := w.Close(); err != nil {
		tb.Fatalf("compressing: %v", err)
	}
	return b.String()
}

func snapped(tb testing.TB, text string) string {
	tb.Helper()
	var b bytes.Buffer
	w := snappy.NewBufferedWriter(&b)
	if _, err := io.WriteString(w, text); err != nil {
		tb.Fatalf("compressing: %v", err)
	}
	if err := w.Close(); err != nil {
		tb.Fatalf("compressing: %v", err)
	}
	return b.String()
}

// The numbers are the rows of the conformance table of the push API.
func TestDecode(t *testing.T) {
	const text = "# TYPE m gauge\nm 1\n"
	zipped, framed := gzipped(t, text), snapped(t, text)
	tests := []struct{ name, encoding, body, want, wantErr string }{
		{"plain", "", text, text, ""},
		{"90 gzip", "gzip", zipped, text, ""},
		{"90 gzip in any case", "GZip", zipped, text, ""},
		{"two members", "gzip", zipped + zipped, text + text, ""},
		{"91 plain with the header, short", "gzip", "m 1\n", "", "unexpected EOF"},
		{"91 plain with the header", "gzip", text, "", "gzip: invalid header"},
		{"92 empty with the header", "gzip", "", "", ""}, // a Pushgateway refuses it
		{"empty with the other header", "snappy", "", "", ""},
		{"gzip cut off", "gzip", zipped[:len(zipped)-1], text, "unexpected EOF"},
		{"gzip with a wrong checksum", "gzip", zipped[:len(zipped)-8] + "\x00\x00\x00\x00" + zipped[len(zipped)-4:], text, "gzip: invalid checksum"},
		{"gzip with more behind it", "gzip", zipped + "garbage behind it", text, "gzip: invalid header"},
		{"93 framed snappy", "snappy", framed, text, ""},
		{"empty snappy", "snappy", "", "", ""},
		{"94 block snappy", "snappy", string(snappy.Encode(nil, []byte(text))), "", "snappy: corrupt input"},
		{"94 plain with the header", "Snappy", text, "", "snappy: corrupt input"},
		{"snappy cut off", "snappy", framed[:len(framed)-1], "", "snappy: corrupt input"},
		{"snappy with a wrong checksum", "snappy", framed[:len(framed)-1] + "\x00", "", "snappy: corrupt input"},
		{"snappy with a chunk that nobody knows", "snappy", framed + "\x02\x00\x00\x00", text, "snappy: unsupported input"},
		{"95 deflate", "deflate", text, text, ""},
		{"95 zstd", "zstd", text, text, ""},
		{"95 two encodings", "gzip, gzip", text, text, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for range 2 { // The second time with what the first has put aside.
				var got bytes.Buffer
				err := exposition.Decode(&got, strings.NewReader(tt.body), tt.encoding, 0)
				if (err == nil) != (tt.wantErr == "") || err != nil && err.Error() != tt.wantErr {
					t.Errorf("error is %v, want %q", err, tt.wantErr)
				}
				if got.String() != tt.want {
					t.Errorf("decoded %q, want %q", got.String(), tt.want)
				}
			}
		})
	}
}

func TestDecodeBounds(t *testing.T) {
	text := strings.Repeat("m 1\n", 25_000)
	for encoding, body := range map[string]string{"": text, "gzip": gzipped(t, text), "snappy": snapped(t, text)} {
		for _, tt := range []struct {
			limit   int64
			tooMuch bool
		}{{0, false}, {-1, false}, {math.MaxInt64, false}, {100_000, false}, {99_999, true}, {1, true}} {
			var got bytes.Buffer
			err := exposition.Decode(&got, strings.NewReader(body), encoding, tt.limit)
			if errors.Is(err, exposition.ErrTooLarge) != tt.tooMuch || !tt.tooMuch && err != nil {
				t.Errorf("%q with limit %d: error is %v", encoding, tt.limit, err)
			}
			if tt.tooMuch && int64(got.Len()) > tt.limit+1 {
				t.Errorf("%q with limit %d: %d bytes were written", encoding, tt.limit, got.Len())
			}
			if !tt.tooMuch && got.String() != text {
				t.Errorf("%q with limit %d: decoded something else", encoding, tt.limit)
			}
		}
	}
}

// A few bytes that stand for very many must be given up when the limit is reached, not when all were unpacked.
func TestDecodeGivesUpOnABomb(t *testing.T) {
	bomb := gzipped(t, strings.Repeat("\x00", 64<<20))
	w := &countingWriter{}
	if err := exposition.Decode(w, strings.NewReader(bomb), "gzip", 1<<20); !errors.Is(err, exposition.ErrTooLarge) {
		t.Errorf("error is %v, want ErrTooLarge", err)
	}
	if w.n > 1<<20+1 {
		t.Errorf("%d bytes were unpacked", w.n)
	}
}

type countingWriter struct{ n int }

func (w *countingWriter) Write(p []byte) (int, error) { w.n += len(p); return len(p), nil }

func TestDecodePassesErrorsOn(t *testing.T) {
	broken := errors.New("broken")
	full := errors.New("full")
	text := strings.Repeat("m 1\n", 1000)
	for encoding, body := range map[string]string{"": text, "gzip": gzipped(t, text), "snappy": snapped(t, text)} {
		r := io.MultiReader(strings.NewReader(body[:len(body)/2]), iotest.ErrReader(broken))
		if err := exposition.Decode(io.Discard, r, encoding, 0); !errors.Is(err, broken) {
			t.Errorf("%q: error is %v, want that of the reader", encoding, err)
		}
		if err := exposition.Decode(failingWriter{full}, strings.NewReader(body), encoding, 0); !errors.Is(err, full) {
			t.Errorf("%q: error is %v, want that of the writer", encoding, err)
		}
		limited := http.MaxBytesReader(httptest.NewRecorder(), io.NopCloser(strings.NewReader(body)), int64(len(body)/2))
		var tooLarge *http.MaxBytesError
		if err := exposition.Decode(io.Discard, limited, encoding, 0); !errors.As(err, &tooLarge) {
			t.Errorf("%q: error is %v, want a MaxBytesError", encoding, err)
		}
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

// A snappy reader that takes the larger blocks of S2 could be made to ask for megabytes by a few bytes.
func TestDecodeRefusesLargeBlocks(t *testing.T) {
	var b bytes.Buffer
	w := s2.NewWriter(&b, s2.WriterBlockSize(1<<20))
	if _, err := w.Write(make([]byte, 1<<20)); err != nil {
		t.Fatalf("compressing: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Fatalf("compressing: %v", err)
	}
	if err := exposition.Decode(io.Discard, &b, "snappy", 0); err == nil {
		t.Error("a body of large blocks was accepted")
	}
}

func TestDecodeFromManyGoroutines(t *testing.T) {
	text := strings.Repeat("some_metric{with=\"a label\"} 1\n", 500)
	bodies := map[string]string{"": text, "gzip": gzipped(t, text), "snappy": snapped(t, text), "deflate": text}
	var wg sync.WaitGroup
	for encoding, body := range bodies {
		for range 4 {
			wg.Go(func() {
				for range 20 {
					var got bytes.Buffer
					if err := exposition.Decode(&got, strings.NewReader(body), encoding, 0); err != nil || got.String() != text {
						t.Errorf("%q: error is %v after %d bytes", encoding, err, got.Len())
					}
				}
			})
		}
	}
	wg.Wait()
}
