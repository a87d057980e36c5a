package scrape_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/prometheus/common/promslog"
	"github.com/prometheus/common/route"

	"pushrelay/internal/scrape"
)

// scraper answers as it is told and remembers what it was asked.
type scraper struct {
	asked    *scrape.Request
	deadline time.Duration
	resp     *scrape.Response
	err      error
}

func (s *scraper) Scrape(ctx context.Context, r *scrape.Request) (*scrape.Response, error) {
	s.asked = r
	if at, ok := ctx.Deadline(); ok {
		s.deadline = time.Until(at)
	}
	return s.resp, s.err
}

func serve(t *testing.T, s scrape.Scraper) *httptest.Server {
	t.Helper()
	h := scrape.NewHandler(scrape.HandlerConfig{Scraper: s, MaxTimeout: time.Minute, Logger: promslog.NewNopLogger()})
	r := route.New()
	r.Get("/agents/:agent/targets/:target/metrics", h.ServeHTTP)
	r.Head("/agents/:agent/targets/:target/metrics", h.ServeHTTP)
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	return server
}

func ask(t *testing.T, server *httptest.Server, method string, header http.Header) (*http.Response, string, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, server.URL+"/agents/site/targets/node-localhost:9100/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = header
	resp, err := server.Client().Do(r)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

func body(text string) io.ReadCloser { return io.NopCloser(strings.NewReader(text)) }

func TestHandlerPassesTheAnswerOn(t *testing.T) {
	s := &scraper{resp: &scrape.Response{
		Status: 418, Header: http.Header{"Content-Encoding": {"gzip"}, "X-Two": {"1", "2"}}, ContentLength: 4, Body: body("\x1f\x8bxy"),
	}}
	resp, got, err := ask(t, serve(t, s), "GET", http.Header{
		"Accept-Encoding": {"gzip"}, "Authorization": {"Basic x"}, "Cookie": {"c"}, "Proxy-Authorization": {"p"}, "Id": {"spoof"},
		"Connection": {"X-Hop"}, "X-Hop": {"h"}, "X-Foo": {"bar"}, scrape.TimeoutHeader: {"4"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 418 || got != "\x1f\x8bxy" || len(resp.Header["X-Two"]) != 2 || resp.Header.Get("Content-Encoding") != "gzip" || resp.ContentLength != 4 {
		t.Errorf("answer = %d %q %v", resp.StatusCode, got, resp.Header)
	}
	if _, guessed := resp.Header["Content-Type"]; guessed {
		t.Error("a Content-Type was made up")
	}
	if s.asked.Agent != "site" || s.asked.Target != "node-localhost:9100" || s.asked.Method != "GET" {
		t.Errorf("asked for %+v", s.asked)
	}
	for _, gone := range []string{"Authorization", "Cookie", "Proxy-Authorization", "Id", "Connection", "X-Hop", scrape.TimeoutHeader} {
		if v, there := s.asked.Header[gone]; there {
			t.Errorf("%s reached the scraper: %q", gone, v)
		}
	}
	if s.asked.Header.Get("X-Foo") != "bar" || s.asked.Header.Get("Accept-Encoding") != "gzip" {
		t.Errorf("headers = %v", s.asked.Header)
	}
	if s.deadline > 4*time.Second-50*time.Millisecond || s.deadline < 3*time.Second {
		t.Errorf("deadline in %s, want 4 s less the margin", s.deadline)
	}
}

func TestHandlerNamesTheReason(t *testing.T) {
	for _, tt := range []struct {
		err    error
		status int
		reason string
	}{
		{scrape.Errorf(scrape.AgentUnknown, "x"), 404, "agent_unknown"},
		{scrape.Errorf(scrape.TargetUnknown, "x"), 404, "target_unknown"},
		{scrape.Errorf(scrape.AgentOffline, "x"), 503, "agent_offline"},
		{scrape.Errorf(scrape.AgentBusy, "x"), 503, "agent_busy"},
		{scrape.Errorf(scrape.Draining, "x"), 503, "draining"},
		{scrape.Errorf(scrape.TargetUnreachable, "x"), 502, "target_unreachable"},
		{scrape.Errorf(scrape.TargetRedirects, "x"), 502, "target_redirects"},
		{scrape.Errorf(scrape.BodyTooLarge, "x"), 502, "body_too_large"},
		{scrape.Errorf(scrape.Timeout, "x"), 504, "scrape_timeout"},
		{scrape.Errorf(scrape.TargetAmbiguous, "x"), 409, "target_ambiguous"},
		{scrape.Errorf(scrape.Denied, "x"), 403, "denied"},
		{scrape.Errorf(scrape.TargetGone, "x"), 410, "target_gone"},
		{scrape.Errorf(scrape.ParamsUnknown, "x"), 400, "params_unknown"},
		{context.DeadlineExceeded, 504, "scrape_timeout"},
		{errors.New("connection refused"), 502, "target_unreachable"},
	} {
		resp, got, err := ask(t, serve(t, &scraper{err: tt.err}), "GET", nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != tt.status || resp.Header.Get(scrape.ErrorHeader) != tt.reason || strings.Count(got, "\n") != 1 {
			t.Errorf("%v: %d, %s: %q, %q", tt.err, resp.StatusCode, scrape.ErrorHeader, resp.Header.Get(scrape.ErrorHeader), got)
		}
	}
}

// The parameters of a scrape travel, so that they are not left out without a word.
func TestHandlerPassesTheQueryOn(t *testing.T) {
	s := &scraper{resp: &scrape.Response{Status: 200, ContentLength: -1, Body: http.NoBody}}
	server := serve(t, s)
	resp, err := server.Client().Get(server.URL + "/agents/site/targets/x/metrics?a=%2F&b")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if s.asked.RawQuery != "a=%2F&b" || s.asked.Path != "" {
		t.Errorf("asked for path %q, query %q", s.asked.Path, s.asked.RawQuery)
	}
}

func TestHandlerRefusesAnImpossibleTimeout(t *testing.T) {
	for _, header := range []string{"NaN", "-1", "0", "soon"} {
		s := &scraper{}
		resp, _, err := ask(t, serve(t, s), "GET", http.Header{scrape.TimeoutHeader: {header}})
		if err != nil || resp.StatusCode != 400 || s.asked != nil {
			t.Errorf("timeout %q: %v, %v", header, resp, err)
		}
	}
}

func TestParseTimeout(t *testing.T) {
	for _, tt := range []struct {
		header string
		want   time.Duration
	}{
		{"", 10*time.Second - 50*time.Millisecond},
		{"1", 950 * time.Millisecond},
		{"0.1", 75 * time.Millisecond}, // never more than a quarter
		{"1e99", time.Minute - 50*time.Millisecond},
		{"+Inf", time.Minute - 50*time.Millisecond},
	} {
		if got, err := scrape.ParseTimeout(tt.header, time.Minute); err != nil || got != tt.want {
			t.Errorf("ParseTimeout(%q) = %s, %v, want %s", tt.header, got, err, tt.want)
		}
	}
}

// failing is a body that breaks off.
type failing struct{ io.Reader }

func (f failing) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		err = scrape.Errorf(scrape.TargetUnreachable, "cut off")
	}
	return n, err
}

func (failing) Close() error { return nil }

func TestHandlerAbortsWhatIsNotWhole(t *testing.T) {
	for _, text := range []string{"m 1\n", strings.Repeat("m 1\n", 100_000)} {
		s := &scraper{resp: &scrape.Response{Status: 200, ContentLength: -1, Body: failing{strings.NewReader(text)}}}
		if _, got, err := ask(t, serve(t, s), "GET", nil); err == nil {
			t.Errorf("a body of %d bytes that broke off looks whole: %d bytes", len(text), len(got))
		}
	}
}

func TestHandlerAnswersHead(t *testing.T) {
	s := &scraper{resp: &scrape.Response{Status: 200, ContentLength: 1234, Body: http.NoBody}}
	resp, got, err := ask(t, serve(t, s), "HEAD", nil)
	if err != nil || resp.StatusCode != 200 || resp.ContentLength != 1234 || got != "" || s.asked.Method != "HEAD" {
		t.Errorf("HEAD = %v, %q, %v", resp, got, err)
	}
}

// A body that fails before its first byte leaves the head unsent, so that there is an answer with the reason.
func TestHandlerNamesTheReasonUntilTheHeadIsSent(t *testing.T) {
	for _, tt := range []struct {
		err    error
		status int
		reason string
	}{
		{scrape.Errorf(scrape.AgentOffline, "x"), 503, "agent_offline"},
		{scrape.Errorf(scrape.BodyTooLarge, "x"), 502, "body_too_large"},
		{context.DeadlineExceeded, 504, "scrape_timeout"},
		{io.ErrUnexpectedEOF, 502, "target_unreachable"},
	} {
		s := &scraper{resp: &scrape.Response{
			Status: 200, Header: http.Header{"X-Own": {"1"}, "Content-Encoding": {"gzip"}}, ContentLength: 100, Body: io.NopCloser(iotest.ErrReader(tt.err)),
		}}
		resp, got, err := ask(t, serve(t, s), "GET", nil)
		if err != nil {
			t.Errorf("%v: %v, want an answer", tt.err, err)
			continue
		}
		if resp.StatusCode != tt.status || resp.Header.Get(scrape.ErrorHeader) != tt.reason || strings.Count(got, "\n") != 1 {
			t.Errorf("%v: %d, %s: %q, %q", tt.err, resp.StatusCode, scrape.ErrorHeader, resp.Header.Get(scrape.ErrorHeader), got)
		}
		if resp.Header.Get("X-Own") != "" || resp.Header.Get("Content-Encoding") != "" {
			t.Errorf("%v: the reason came with headers of the target: %v", tt.err, resp.Header)
		}
	}
}

// Without a body there is nothing to wait for: the head is all.
func TestHandlerSendsTheHeadOfAnEmptyBody(t *testing.T) {
	s := &scraper{resp: &scrape.Response{Status: 200, Header: http.Header{"X-Own": {"1"}}, ContentLength: -1, Body: http.NoBody}}
	resp, got, err := ask(t, serve(t, s), "GET", nil)
	if err != nil || resp.StatusCode != 200 || got != "" || resp.Header.Get("X-Own") != "1" {
		t.Errorf("an empty body = %v, %q, %v", resp, got, err)
	}
}
