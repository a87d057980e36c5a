package scrape_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/scrape"
)

// An answer is data: of its head only what says how to read it reaches the scraper.
func TestResponseHeader(t *testing.T) {
	for name, tt := range map[string]struct{ answered, want http.Header }{
		"what a scraper reads": {
			http.Header{
				"Content-Type": {"text/plain; version=0.0.4; charset=utf-8; escaping=underscores"}, "Content-Encoding": {"gzip"},
				"Retry-After": {"5"}, "Etag": {`"x"`}, "Vary": {"Accept", "Accept-Encoding"},
			},
			http.Header{
				"Content-Type": {"text/plain; version=0.0.4; charset=utf-8; escaping=underscores"}, "Content-Encoding": {"gzip"},
				"Retry-After": {"5"}, "Etag": {`"x"`}, "Vary": {"Accept", "Accept-Encoding"},
			},
		},
		"what a browser or a client acts on": {
			http.Header{
				"Set-Cookie": {"a=b"}, "Location": {"/x"}, "Refresh": {"0; url=/x"}, "Link": {"</x>; rel=preload"}, "Content-Location": {"/x"},
				"Service-Worker-Allowed": {"/"}, "Clear-Site-Data": {`"*"`}, "Content-Security-Policy": {"sandbox allow-scripts"}, "Alt-Svc": {"h2=x"},
				"Access-Control-Allow-Origin": {"*"}, "Www-Authenticate": {"Basic"}, "Strict-Transport-Security": {"max-age=1"}, "X-Relay-Error": {"denied"},
				"Content-Disposition": {"attachment"}, "Transfer-Encoding": {"chunked"}, "Content-Length": {"5"}, "Trailer": {"X"}, "Upgrade": {"x"},
				"Report-To": {"{}"}, "Nel": {"{}"}, "Sourcemap": {"x"}, "X-Own": {"1"}, "Date": {"x"}, "Server": {"x"}, "": {"x"},
			},
			http.Header{},
		},
		"what concerns the connection": {http.Header{"Connection": {"close, Etag"}, "Etag": {"x"}, "Vary": {"y"}}, http.Header{"Vary": {"y"}}},
		"much":                         {http.Header{"Etag": {strings.Repeat("x", 2000)}, "Vary": make([]string, 2000), "Retry-After": {"1"}}, http.Header{"Retry-After": {"1"}}},
		"nothing":                      {nil, http.Header{}},
	} {
		if diff := cmp.Diff(tt.want, scrape.ResponseHeader(tt.answered)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// What is no exposition is text to read, and what has no type stays without.
func TestResponseContentType(t *testing.T) {
	for passes, types := range map[bool][]string{
		true: {
			"text/plain",
			"text/plain;version=0.0.4",
			"TEXT/PLAIN; charset=utf-8",
			"text/plain; version=1.0.0; a=\"b, c\"",
			"application/openmetrics-text; version=1.0.0; charset=utf-8",
			"application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
			"text/plain;",
		},
		false: {
			"text/html",
			"text/html; charset=utf-8",
			"Text/HTML",
			"image/svg+xml",
			"application/xhtml+xml",
			"application/javascript",
			"application/json",
			"multipart/x-mixed-replace",
			"text/plain, text/html",
			"text/plain text/html",
			"text/html; x=text/plain",
			"text/plainx",
			"text/plain; a=b; a=c",
			"",
			"text",
			"text/plain; a=" + strings.Repeat("x", 2000),
		},
	} {
		for _, answered := range types {
			want := "text/plain"
			if passes {
				want = answered
			}
			got := scrape.ResponseHeader(http.Header{"Content-Type": {answered}})
			if diff := cmp.Diff(http.Header{"Content-Type": {want}}, got); diff != "" {
				t.Errorf("%.80q (-want +got):\n%s", answered, diff)
			}
		}
	}
	got := scrape.ResponseHeader(http.Header{"Content-Type": {"text/plain", "text/html"}})
	if diff := cmp.Diff(http.Header{"Content-Type": {"text/plain"}}, got); diff != "" {
		t.Errorf("two types (-want +got):\n%s", diff)
	}
}

// A redirect is told, and nobody can follow it.
func TestCheckHead(t *testing.T) {
	const refused = `target_redirects: the target answered 302, a redirect to `
	for _, tt := range []struct {
		status   int
		location string
		want     string // what the error says; empty for none
	}{
		{200, "http://elsewhere/", ""},
		{201, "/x", ""},
		{204, "", ""},
		{300, "/x", ""},
		{304, "", ""},
		{304, "/x", ""},
		{305, "/x", ""},
		{404, "", ""},
		{599, "", ""},
		{301, "/login", `target_redirects: the target answered 301, a redirect to "/login" that`},
		{303, "/login", "target_redirects"},
		{307, "/login", "target_redirects"},
		{308, "/login", "target_redirects"},
		{302, "", refused + "no valid URL"},
		{302, "http://[::1/", refused + "no valid URL"},
		{302, "http://elsewhere.example.org:8080/metrics", refused + `"http://elsewhere.example.org:8080/metrics" that`},
		{302, "http://user:secret@elsewhere/m?token=secret#secret", refused + `"http://elsewhere/m" that`},
		{302, "//user:secret@elsewhere/m", refused + `"//elsewhere/m" that`},
		{302, "javascript:alert('secret')", refused + `"javascript:" that`},
		{302, "/a%0Ab%1b", refused + `"/a%0Ab%1b" that`},
		{302, "/späh", refused + `"/sp%C3%A4h" that`},
		{302, "/" + strings.Repeat("x", 1<<20), refused + `"/` + strings.Repeat("x", 255) + `"… that`},
		{0, "", "target_unreachable"},
		{100, "", "target_unreachable"},
		{101, "", "target_unreachable"},
		{199, "", "target_unreachable"},
		{600, "", "target_unreachable"},
		{999, "", "target_unreachable"},
		{-1, "", "target_unreachable"},
	} {
		header := http.Header{}
		if tt.location != "" {
			header.Set("Location", tt.location)
		}
		said := ""
		if err := scrape.CheckHead(tt.status, header); err != nil {
			said = err.Error()
		}
		if tt.want == "" && said != "" || !strings.Contains(said, tt.want) || strings.Contains(said, "secret") || strings.Contains(said, "\n") || len(said) > 1024 {
			t.Errorf("%d to %.80q: %.400q, want %q", tt.status, tt.location, said, tt.want)
		}
	}
}

// A browser does nothing with an answer, nor with the reason why there is none.
func TestHandlerDisarmsAnswers(t *testing.T) {
	for name, s := range map[string]*scraper{
		"an answer": {resp: &scrape.Response{Status: 200, ContentLength: -1, Body: io.NopCloser(strings.NewReader("<script>"))}},
		"an error":  {err: scrape.Errorf(scrape.TargetRedirects, "x")},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			resp, _, err := ask(t, serve(t, s), method, nil)
			if err != nil {
				t.Fatal(err)
			}
			if resp.Header.Get("X-Content-Type-Options") != "nosniff" || !strings.HasPrefix(resp.Header.Get("Content-Security-Policy"), "sandbox;") {
				t.Errorf("%s to %s: %v", name, method, resp.Header)
			}
		}
	}
}
