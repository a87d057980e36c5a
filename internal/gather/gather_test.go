package gather_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/gather"
	"pushrelay/internal/grouping"
	"pushrelay/internal/groupstore"
)

type fixture struct {
	store    *groupstore.Store
	registry *prometheus.Registry
	logged   *strings.Builder
	handler  *gather.Handler
}

func newFixture(t *testing.T, cfg gather.Config) *fixture {
	t.Helper()
	f := &fixture{store: groupstore.New(groupstore.Config{}), registry: prometheus.NewPedanticRegistry(), logged: &strings.Builder{}}
	f.push(t, "j", "m 1\n")
	cfg.Store, cfg.Registerer = f.store, f.registry
	if cfg.Gatherer == nil && cfg.CaughtUp == nil {
		cfg.Gatherer = f.registry
	}
	cfg.Logger = slog.New(slog.NewTextHandler(f.logged, nil))
	f.handler = gather.New(cfg)
	return f
}

func (f *fixture) push(t *testing.T, job, text string) {
	t.Helper()
	k, err := grouping.New(grouping.Label{Name: "job", Value: job})
	if err != nil {
		t.Fatal(err)
	}
	body, err := new(exposition.Parser).ParseText([]byte(text), exposition.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if o, _ := f.store.Apply(t.Context(), &change.Change{Operation: change.Replace, Key: k, At: time.Now()}, groupstore.Content{Body: body}); !o.IsTaken() {
		t.Fatal(o)
	}
}

func (f *fixture) get(t *testing.T, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, request(t, headers...))
	return w
}

func request(t *testing.T, headers ...string) *http.Request {
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return r
}

const series = `m{instance="",job="j"} 1` + "\n"

func TestNegotiation(t *testing.T) {
	const prometheusAccept = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.7,text/plain;version=0.0.4;q=0.4,*/*;q=0.3"
	tests := []struct {
		name   string
		offers exposition.Offers
		accept string
		want   string
		body   string
	}{
		{"nothing asked for", exposition.Offers{}, "", "text/plain; version=0.0.4; charset=utf-8; escaping=underscores", series},
		{"OpenMetrics not on offer", exposition.Offers{}, "application/openmetrics-text;version=1.0.0", "text/plain; version=0.0.4; charset=utf-8; escaping=underscores", series},
		{
			"OpenMetrics on offer",
			exposition.Offers{OpenMetrics: true},
			prometheusAccept,
			"application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8", "# EOF\n",
		},
		{
			"protobuf",
			exposition.Offers{},
			"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
			"application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=underscores", "\n\x03job\x12\x01j",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, gather.Config{Offers: tt.offers})
			w := f.get(t, "Accept", tt.accept)
			if got := w.Header().Get("Content-Type"); w.Code != http.StatusOK || got != tt.want {
				t.Errorf("GET with Accept %q = %d, Content-Type %q, want 200, %q", tt.accept, w.Code, got, tt.want)
			}
			if !strings.Contains(w.Body.String(), tt.body) {
				t.Errorf("body lacks %q:\n%s", tt.body, w.Body)
			}
			if w.Header().Get("Content-Encoding") != "" {
				t.Errorf("Content-Encoding %q that nobody asked for", w.Header().Get("Content-Encoding"))
			}
		})
	}
}

func TestGzip(t *testing.T) {
	f := newFixture(t, gather.Config{})
	f.push(t, "k", strings.Repeat("# one more line\n", 10)+"n 2\n")
	for range 3 { // the compressor is used again
		w := f.get(t, "Accept-Encoding", "gzip")
		if got := w.Header().Get("Content-Encoding"); got != "gzip" {
			t.Fatalf("Content-Encoding = %q", got)
		}
		z, err := gzip.NewReader(w.Body)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(z)
		if err != nil || !strings.Contains(string(text), series) || !strings.Contains(string(text), "relay_exposition_duration_seconds_count") {
			t.Errorf("body %q, %v", text, err)
		}
	}
}

// ask scrapes with a query.
func (f *fixture) ask(t *testing.T, query string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := request(t, headers...)
	r.URL.RawQuery = query
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, r)
	return w
}

// TestSelectors scrapes some of the groups: in every format what they have is there, and nothing of others or of the relay.
func TestSelectors(t *testing.T) {
	f := newFixture(t, gather.Config{Offers: exposition.Offers{OpenMetrics: true}})
	f.push(t, "k", "n 2\n")
	for query, want := range map[string]string{
		`match[]={job="j"}`:                            "j",
		`match[]=%7Bjob%3D~%22j%7Cother%22%7D`:         "j",
		`match[]={job="j"}&match[]={job="k"}`:          "jk",
		`match[]={job!="j"}&other=1`:                   "k",
		`match[]={team="a"}`:                           "",
		`match[]={job="j"}&match[]={job="j",team!=""}`: "j",
	} {
		for _, accept := range []string{
			"", "application/openmetrics-text;version=1.0.0",
			"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
			"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text",
		} {
			w := f.ask(t, query, "Accept", accept)
			body := w.Body.String()
			if w.Code != http.StatusOK {
				t.Fatalf("%s: %d %s", query, w.Code, body)
			}
			got := ""
			for _, job := range []string{"j", "k"} {
				if strings.Contains(body, `"`+job+`"`) || strings.Contains(body, "\n\x03job\x12\x01"+job) {
					got += job
				}
			}
			if got != want || strings.Contains(body, "relay_") {
				t.Errorf("%s as %q has the groups %q, want %q, and nothing of the relay's own:\n%s", query, accept, got, want, body)
			}
		}
	}
	if body := f.ask(t, "other=%zz&x;y").Body.String(); !strings.Contains(body, series) || !strings.Contains(body, "relay_gather_errors_total") {
		t.Errorf("a query without selectors changes the scrape:\n%s", body)
	}
}

func TestRefusedSelectors(t *testing.T) {
	f := newFixture(t, gather.Config{})
	for query, want := range map[string]string{
		`match[]={job=}`:                         `match[]: selector "{job=}" cannot be read`,
		`match[]=`:                               `match[]: selector "" cannot be read`,
		`match[]={}`:                             `match[]: selector "{}" has no matcher`,
		`match[]=m`:                              "names a metric",
		`match[]={job=~"a{1001}"}`:               "cannot be read",
		`match[]={job="j"}&b=%zz`:                "the query cannot be read",
		`match[]={job="a;b"}`:                    "the query cannot be read",
		strings.Repeat(`match[]={job="j"}&`, 33): "want at most 32",
	} {
		w := f.ask(t, query)
		if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), want) || strings.Count(w.Body.String(), "\n") != 1 {
			t.Errorf("%s: %d %q, want 400 and one line with %q", query, w.Code, w.Body, want)
		}
	}
	head := httptest.NewRecorder()
	f.handler.ServeHTTP(head, httptest.NewRequestWithContext(t.Context(), http.MethodHead, "/metrics?match[]=%7B%7D", nil))
	if head.Code != http.StatusBadRequest {
		t.Errorf("HEAD = %d, want 400", head.Code)
	}
}

// TestSelectorsThatTakeTooLong: a scrape whose selectors are not done in time is told so.
func TestSelectorsThatTakeTooLong(t *testing.T) {
	f := newFixture(t, gather.Config{})
	w := f.ask(t, `match[]={job="j"}`, "X-Prometheus-Scrape-Timeout-Seconds", "0.000000001")
	if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "shorter regular expressions") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestFailingCollector has a collector that fails: it costs its own metrics and nobody else's (S14).
func TestFailingCollector(t *testing.T) {
	broken := prometheus.NewRegistry()
	fine := prometheus.NewGauge(prometheus.GaugeOpts{Name: "fine", Help: "Fine."})
	broken.MustRegister(fine, failing{})
	f := newFixture(t, gather.Config{Gatherer: broken})
	w := f.get(t)
	if body := w.Body.String(); w.Code != http.StatusOK || !strings.Contains(body, series) || !strings.Contains(body, "\nfine 0\n") {
		t.Errorf("GET = %d\n%s", w.Code, body)
	}
	if !strings.Contains(f.logged.String(), "no such file") {
		t.Errorf("logged %q", f.logged)
	}
	if n, err := testutil.GatherAndCount(f.registry, "relay_gather_errors_total"); n != 1 || err != nil {
		t.Errorf("relay_gather_errors_total is there %d times, %v", n, err)
	}
}

type failing struct{}

var failingDesc = prometheus.NewDesc("failing", "Fails.", nil, nil)

func (failing) Describe(ch chan<- *prometheus.Desc) { ch <- failingDesc }
func (failing) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.NewInvalidMetric(failingDesc, errors.New("no such file"))
}

// A stalledWriter is the connection of a scraper that takes nothing.
type stalledWriter struct {
	*httptest.ResponseRecorder
	release  chan error
	deadline time.Time
}

func (w *stalledWriter) SetWriteDeadline(t time.Time) error {
	w.deadline = t
	return nil
}

func (w *stalledWriter) Write(p []byte) (int, error) {
	if err := <-w.release; err != nil {
		return 0, err
	}
	return w.ResponseRecorder.Write(p)
}

func newStalled() *stalledWriter {
	return &stalledWriter{ResponseRecorder: httptest.NewRecorder(), release: make(chan error)}
}

// TestTurns stalls as many scrapers as may hold a state of the store: another one waits as long as it says, and no longer.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, gather.Config{MaxConcurrent: 2})
		stalled := []*stalledWriter{newStalled(), newStalled()}
		ended := make(chan any)
		for _, w := range stalled {
			go func() {
				defer func() { ended <- recover() }()
				f.handler.ServeHTTP(w, request(t))
			}()
		}
		synctest.Wait()
		for _, w := range stalled {
			if left := time.Until(w.deadline); left != 30*time.Second {
				t.Errorf("the write deadline is in %v, want 30s", left)
			}
		}
		for header, want := range map[string]time.Duration{"": 10 * time.Second, "3.5": 3500 * time.Millisecond, "-1": 10 * time.Second, "NaN": 10 * time.Second, "1e99": 2 * time.Minute} {
			start := time.Now()
			w := f.get(t, "X-Prometheus-Scrape-Timeout-Seconds", header)
			if w.Code != http.StatusServiceUnavailable || time.Since(start) != want {
				t.Errorf("with timeout %q: %d after %v, want 503 after %v", header, w.Code, time.Since(start), want)
			}
		}
		head := httptest.NewRecorder()
		f.handler.ServeHTTP(head, httptest.NewRequestWithContext(t.Context(), http.MethodHead, "/metrics", nil))
		if head.Code != http.StatusOK || head.Header().Get("Content-Type") == "" || head.Body.Len() > 0 {
			t.Errorf("HEAD = %d %v with %d bytes, want 200 at once and nothing rendered", head.Code, head.Header(), head.Body.Len())
		}
		close(stalled[0].release)
		if got := <-ended; got != nil {
			t.Errorf("a scrape that went on ended with %v", got)
		}
		if w := f.get(t); w.Code != http.StatusOK {
			t.Errorf("GET after one has ended = %d", w.Code)
		}
		stalled[1].release <- errors.New("write: i/o timeout")
		if err, ok := (<-ended).(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
			t.Errorf("a scrape that could not be written ended with %v, want http.ErrAbortHandler", err)
		}
		want := `
# HELP relay_gather_errors_total Scrapes in which some of the relay's own metrics could not be gathered.
# TYPE relay_gather_errors_total counter
relay_gather_errors_total 0
`
		if err := testutil.GatherAndCompare(f.registry, strings.NewReader(want), "relay_gather_errors_total"); err != nil {
			t.Error(err)
		}
		body := f.get(t).Body.String()
		for _, line := range []string{`_count{result="aborted"} 1`, `_count{result="busy"} 5`, `_count{result="complete"} 2`} {
			if !strings.Contains(body, "relay_exposition_duration_seconds"+line+"\n") {
				t.Errorf("the exposition lacks %s:\n%s", line, body)
			}
		}
	})
}

func TestLint(t *testing.T) {
	f := newFixture(t, gather.Config{})
	problems, err := testutil.GatherAndLint(f.registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
}

// TestShared: a store that others show as well is shown once it has caught up with them, and without what only this relay could say.
func TestShared(t *testing.T) {
	t.Parallel()
	var f *fixture
	var behind error
	f = newFixture(t, gather.Config{CaughtUp: func(context.Context) error {
		f.push(t, "late", "n 1\n")
		return behind
	}})
	got := f.get(t)
	if body := got.Body.String(); got.Code != http.StatusOK || !strings.Contains(body, `n{instance="",job="late"} 1`) || strings.Contains(body, "relay_") {
		t.Errorf("%d:\n%s", got.Code, body)
	}
	behind = errors.New("this relay is behind")
	if got := f.get(t); got.Code != http.StatusServiceUnavailable || got.Body.String() != "this relay is behind\n" {
		t.Errorf("a store that is behind: %d %s", got.Code, got.Body)
	}
}
