package relay_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"pushrelay/internal/relay"
)

// TestLegacyMetrics: requests are counted under the names and labels that dashboards of a Pushgateway ask for.
func TestLegacyMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	instrument := relay.NewLegacyInstrument(reg)
	answer := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
	}
	for _, request := range []struct {
		name, method string
		status       int
	}{
		{"push", http.MethodPut, 200},
		{"push", http.MethodPost, 400},
		{"push", http.MethodPost, 400},
		{"delete", http.MethodDelete, 202},
		{"api/v1/metrics", http.MethodGet, 200},
	} {
		instrument(request.name, answer(request.status))(httptest.NewRecorder(),
			httptest.NewRequestWithContext(t.Context(), request.method, "/metrics/job/j", strings.NewReader("m 1\n")))
	}
	const want = `
# HELP pushgateway_http_requests_total HTTP requests by handler, as a Pushgateway counts them: without scrapes and unknown paths.
# TYPE pushgateway_http_requests_total counter
pushgateway_http_requests_total{code="200",handler="api/v1/metrics",method="get"} 1
pushgateway_http_requests_total{code="200",handler="push",method="put"} 1
pushgateway_http_requests_total{code="202",handler="delete",method="delete"} 1
pushgateway_http_requests_total{code="400",handler="push",method="post"} 2
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "pushgateway_http_requests_total"); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"pushgateway_http_push_size_bytes", "pushgateway_http_push_duration_seconds"} {
		summary := family(t, reg, name)
		if summary.GetType() != dto.MetricType_SUMMARY || len(summary.GetMetric()) != 2 {
			t.Fatalf("%s = %v, want a summary of post and put", name, summary)
		}
		post := summary.GetMetric()[0]
		var quantiles []float64
		for _, q := range post.GetSummary().GetQuantile() {
			quantiles = append(quantiles, q.GetQuantile())
		}
		if diff := cmp.Diff([]float64{0.1, 0.5, 0.9}, quantiles); diff != "" || post.GetSummary().GetSampleCount() != 2 || post.GetLabel()[0].GetValue() != "post" {
			t.Errorf("%s = %v, want two observations of post and three quantiles", name, post)
		}
	}
	labels := family(t, reg, "pushgateway_build_info").GetMetric()[0].GetLabel()
	var names []string
	for _, l := range labels {
		names = append(names, l.GetName())
	}
	if diff := cmp.Diff([]string{"branch", "goarch", "goos", "goversion", "revision", "tags", "version"}, names); diff != "" {
		t.Errorf("labels of pushgateway_build_info (-want +got):\n%s", diff)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) != 0 {
		t.Errorf("promlint: %v %v", problems, err)
	}
}

// TestLegacyFamiliesAreKnown: every family of the legacy metrics is there from the start or told to the store beforehand.
func TestLegacyFamiliesAreKnown(t *testing.T) {
	reg := prometheus.NewRegistry()
	instrument := relay.NewLegacyInstrument(reg)
	known := gathered(t, reg)
	for _, f := range relay.LegacyFamilies {
		known = append(known, f.Name)
	}
	slices.Sort(known)
	instrument("push", func(http.ResponseWriter, *http.Request) {})(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodPut, "/", nil))
	if diff := cmp.Diff(known, gathered(t, reg)); diff != "" {
		t.Errorf("families after a request (-known +there):\n%s", diff)
	}
}

// TestInstrumentedHandlersKeepTheirDeadlines: a push that stalls is given up by a deadline of its connection, which the
// counting must not hide.
func TestInstrumentedHandlersKeepTheirDeadlines(t *testing.T) {
	result := make(chan error, 1)
	h := relay.NewLegacyInstrument(prometheus.NewRegistry())("push", func(w http.ResponseWriter, _ *http.Request) {
		result <- http.NewResponseController(w).SetReadDeadline(time.Now().Add(time.Hour))
	})
	server := httptest.NewServer(h)
	defer server.Close()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, server.URL, strings.NewReader("m 1\n"))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if err := <-result; err != nil {
		t.Errorf("SetReadDeadline: %v", err)
	}
}

func family(t testing.TB, reg prometheus.Gatherer, name string) *dto.MetricFamily {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f
		}
	}
	t.Fatalf("there is no %s", name)
	return nil
}

func gathered(t testing.TB, reg prometheus.Gatherer) []string {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	names := make([]string, 0, len(families))
	for _, f := range families {
		names = append(names, f.GetName())
	}
	return names
}
