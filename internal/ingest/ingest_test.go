package ingest_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/history"
	"pushrelay/internal/ingest"
)

var noon = time.Unix(1_700_000_000, 0)

type bench struct {
	tb       testing.TB
	store    *groupstore.Store
	ingester *ingest.Ingester
	registry *prometheus.Registry
}

func newBench(tb testing.TB, cfg ingest.Config, store groupstore.Config) *bench {
	tb.Helper()
	b := &bench{tb: tb, store: groupstore.New(store), registry: prometheus.NewPedanticRegistry()}
	cfg.Registerer = b.registry
	if cfg.Store == nil {
		cfg.Store = b.store
	}
	b.ingester = ingest.New(cfg)
	return b
}

func key(tb testing.TB, pairs ...string) grouping.Key {
	tb.Helper()
	var labels []grouping.Label
	for i := 0; i < len(pairs); i += 2 {
		labels = append(labels, grouping.Label{Name: pairs[i], Value: pairs[i+1]})
	}
	k, err := grouping.New(labels...)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

func (b *bench) put(k grouping.Key, text string) (change.Outcome, error) {
	return outcome(b.ingester.Apply(b.tb.Context(), &change.Change{Operation: change.Replace, Key: k, Body: []byte(text), At: noon}))
}

func (b *bench) exposition() string {
	b.tb.Helper()
	var text strings.Builder
	if err := b.store.Snapshot().Write(&text, groupstore.Form{}, nil); err != nil {
		b.tb.Fatal(err)
	}
	return text.String()
}

func (b *bench) exposes(line string) {
	b.tb.Helper()
	if text := b.exposition(); !strings.Contains("\n"+text, "\n"+line+"\n") {
		b.tb.Errorf("the exposition lacks %s:\n%s", line, text)
	}
}

func delimited(tb testing.TB, families ...*dto.MetricFamily) []byte {
	tb.Helper()
	var b bytes.Buffer
	for _, mf := range families {
		if _, err := protodelim.MarshalTo(&b, mf); err != nil {
			tb.Fatal(err)
		}
	}
	return b.Bytes()
}

func TestPush(t *testing.T) {
	b := newBench(t, ingest.Config{}, groupstore.Config{})
	counter := &dto.MetricFamily{Name: proto.String("c_total"), Type: dto.MetricType_COUNTER.Enum(), Metric: []*dto.Metric{
		{Counter: &dto.Counter{Value: proto.Float64(3)}},
	}}
	steps := []struct {
		request change.Change
		exposes []string
		hides   []string
	}{
		{change.Change{Operation: change.Replace, Body: []byte("m 1\nn 2\n")}, []string{`m{instance="",job="j"} 1`, `n{instance="",job="j"} 2`}, nil},
		{change.Change{Operation: change.Merge, Body: []byte("n 3\n")}, []string{`m{instance="",job="j"} 1`, `n{instance="",job="j"} 3`}, nil},
		{
			change.Change{Operation: change.Merge, Format: exposition.ProtobufDelimited, Body: delimited(t, counter)},
			[]string{`m{instance="",job="j"} 1`, `c_total{instance="",job="j"} 3`, "# TYPE c_total counter", `push_time_seconds{instance="",job="j"} 1.7e+09`},
			nil,
		},
		{change.Change{Operation: change.Replace, Body: nil}, []string{`push_time_seconds{instance="",job="j"} 1.7e+09`}, []string{"m{", "n{", "c_total"}},
		{change.Change{Operation: change.Delete, Body: nil}, nil, []string{"push_"}},
	}
	for i, st := range steps {
		st.request.Key, st.request.At = key(t, "job", "j"), noon
		got, err := outcome(b.ingester.Apply(t.Context(), &st.request))
		if diff := cmp.Diff(change.Outcome{Kind: change.Applied, Decided: history.Point{Position: uint64(i) + 1}}, got); err != nil || diff != "" {
			t.Fatalf("step %d: Push = %v, %v (-want +got):\n%s", i, got, err, diff)
		}
		for _, line := range st.exposes {
			b.exposes(line)
		}
		for _, text := range st.hides {
			if strings.Contains(b.exposition(), text) {
				t.Errorf("step %d: %q is still exposed:\n%s", i, text, b.exposition())
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	const inconsistent = "pushed metrics are invalid or inconsistent with existing metrics: "
	gauge := func(m *dto.Metric) []byte {
		return delimited(t, &dto.MetricFamily{Name: proto.String("g"), Type: dto.MetricType_COUNTER.Enum(), Metric: []*dto.Metric{m}})
	}
	tests := []struct {
		name    string
		request change.Change
		kind    error
		message string // a part of it
		failure bool   // whether the group's failure time is set
	}{
		{"malformed text", change.Change{Body: []byte("blablabla\n")}, change.Invalid, `text format parsing error in line 1: expected float as value, got ""`, false},
		{"no line feed", change.Change{Body: []byte("m 1")}, change.Invalid, "text format parsing error in line 1: unexpected end of input stream; the body has no line feed: curl -d @FILE drops them", false},
		{"CR LF", change.Change{Body: []byte("m 1\r\n")}, change.Invalid, `expected float as value, got "1\r"; the body has CR LF where lines end`, false},
		{"text that says protobuf", change.Change{Format: exposition.ProtobufDelimited, Body: []byte("metric_of_mine 1\n")}, change.Invalid, "; the body is text, although its Content-Type header says protobuf", false},
		{"truncated protobuf", change.Change{Format: exposition.ProtobufDelimited, Body: []byte{9, 1}}, change.Invalid, "unexpected EOF", false},
		{"timestamp", change.Change{Body: []byte("m 1 1000\n")}, change.Inconsistent, inconsistent + "pushed metrics must not have timestamps", true},
		{
			"timestamp in protobuf",
			change.Change{Format: exposition.ProtobufDelimited, Body: gauge(&dto.Metric{Counter: &dto.Counter{Value: proto.Float64(1)}, TimestampMs: proto.Int64(5)})},
			change.Inconsistent, inconsistent + "pushed metrics must not have timestamps", true,
		},
		{
			"value of another type",
			change.Change{Format: exposition.ProtobufDelimited, Body: gauge(&dto.Metric{Gauge: &dto.Gauge{Value: proto.Float64(1)}})},
			change.Inconsistent, "is not a COUNTER", true,
		},
		{"reserved label", change.Change{Body: []byte("m{__x=\"1\"} 1\n")}, change.Inconsistent, "has a label with an invalid name: __x", true},
		{"series twice", change.Change{Body: []byte("m 1\nm 2\n")}, change.Inconsistent, "was collected before with the same name and label values", true},
		{"clash with another group", change.Change{Body: []byte("# TYPE taken gauge\ntaken 2\n")}, change.Inconsistent, "is not a COUNTER", true},
		{"reserved metric", change.Change{Body: []byte("relay_agent_x 2\n")}, change.Inconsistent, "has a reserved name", true},
		{"too many series", change.Change{Body: []byte("m 1\nn 2\no 3\np 4\n")}, change.Invalid, "push has more than 3 series (--push.max-series)", false},
		{"an operation of the relay's own", change.Change{Operation: change.Wipe, Body: []byte("m 1\n")}, change.Invalid, "operation 5 of a push is not supported", false},
		{"another one", change.Change{Operation: change.Forget, Origin: &change.Origin{Sequence: 1}}, change.Invalid, "operation 7 of a push is not supported", false},
		{"unknown operation", change.Change{Operation: 99, Body: []byte("m 1\n")}, change.Invalid, "operation 99 of a push is not supported", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, ingest.Config{Limits: exposition.Limits{MaxSeries: 3}}, groupstore.Config{})
			if _, err := b.put(key(t, "job", "other"), "# TYPE taken counter\ntaken 1\n"); err != nil {
				t.Fatal(err)
			}
			tt.request.Key, tt.request.At = key(t, "job", "j"), noon
			if tt.request.Operation == 0 {
				tt.request.Operation = change.Replace
			}
			err := b.ingester.Apply(t.Context(), &tt.request).Err()
			var refused *change.Outcome
			if !errors.As(err, &refused) || !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.message) {
				t.Errorf("Push = %v, want a change.Outcome of %v with %q", err, tt.kind, tt.message)
			}
			if got := strings.Contains(b.exposition(), `push_failure_time_seconds{instance="",job="j"} 1.7e+09`); got != tt.failure {
				t.Errorf("failure time set: %v, want %v", got, tt.failure)
			}
		})
	}
}

func TestUnchecked(t *testing.T) {
	b := newBench(t, ingest.Config{}, groupstore.Config{Check: groupstore.CheckQuarantine})
	tests := []struct {
		text   string
		detail string
	}{
		{"# TYPE m counter\nm 1\n", ""},
		{"# TYPE m gauge\nm 1\nn 1\n", `not exposed: collected metric "m"`},
		{"# TYPE m gauge\nm 1\nn 1\nn{a=\"\"} 2\n", "2 metric families are not exposed, the first: "},
		{"m 1 1000\n", "pushed metrics must not have timestamps"},
		{"m{__x=\"1\"} 1\n", "has a label with an invalid name: __x"},
	}
	for i, tt := range tests {
		k := key(t, "job", string(rune('a'+i)))
		got, err := b.put(k, tt.text)
		if err != nil || got.Kind != change.Unchecked || !strings.Contains(got.Detail, tt.detail) || (got.Detail == "") != (tt.detail == "") {
			t.Errorf("Push(%q) = %+v, %v, want %q", tt.text, got, err, tt.detail)
		}
	}
	if _, err := b.put(key(t, "job", "z"), "malformed\n"); !errors.Is(err, change.Invalid) {
		t.Errorf("Push of what is malformed = %v", err)
	}
	b.exposes(`push_failure_time_seconds{instance="",job="d"} 1.7e+09`)
	b.exposes(`push_failure_time_seconds{instance="",job="e"} 1.7e+09`)
	got, err := outcome(b.ingester.Apply(t.Context(), &change.Change{Operation: change.Delete, Key: key(t, "job", "a"), At: noon}))
	if err != nil || got.Kind != change.Applied {
		t.Errorf("Delete = %+v, %v", got, err)
	}
}

func TestAgentLabel(t *testing.T) {
	b := newBench(t, ingest.Config{
		AgentLabel: "agent",
		KnownAgent: func(name string) bool { return name == "site-1" },
	}, groupstore.Config{})
	push1 := func(agent, text string, pairs ...string) error {
		err := b.ingester.Apply(t.Context(), &change.Change{Operation: change.Replace, Key: key(t, pairs...), Body: []byte(text), At: noon, Agent: agent}).Err()
		return err
	}
	for _, err := range []error{
		push1("site-1", "m{agent=\"x\"} 1\n", "job", "backup"),
		push1("site-2", "m 2\n", "job", "backup"),
		push1("", "m 3\n", "job", "backup"),
		push1("", "m 4\n", "job", "backup", "agent", "somebody"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	b.exposes(`m{agent="site-1",instance="",job="backup"} 1`)
	b.exposes(`m{agent="site-2",instance="",job="backup"} 2`)
	b.exposes(`m{instance="",job="backup"} 3`)
	b.exposes(`m{agent="somebody",instance="",job="backup"} 4`)
	if err := push1("site-1", "m 1\n", "job", "backup", "agent", "site-1"); !errors.Is(err, change.Invalid) {
		t.Errorf("a key that has the label already, through an agent = %v", err)
	}
	if err := push1("", "m 1\n", "job", "backup", "agent", "site-1"); !errors.Is(err, change.Forbidden) {
		t.Errorf("a direct push in the name of a known agent = %v", err)
	}
	b.exposes(`m{agent="site-1",instance="",job="backup"} 1`)
	err := b.ingester.Apply(t.Context(), &change.Change{Operation: change.Delete, Key: key(t, "job", "backup", "agent", "site-1"), At: noon}).Err()
	if !errors.Is(err, change.Forbidden) {
		t.Errorf("a direct delete in the name of a known agent = %v", err)
	}
	off := newBench(t, ingest.Config{KnownAgent: func(string) bool { return true }}, groupstore.Config{})
	if err := off.ingester.Apply(t.Context(), &change.Change{Operation: change.Replace, Key: key(t, "job", "j", "agent", "a"), Body: []byte("m 1\n"), At: noon, Agent: "site-1"}).Err(); err != nil {
		t.Errorf("Push with the label off = %v", err)
	}
	off.exposes(`m{agent="a",instance="",job="j"} 1`)
}

// outcome returns an outcome and its error.
func outcome(o change.Outcome) (change.Outcome, error) { return o, o.Err() }

func TestMetrics(t *testing.T) {
	b := newBench(t, ingest.Config{}, groupstore.Config{})
	for _, text := range []string{"m 1\n", "m 2\n", "m{__x=\"1\"} 1\n", "bad\n"} {
		b.put(key(t, "job", "j"), text)
	}
	want := `
# HELP relay_pushes_total Pushes and deletes that reached the store, by result (applied, unchecked, duplicate, rejected) and by the reason of a rejection.
# TYPE relay_pushes_total counter
relay_pushes_total{reason="",result="applied"} 2
relay_pushes_total{reason="",result="duplicate"} 0
relay_pushes_total{reason="",result="unchecked"} 0
relay_pushes_total{reason="canceled",result="rejected"} 0
relay_pushes_total{reason="changed",result="rejected"} 0
relay_pushes_total{reason="forbidden",result="rejected"} 0
relay_pushes_total{reason="full",result="rejected"} 0
relay_pushes_total{reason="inconsistent",result="rejected"} 1
relay_pushes_total{reason="invalid",result="rejected"} 1
relay_pushes_total{reason="reused",result="rejected"} 0
relay_pushes_total{reason="superseded",result="rejected"} 0
relay_pushes_total{reason="timeout",result="rejected"} 0
relay_pushes_total{reason="too_large",result="rejected"} 0
relay_pushes_total{reason="unavailable",result="rejected"} 0
`
	if err := testutil.GatherAndCompare(b.registry, strings.NewReader(want), "relay_pushes_total"); err != nil {
		t.Error(err)
	}
	problems, err := testutil.GatherAndLint(b.registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
}

// TestDecided: who is told of pushes hears of each, with the key of the store.
func TestDecided(t *testing.T) {
	var told []string
	b := newBench(t, ingest.Config{AgentLabel: "agent", Decided: func(c *change.Change, o change.Outcome, took time.Duration) {
		if took < 0 {
			t.Errorf("it took %v", took)
		}
		told = append(told, fmt.Sprintf("%s %v %d %q", c.Operation, c.Key, o.Kind, o.Detail))
	}}, groupstore.Config{})
	b.put(key(t, "job", "j"), "m 1\n")
	b.ingester.Apply(t.Context(), &change.Change{Operation: change.Merge, Key: key(t, "job", "j"), Agent: "site-a", Body: []byte("m 1 1\n"), At: noon})
	b.ingester.Apply(t.Context(), &change.Change{Operation: change.Delete, Key: key(t, "job", "j"), At: noon})
	want := []string{
		fmt.Sprintf(`replace {job="j"} %d ""`, change.Applied),
		fmt.Sprintf(`merge {job="j",agent="site-a"} %d "pushed metrics are invalid or inconsistent with existing metrics: pushed metrics must not have timestamps"`, change.Inconsistent),
		fmt.Sprintf(`delete {job="j"} %d ""`, change.Applied),
	}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
