package scrape

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
)

// FuzzParseTimeout looks for a header that gives a scrape no time, or more than the limit.
func FuzzParseTimeout(f *testing.F) {
	for _, header := range []string{"", "10", "1e300", "0.0000001", "-1", "NaN", "Inf", "0x1p-2"} {
		f.Add(header, int64(2*time.Minute))
	}
	f.Fuzz(func(t *testing.T, header string, limit int64) {
		most := time.Duration(max(limit, int64(time.Millisecond)))
		timeout, err := ParseTimeout(header, most)
		if err != nil {
			if timeout != 0 || strings.ContainsAny(err.Error(), "\r\n") {
				t.Errorf("%q: %v, %q", header, timeout, err)
			}
			return
		}
		if timeout < 0 || timeout > most {
			t.Errorf("%q with the limit %v is %v", header, most, timeout)
		}
	})
}

// FuzzAnswerHead looks for a head of a target's answer of which something reaches the scraper that a browser or a client acts on, and for
// a reason that is more than one short line, or holds a password.
func FuzzAnswerHead(f *testing.F) {
	f.Add(200, "Content-Type", "text/html", "Set-Cookie", "a=b")
	f.Add(302, "Location", "https://user:hunter2@host/p?q=secret#f", "Connection", "Content-Type, X")
	f.Add(200, "Content-Type", "text/plain; version=0.0.4; charset=\"\r\n\"", "Etag", strings.Repeat("x", 2000))
	f.Fuzz(func(t *testing.T, status int, name1, value1, name2, value2 string) {
		h := http.Header{}
		h.Add(name1, value1)
		h.Add(name2, value2)
		if err := CheckHead(status, h); err != nil {
			if len(err.Message) > 1024+maxPlaceBytes*10 || strings.ContainsFunc(err.Message, unicode.IsControl) || !isASCII(err.Message) {
				t.Errorf("the reason is %q", err.Message)
			}
		} else if status < 200 || status > 599 || slices.Contains(redirects, status) {
			t.Errorf("an answer with the status %d is passed on", status)
		}
		before := maps.Clone(h)
		out := ResponseHeader(h)
		for name, values := range out {
			if !slices.Contains(answered, name) || sizeOf(values) > maxAnsweredBytes {
				t.Errorf("%s: %q is passed on", name, values)
			}
		}
		if types := out["Content-Type"]; types != nil && !isExposition(types) {
			t.Errorf("the type %q is passed on", types)
		}
		if !maps.EqualFunc(before, h, slices.Equal[[]string]) {
			t.Errorf("the head was changed from %v to %v", before, h)
		}
		if again := ResponseHeader(out); !maps.EqualFunc(out, again, slices.Equal[[]string]) {
			t.Errorf("%v becomes %v at the other end", out, again)
		}
	})
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r > unicode.MaxASCII && r != '…' })
}

// FuzzTakeParams looks for a query of which a parameter that is for the relay reaches the target, or another one is changed.
func FuzzTakeParams(f *testing.F) {
	f.Add("a=1&_scheme=https&b", "_agent")
	f.Add("_agent=%zz&_agent=x&&=&_scheme", "b")
	f.Fuzz(func(t *testing.T, query, other string) {
		rest, _ := takeParams(query, schemeParam, agentParam)
		var want []string
		for pair := range strings.SplitSeq(query, "&") {
			if name, _, _ := strings.Cut(pair, "="); name != schemeParam && name != agentParam {
				want = append(want, pair)
			}
		}
		if rest != strings.Join(want, "&") {
			t.Errorf("%q: %q is left", query, rest)
		}
		if again, taken := takeParams(rest, schemeParam, agentParam); again != rest || len(taken) > 0 {
			t.Errorf("%q: of the rest %q %q is left, and %v is taken", query, rest, again, taken)
		}
		if same, taken := takeParams(query, "not="+other); same != query || len(taken) > 0 {
			t.Errorf("%q becomes %q for nothing", query, same)
		}
	})
}
