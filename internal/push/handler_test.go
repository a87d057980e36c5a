package push_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/common/route"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/metric"
	"pushrelay/internal/push"
)

// pusher remembers the last push and answers as it is told.
type pusher struct {
	last   *change.Change
	body   string
	result change.Outcome
	err    error
	wait   bool
}

func (p *pusher) Apply(ctx context.Context, r *change.Change) change.Outcome {
	p.last, p.body = r, string(r.Body)
	if p.wait {
		<-ctx.Done()
		return change.OutcomeOf(ctx.Err())
	}
	if p.err != nil {
		return change.OutcomeOf(p.err)
	}
	return p.result
}

func newHandler(p push.Applier, limits exposition.Limits) http.Handler {
	r := route.New()
	push.NewHandler(push.HandlerConfig{
		Applier: p, Limits: limits, Budget: push.NewBudget(limits.MaxInflightBytes), Timeout: 50 * time.Millisecond, Logger: promslog.NewNopLogger(),
	}).Mount(r, func(_ string, h http.HandlerFunc) http.HandlerFunc { return h })
	return r
}

func gzipped(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	io.WriteString(w, text)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestHandlerReadsThePush(t *testing.T) {
	const protobuf = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
	for _, tt := range []struct {
		name, method, path, body string
		header                   map[string]string
		want                     change.Operation
		key                      string
		format                   exposition.Format
		wantBody                 string
	}{
		{name: "put", method: "PUT", path: "/metrics/job/j", body: "m 1\n", want: change.Replace, key: `{job="j"}`, wantBody: "m 1\n"},
		{name: "post", method: "POST", path: "/metrics/job/j/a/b", body: "m 1\n", want: change.Merge, key: `{job="j",a="b"}`, wantBody: "m 1\n"},
		{name: "delete ignores its body", method: "DELETE", path: "/metrics/job/j", body: "x", want: change.Delete, key: `{job="j"}`},
		{
			name: "delete ignores the encoding too", method: "DELETE", path: "/metrics/job/j", body: "x", header: map[string]string{"Content-Encoding": "gzip"},
			want: change.Delete, key: `{job="j"}`,
		},
		{name: "delete without a body", method: "DELETE", path: "/metrics/job/j", header: map[string]string{"Content-Encoding": "gzip"}, want: change.Delete, key: `{job="j"}`},
		{name: "empty gzip", method: "PUT", path: "/metrics/job/j", header: map[string]string{"Content-Encoding": "gzip"}, want: change.Replace, key: `{job="j"}`},
		{name: "empty snappy", method: "POST", path: "/metrics/job/j", header: map[string]string{"Content-Encoding": "snappy"}, want: change.Merge, key: `{job="j"}`},
		{name: "base64 job", method: "PUT", path: "/metrics/job@base64/dGVzdC9qb2I=", want: change.Replace, key: `{job="test/job"}`},
		{
			name: "gzip", method: "PUT", path: "/metrics/job/j", body: gzipped(t, "m 1\n"), header: map[string]string{"Content-Encoding": "GZIP"},
			want: change.Replace, key: `{job="j"}`, wantBody: "m 1\n",
		},
		{
			name: "protobuf", method: "PUT", path: "/metrics/job/j", header: map[string]string{"Content-Type": protobuf},
			want: change.Replace, key: `{job="j"}`, format: exposition.ProtobufDelimited,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := &pusher{result: change.Outcome{Kind: change.Applied}}
			r := httptest.NewRequest(tt.method, tt.path, strings.NewReader(tt.body))
			for name, value := range tt.header {
				r.Header.Set(name, value)
			}
			w := httptest.NewRecorder()
			newHandler(p, exposition.Limits{}).ServeHTTP(w, r)
			if p.last == nil {
				t.Fatalf("nothing was pushed: %d %s", w.Code, w.Body)
			}
			if p.last.Operation != tt.want || p.last.Key.String() != tt.key || p.last.Format != tt.format || p.body != tt.wantBody {
				t.Errorf("pushed %s %s, format %d, %q", p.last.Operation, p.last.Key, p.last.Format, p.body)
			}
			if since := time.Since(p.last.At); since < 0 || since > time.Minute {
				t.Errorf("received %s ago", since)
			}
		})
	}
}

func TestHandlerAnswers(t *testing.T) {
	for _, tt := range []struct {
		name, method, path, body string
		encoding                 string
		pusher                   pusher
		limits                   exposition.Limits
		status                   int
		says                     string
	}{
		{name: "applied", status: 200, pusher: pusher{result: change.Outcome{Kind: change.Applied}}},
		{name: "unchecked", status: 202, pusher: pusher{result: change.Outcome{Kind: change.Unchecked}}},
		{name: "deleted", method: "DELETE", status: 202, pusher: pusher{result: change.Outcome{Kind: change.Applied}}},
		{name: "spooled", status: 202, says: "no relay\n", pusher: pusher{result: change.Outcome{Kind: change.Spooled, Detail: "no relay"}}},
		{name: "inconsistent", status: 400, says: "no fit\n", pusher: pusher{err: change.Refuse(change.Inconsistent, "no fit")}},
		{name: "forbidden", status: 403, pusher: pusher{err: change.Refuse(change.Forbidden, "x")}},
		{name: "full", status: 429, pusher: pusher{err: change.Refuse(change.Full, "x")}},
		{name: "unnamed error", status: 503, pusher: pusher{err: errors.New("x")}},
		{name: "not in time", status: 503, says: "in doubt", pusher: pusher{wait: true}},
		{name: "odd path", path: "/metrics/job/j/foo", status: 400, says: "odd number of components in label string \"/foo\"\n"},
		{name: "delete of any size", method: "DELETE", body: "0123456789", limits: exposition.Limits{MaxBodyBytes: 9}, status: 202, pusher: pusher{result: change.Outcome{Kind: change.Applied}}},
		{name: "at the program's end", status: 503, says: "in doubt, push again", pusher: pusher{err: fmt.Errorf("waiting: %w", context.Canceled)}},
		{name: "bad gzip", encoding: "gzip", body: "plain text", status: 400, says: "the header Content-Encoding says gzip, and the body cannot be read so"},
		{name: "too large", body: "0123456789", limits: exposition.Limits{MaxBodyBytes: 9}, status: 413, says: "--push.max-body-size"},
		{name: "too large decompressed", encoding: "gzip", body: gzipped(t, strings.Repeat("x", 1000)), limits: exposition.Limits{MaxDecompressedBytes: 999}, status: 413, says: "--push.max-decompressed-size"},
		{name: "too large for the budget", body: strings.Repeat("x", 100_000), limits: exposition.Limits{MaxInflightBytes: 99_999}, status: 413, says: "--push.max-inflight-bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			method, path := "PUT", "/metrics/job/j"
			if tt.method != "" {
				method = tt.method
			}
			if tt.path != "" {
				path = tt.path
			}
			r := httptest.NewRequest(method, path, strings.NewReader(tt.body))
			r.Header.Set("Content-Encoding", tt.encoding)
			w := httptest.NewRecorder()
			newHandler(&tt.pusher, tt.limits).ServeHTTP(w, r)
			if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.says) {
				t.Errorf("answer = %d %q, want %d and %q in it", w.Code, w.Body, tt.status, tt.says)
			}
			if spooled := w.Header().Get(push.SpooledHeader); (spooled == "true") != (tt.pusher.result.Kind == change.Spooled) {
				t.Errorf("%s = %q", push.SpooledHeader, spooled)
			}
		})
	}
}

func TestHandlerTellsWhenToRetry(t *testing.T) {
	p := &pusher{err: &change.Outcome{Kind: change.Unavailable, Detail: "x", RetryAfter: 1500 * time.Millisecond}}
	w := httptest.NewRecorder()
	newHandler(p, exposition.Limits{}).ServeHTTP(w, httptest.NewRequest("PUT", "/metrics/job/j", nil))
	if got := w.Header().Get("Retry-After"); got != "2" {
		t.Errorf("Retry-After = %q, want the seconds rounded up, 2", got)
	}
}

// A Content-Length that announces more than comes must cost no memory of the budget: a stalled pusher would take it away
// from all others.
func TestAnnouncedBodyTakesNoBudget(t *testing.T) {
	server := httptest.NewServer(newHandler(&pusher{result: change.Outcome{Kind: change.Applied}}, exposition.Limits{MaxInflightBytes: 1 << 20}))
	defer server.Close()
	for range 8 {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		io.WriteString(conn, "PUT /metrics/job/stalled HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nm")
	}
	r, err := http.NewRequestWithContext(t.Context(), "PUT", server.URL+"/metrics/job/j", strings.NewReader("m 1\n"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("a push beside stalled ones = %d, want 200", resp.StatusCode)
	}
}

func TestBudgetGivesBack(t *testing.T) {
	budget := push.NewBudget(100 << 10)
	for range 100 {
		b := budget.Buffer(t.Context(), push.Sender{})
		if _, err := b.Write(make([]byte, 60<<10)); err != nil {
			t.Fatal(err)
		}
		b.Release()
		b.Release() // harmless
	}
	full := budget.Buffer(t.Context(), push.Sender{})
	defer full.Release()
	if _, err := full.Write(make([]byte, 100<<10)); err != nil {
		t.Fatalf("a body as large as the budget: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := budget.Buffer(ctx, push.Sender{}).Write([]byte("x")); !errors.Is(err, change.Unavailable) {
		t.Errorf("a body beyond the budget: %v, want %v", err, change.Unavailable)
	}
}

// TestNamesInDoubt: a path that reads as another group once UTF-8 names are taken, or as one at all, waits until that is known; any other does not.
func TestNamesInDoubt(t *testing.T) {
	doubt := errors.New("nobody said so")
	for _, tt := range []struct {
		method, path string
		names        metric.NameScheme
		doubt        error
		status       int
	}{
		{"PUT", "/metrics/job/j/U__foo_2e_baz/1", metric.LegacyNames, doubt, 503},
		{"POST", "/metrics/job/j/foo.bar@base64/MQ", metric.LegacyNames, doubt, 503},
		{"DELETE", "/metrics/job/j/a/b/foo.bar/1", metric.LegacyNames, doubt, 503},
		{"PUT", "/metrics/job/j/U__in_xxx_valid/1", metric.LegacyNames, doubt, 200},
		{"PUT", "/metrics/job/j/a/b", metric.LegacyNames, doubt, 200},
		{"PUT", "/metrics/job/j/__foo/1", metric.LegacyNames, doubt, 400},
		{"PUT", "/metrics/job/j/foo.bar@base64/*", metric.LegacyNames, doubt, 400},
		{"PUT", "/metrics/job/j/U__foo_2e_baz/1", metric.LegacyNames, nil, 200},
		{"PUT", "/metrics/job/j/foo.bar/1", metric.LegacyNames, nil, 400},
		{"PUT", "/metrics/job/j/U__foo_2e_baz/1", metric.UTF8Names, doubt, 200},
	} {
		r := route.New()
		push.NewHandler(push.HandlerConfig{
			Applier: &pusher{result: change.Outcome{Kind: change.Applied}}, Names: func() metric.NameScheme { return tt.names }, NamesInDoubt: func() error { return tt.doubt }, Logger: promslog.NewNopLogger(),
		}).Mount(r, func(_ string, h http.HandlerFunc) http.HandlerFunc { return h })
		w := httptest.NewRecorder()
		r.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), tt.method, tt.path, strings.NewReader("m 1\n")))
		if w.Code != tt.status || tt.status == 503 && (!strings.Contains(w.Body.String(), doubt.Error()) || w.Header().Get("Retry-After") != "15") {
			t.Errorf("%s %s, scheme %d, %v: %d %s%v, want %d", tt.method, tt.path, tt.names, tt.doubt, w.Code, w.Body, w.Header(), tt.status)
		}
	}
}
