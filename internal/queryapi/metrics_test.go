package queryapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/metric"
	"pushrelay/internal/queryapi"
)

// arrival is when pushes of the tests arrive.
var arrival = time.Date(2026, 11, 22, 7, 33, 0, 87366179, time.UTC)

// A push is one push of a scenario.
type push struct {
	key  string // name, value, name, value…, separated by blanks
	body string
	at   time.Time
}

func key(t testing.TB, pairs string) grouping.Key {
	t.Helper()
	fields := strings.Fields(pairs)
	labels := make([]grouping.Label, 0, len(fields)/2)
	for i := 0; i+1 < len(fields); i += 2 {
		labels = append(labels, grouping.Label{Name: fields[i], Value: fields[i+1]})
	}
	k, err := grouping.New(labels...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// storeOf returns a store that took the pushes.
func storeOf(t testing.TB, cfg groupstore.Config, pushes ...push) *groupstore.Store {
	t.Helper()
	store := groupstore.New(cfg)
	for _, p := range pushes {
		var parser exposition.Parser
		body, err := parser.ParseText([]byte(p.body), exposition.Options{Names: metric.UTF8Names})
		if err != nil {
			t.Fatalf("ParseText(%q): %v", p.body, err)
		}
		put(t, store, p.key, body, p.at)
	}
	return store
}

func put(t testing.TB, store *groupstore.Store, pairs string, body *exposition.Body, at time.Time) {
	t.Helper()
	if at.IsZero() {
		at = arrival
	}
	if o, _ := store.Apply(t.Context(), &change.Change{Operation: change.Replace, Key: key(t, pairs), At: at}, groupstore.Content{Body: body}); !o.IsTaken() {
		t.Fatalf("pushing to %s: %+v", pairs, o)
	}
}

// get asks the handler and returns its answer, which has to be a JSON object with the headers of the API.
func get(t testing.TB, h http.HandlerFunc) (raw string, answer map[string]any) {
	t.Helper()
	w := httptest.NewRecorder()
	h(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	for name, want := range map[string]string{
		"Content-Type":                  "application/json",
		"Access-Control-Allow-Origin":   "*",
		"Access-Control-Allow-Methods":  "GET, POST, DELETE, OPTIONS",
		"Access-Control-Allow-Headers":  "Accept, Authorization, Content-Type, Origin",
		"Access-Control-Expose-Headers": "Date",
		"Cache-Control":                 "no-cache, no-store, must-revalidate",
	} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("header %s = %q, want %q", name, got, want)
		}
	}
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
		t.Fatalf("%v\n%s", err, w.Body)
	}
	return w.Body.String(), answer
}

// groups returns the data of GET /api/v1/metrics.
func groups(t testing.TB, store *groupstore.Store) []any {
	t.Helper()
	_, answer := get(t, queryapi.Metrics(queryapi.MetricsConfig{Store: store}))
	return answer["data"].([]any)
}

// object parses what is expected.
func object(t testing.TB, text string) map[string]any {
	t.Helper()
	var o map[string]any
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return o
}

// times are the two families that every group has, all of whose pushes were taken at arrival.
const times = `
	"push_time_seconds":{"time_stamp":"2026-11-22T07:33:00.087366179Z","type":"GAUGE",
		"help":"Last Unix time when changing this group in the Pushgateway succeeded.","metrics":[{"labels":{"instance":"","job":"j"},"value":"1.795332780087366e+09"}]},
	"push_failure_time_seconds":{"time_stamp":"2026-11-22T07:33:00.087366179Z","type":"GAUGE",
		"help":"Last Unix time when changing this group in the Pushgateway failed.","metrics":[{"labels":{"instance":"","job":"j"},"value":"0"}]}`

func TestMetrics(t *testing.T) {
	const at = `"time_stamp":"2026-11-22T07:33:00.087366179Z"`
	tests := []struct {
		name string
		body string
		want string // the families, without the two times
	}{
		{"nothing but the times", "", ""},
		{
			"simple values",
			"# HELP c help \"c\" <&>\n# TYPE c counter\nc{k=\"v\",u=\"\u00fc\"} 1e9\n# TYPE g gauge\ng NaN\nu +Inf\n",
			`"c":{` + at + `,"type":"COUNTER","help":"help \"c\" <&>","metrics":[{"labels":{"instance":"","job":"j","k":"v","u":"ü"},"value":"1e+09"}]},
			 "g":{` + at + `,"type":"GAUGE","metrics":[{"labels":{"instance":"","job":"j"},"value":"NaN"}]},
			 "u":{` + at + `,"type":"UNTYPED","metrics":[{"labels":{"instance":"","job":"j"},"value":"+Inf"}]},`,
		},
		{
			"histogram",
			"# TYPE h histogram\nh_bucket{le=\"0.5\"} 1\nh_bucket{le=\"+Inf\"} 3\nh_sum 4.5\nh_count 3\n",
			`"h":{` + at + `,"type":"HISTOGRAM","metrics":[{"buckets":{"+Inf":"3","0.5":"1"},"count":"3","labels":{"instance":"","job":"j"},"sum":"4.5"}]},`,
		},
		{
			"gauge histogram",
			"# TYPE h gaugehistogram\nh_bucket{le=\"+Inf\"} 3\nh_sum 4.5\nh_count 3\n",
			`"h":{` + at + `,"type":"GAUGE_HISTOGRAM","metrics":[{"buckets":{"+Inf":"3"},"count":"3","labels":{"instance":"","job":"j"},"sum":"4.5"}]},`,
		},
		{
			"summary",
			"# TYPE s summary\ns{quantile=\"0.5\"} 1.5\ns{quantile=\"0.99\"} NaN\ns_sum 3\ns_count 2\n",
			`"s":{` + at + `,"type":"SUMMARY","metrics":[{"quantiles":{"0.5":"1.5","0.99":"NaN"},"count":"2","sum":"3","labels":{"instance":"","job":"j"}}]},`,
		},
		{
			"several metrics of a family, and a name that needs quotes",
			"{\"a.b\",\"x y\"=\"1\"} 1\n{\"a.b\",\"x y\"=\"2\"} 2\n",
			`"a.b":{` + at + `,"type":"UNTYPED","metrics":[{"labels":{"instance":"","job":"j","x y":"1"},"value":"1"},{"labels":{"instance":"","job":"j","x y":"2"},"value":"2"}]},`,
		},
		{
			"names that are taken by the group itself",
			"labels 1\nlast_push_successful 0\n",
			`"relay_labels":{` + at + `,"type":"UNTYPED","metrics":[{"labels":{"instance":"","job":"j"},"value":"1"}]},
			 "relay_last_push_successful":{` + at + `,"type":"UNTYPED","metrics":[{"labels":{"instance":"","job":"j"},"value":"0"}]},`,
		},
		{
			"help that is no UTF-8",
			"# HELP m \xff\nm 1\n",
			`"m":{` + at + `,"type":"UNTYPED","help":"\ufffd","metrics":[{"labels":{"instance":"","job":"j"},"value":"1"}]},`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := groups(t, storeOf(t, groupstore.Config{}, push{key: "job j", body: tt.body}))
			want := []any{object(t, `{"labels":{"job":"j"},"last_push_successful":true,`+tt.want+times+`}`)}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("data (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMetricsOfAnEmptyStore(t *testing.T) {
	raw, _ := get(t, queryapi.Metrics(queryapi.MetricsConfig{Store: groupstore.New(groupstore.Config{})}))
	if want := `{"status":"success","data":[]}`; raw != want {
		t.Errorf("answer = %s, want %s", raw, want)
	}
}

func TestMetricsOfSeveralGroups(t *testing.T) {
	got := groups(t, storeOf(t, groupstore.Config{},
		push{key: "job b", body: "m 1\n"}, push{key: "job a instance i", body: "m 1\n"}, push{key: "job a", body: "m 1\n"}))
	var labels []any
	for _, g := range got {
		labels = append(labels, g.(map[string]any)["labels"])
	}
	want := []any{map[string]any{"instance": "i", "job": "a"}, map[string]any{"job": "a"}, map[string]any{"job": "b"}}
	if diff := cmp.Diff(want, labels); diff != "" {
		t.Errorf("labels of the groups (-want +got):\n%s", diff)
	}
}

// TestMetricsAfterAFailure: what went wrong is told beside the time at which it did.
func TestMetricsAfterAFailure(t *testing.T) {
	store := storeOf(t, groupstore.Config{}, push{key: "job j", body: "m 1\n"})
	rejected := &change.Change{Operation: change.Fail, Key: key(t, "job j"), At: arrival.Add(time.Second)}
	if o, _ := store.Apply(t.Context(), rejected, groupstore.Content{Fault: `collected metric "m" twice`}); !o.IsTaken() {
		t.Fatal(o)
	}
	group := groups(t, store)[0].(map[string]any)
	if group["last_push_successful"] != false {
		t.Errorf("last_push_successful = %v, want false", group["last_push_successful"])
	}
	failure := group["push_failure_time_seconds"].(map[string]any)
	if failure["reason"] != `collected metric "m" twice` || failure["time_stamp"] != "2026-11-22T07:33:01.087366179Z" {
		t.Errorf("push_failure_time_seconds = %v, want the time and the reason of the failure", failure)
	}

	put(t, store, "job j", &exposition.Body{}, arrival.Add(2*time.Second))
	group = groups(t, store)[0].(map[string]any)
	if group["last_push_successful"] != true {
		t.Errorf("last_push_successful = %v after another push, want true", group["last_push_successful"])
	}
}

// TestMetricsInQuarantine: what is not exposed says so, and why, also where the whole group is not.
func TestMetricsInQuarantine(t *testing.T) {
	got := groups(t, storeOf(t, groupstore.Config{Check: groupstore.CheckQuarantine},
		push{key: "job a", body: "# TYPE m counter\nm 1\nfine 1\n"}, push{key: "job b", body: "# TYPE m gauge\nm 1\nfine 1\n"}))
	quarantined := func(group int, family string) any {
		return got[group].(map[string]any)[family].(map[string]any)["quarantined"]
	}
	if reason, ok := quarantined(1, "m").(string); !ok || !strings.Contains(reason, "is not a COUNTER") {
		t.Errorf("quarantined = %q, want the reason", quarantined(1, "m"))
	}
	for _, visible := range []any{quarantined(0, "m"), quarantined(0, "fine"), quarantined(1, "fine"), quarantined(1, "push_time_seconds")} {
		if visible != nil {
			t.Errorf("a family that is exposed says quarantined: %q", visible)
		}
	}
}

// TestMetricsOfNativeHistograms compares with what the reference's API documents: boundaries, bounds and count per bucket,
// from the lowest to the highest, without empty ones.
func TestMetricsOfNativeHistograms(t *testing.T) {
	integer := &dto.Histogram{
		SampleCount: proto.Uint64(11), SampleSum: proto.Float64(7.5), Schema: proto.Int32(1),
		ZeroThreshold: proto.Float64(0.001), ZeroCount: proto.Uint64(2),
		PositiveSpan:  []*dto.BucketSpan{{Offset: proto.Int32(0), Length: proto.Uint32(2)}, {Offset: proto.Int32(1), Length: proto.Uint32(2)}},
		PositiveDelta: []int64{1, 2, -3, 1}, // 1, 3, 0, 1
		NegativeSpan:  []*dto.BucketSpan{{Offset: proto.Int32(2), Length: proto.Uint32(2)}},
		NegativeDelta: []int64{3, -2}, // 3, 1
	}
	float := &dto.Histogram{
		SampleCountFloat: proto.Float64(2.5), SampleSum: proto.Float64(1), Schema: proto.Int32(0),
		ZeroThreshold: proto.Float64(0.5), ZeroCountFloat: proto.Float64(0.5),
		PositiveSpan:  []*dto.BucketSpan{{Offset: proto.Int32(1), Length: proto.Uint32(1)}},
		PositiveCount: []float64{2},
	}
	tests := []struct {
		name      string
		histogram *dto.Histogram
		want      string
	}{
		{"integer", integer, `{"labels":{"instance":"","job":"j"},"count":"11","sum":"7.5","buckets":[
			[1,"-2.8284271247461903","-2","1"],[1,"-2","-1.4142135623730951","3"],
			[3,"-0.001","0.001","2"],
			[0,"0.7071067811865476","1","1"],[0,"1","1.4142135623730951","3"],[0,"2.8284271247461903","4","1"]]}`},
		{"float", float, `{"labels":{"instance":"","job":"j"},"count":"2.5","sum":"1","buckets":[[3,"-0.5","0.5","0.5"],[0,"1","2","2"]]}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var wire bytes.Buffer
			family := &dto.MetricFamily{Name: proto.String("h"), Type: dto.MetricType_HISTOGRAM.Enum(), Metric: []*dto.Metric{{Histogram: tt.histogram}}}
			if _, err := protodelim.MarshalTo(&wire, family); err != nil {
				t.Fatal(err)
			}
			var parser exposition.Parser
			body, err := parser.ParseProtobuf(wire.Bytes(), exposition.Options{})
			if err != nil {
				t.Fatal(err)
			}
			store := groupstore.New(groupstore.Config{})
			put(t, store, "job j", body, arrival)
			got := groups(t, store)[0].(map[string]any)["h"].(map[string]any)["metrics"]
			if diff := cmp.Diff([]any{object(t, tt.want)}, got); diff != "" {
				t.Errorf("metrics (-want +got):\n%s", diff)
			}
		})
	}
}

// pieceSizes is a ResponseWriter that keeps nothing but the size of what it was given.
type pieceSizes struct {
	header  http.Header
	total   int
	largest int
}

func (p *pieceSizes) Header() http.Header { return p.header }
func (p *pieceSizes) WriteHeader(int)     {}
func (p *pieceSizes) Write(b []byte) (int, error) {
	p.total += len(b)
	p.largest = max(p.largest, len(b))
	return len(b), nil
}

// TestMetricsStreams: an answer is never held whole, nor is one of its groups.
func TestMetricsStreams(t *testing.T) {
	var body strings.Builder
	for i := range 50_000 {
		fmt.Fprintf(&body, "m{k=\"%d\"} %d\n", i, i)
	}
	store := storeOf(t, groupstore.Config{}, push{key: "job j", body: body.String()}, push{key: "job k", body: "m 1\n"})
	w := &pieceSizes{header: http.Header{}}
	queryapi.Metrics(queryapi.MetricsConfig{Store: store})(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	if w.total < 2<<20 || w.largest > 64<<10 {
		t.Errorf("%d bytes were written in pieces of up to %d, want more than 2 MiB in small pieces", w.total, w.largest)
	}
}

// TestMetricsAreBounded: no more answers than allowed hold a state of the store, and whoever waits too long is told so.
func TestMetricsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := queryapi.Metrics(queryapi.MetricsConfig{Store: storeOf(t, groupstore.Config{}, push{key: "job j", body: "m 1\n"}), MaxConcurrent: 1})
		stalled := stalledWriter{http.Header{}, make(chan struct{})}
		var answering sync.WaitGroup
		answering.Go(func() { h(stalled, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)) })
		synctest.Wait()

		began := time.Now()
		w := httptest.NewRecorder()
		h(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
		if w.Code != http.StatusServiceUnavailable || time.Since(began) != 10*time.Second {
			t.Errorf("the second question was answered %d after %v, want 503 after 10s", w.Code, time.Since(began))
		}

		w = httptest.NewRecorder()
		h(w, httptest.NewRequestWithContext(t.Context(), http.MethodHead, "/", nil))
		if w.Code != http.StatusOK || w.Body.Len() > 0 {
			t.Errorf("HEAD = %d with %d bytes, want 200 at once and nothing rendered", w.Code, w.Body.Len())
		}

		close(stalled.goOn)
		answering.Wait()
		get(t, h)

		// Whoever closed the sending half still reads.
		gone, leave := context.WithCancel(t.Context())
		leave()
		for range 20 {
			w = httptest.NewRecorder()
			if h(w, httptest.NewRequestWithContext(gone, http.MethodGet, "/", nil)); w.Code != http.StatusOK {
				t.Fatalf("a question whose context has ended was answered %d, want 200", w.Code)
			}
		}
	})
}

// stalledWriter takes nothing until it may go on.
type stalledWriter struct {
	header http.Header
	goOn   chan struct{}
}

func (s stalledWriter) Header() http.Header { return s.header }
func (s stalledWriter) WriteHeader(int)     {}
func (s stalledWriter) Write(p []byte) (int, error) {
	<-s.goOn
	return len(p), nil
}

// TestMetricsOfABrokenConnection: an answer that cannot be finished does not look like a whole one.
func TestMetricsOfABrokenConnection(t *testing.T) {
	store := storeOf(t, groupstore.Config{}, push{key: "job j", body: "m 1\n"})
	defer func() {
		if got := recover(); got != http.ErrAbortHandler { //nolint:errorlint // It is a panic's value.
			t.Errorf("the handler panicked with %v, want %v", got, http.ErrAbortHandler)
		}
	}()
	queryapi.Metrics(queryapi.MetricsConfig{Store: store})(brokenWriter{http.Header{}}, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	t.Error("the handler returned")
}

type brokenWriter struct{ header http.Header }

func (b brokenWriter) Header() http.Header         { return b.header }
func (b brokenWriter) WriteHeader(int)             {}
func (b brokenWriter) Write(p []byte) (int, error) { return 0, http.ErrHandlerTimeout }

func BenchmarkMetrics(b *testing.B) {
	pushes := make([]push, 1000)
	var body strings.Builder
	for i := range 100 {
		fmt.Fprintf(&body, "m%d{k=\"v\"} %d.5\n", i, i)
	}
	for i := range pushes {
		pushes[i] = push{key: fmt.Sprintf("job j instance %d", i), body: body.String()}
	}
	h := queryapi.Metrics(queryapi.MetricsConfig{Store: storeOf(b, groupstore.Config{}, pushes...)})
	r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/", nil)
	b.ReportAllocs()
	for b.Loop() {
		w := &pieceSizes{header: http.Header{}}
		h(w, r)
		b.SetBytes(int64(w.total))
	}
}
