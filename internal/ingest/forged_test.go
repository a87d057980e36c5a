package ingest_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/ingest"
)

// TestForgedLabel: a direct push cannot give a series the label of a known agent, in whatever form it comes.
func TestForgedLabel(t *testing.T) {
	cfg := ingest.Config{AgentLabel: "agent", KnownAgent: func(name string) bool { return name == "site-a" }}
	pair := &dto.LabelPair{Name: proto.String("agent"), Value: proto.String("site-a")}
	protobuf := string(delimited(t, &dto.MetricFamily{Name: proto.String("squat"), Type: dto.MetricType_GAUGE.Enum(), Metric: []*dto.Metric{
		{Gauge: &dto.Gauge{Value: proto.Float64(1)}, Label: []*dto.LabelPair{pair}},
	}}))
	for _, tt := range []struct {
		name, body, agent string
		key               []string
		forged            bool
	}{
		{name: "text", body: "squat{agent=\"site-a\"} 1\n", forged: true},
		{name: "among others", body: "fine 1\nsquat{a=\"b\",agent=\"x\"} 1\nsquat{agent=\"site-a\",z=\"1\"} 1\n", forged: true},
		{name: "escaped", body: "squat{agent=\"site-a\",z=\"\\n\"} 1\n", forged: true},
		{name: "quoted name", body: "{\"squat\",\"agent\"=\"site-a\"} 1\n", forged: true},
		{name: "histogram", body: "# TYPE squat histogram\nsquat_bucket{agent=\"site-a\",le=\"+Inf\"} 1\nsquat_sum{agent=\"site-a\"} 1\nsquat_count{agent=\"site-a\"} 1\n", forged: true},
		{name: "protobuf", body: protobuf, forged: true},
		{name: "another's name", body: "squat{agent=\"site-b\"} 1\n"},
		{name: "no name", body: "squat{agent=\"\"} 1\n"},
		{name: "another label", body: "squat{agents=\"site-a\"} 1\n"},
		{name: "the key has another", body: "squat{agent=\"site-a\"} 1\n", key: []string{"agent", "x"}},
		{name: "through an agent", body: "squat{agent=\"site-a\"} 1\n", agent: "site-b"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, cfg, groupstore.Config{})
			r := &change.Change{Operation: change.Replace, Key: key(t, append(tt.key, "job", "j")...), Body: []byte(tt.body), At: noon, Agent: tt.agent}
			if tt.body == protobuf {
				r.Format = exposition.ProtobufDelimited
			}
			err := b.ingester.Apply(t.Context(), r).Err()
			if errors.Is(err, change.Forbidden) != tt.forged || !tt.forged && err != nil {
				t.Fatalf("Push = %v, want it to be refused: %v", err, tt.forged)
			}
			if exposed := b.exposition(); strings.Contains(exposed, `agent="site-a"`) || tt.forged && strings.Contains(exposed, "push_") {
				t.Errorf("the store exposes:\n%s", exposed)
			}
			if tt.forged && (!strings.Contains(err.Error(), `"squat"`) || !strings.Contains(err.Error(), `agent="site-a"`)) {
				t.Errorf("the refusal does not say of what: %v", err)
			}
		})
	}
}

// TestForgedLabelIsNeverMatched: a body that was fine before the agent was known is looked at again when it comes again, with the same
// values or with others.
func TestForgedLabelIsNeverMatched(t *testing.T) {
	known := false
	b := newBench(t, ingest.Config{AgentLabel: "agent", KnownAgent: func(string) bool { return known }}, groupstore.Config{})
	body := func(value int) string { return fmt.Sprintf("m %d\nsquat{agent=\"site-a\"} %d\n", value, value) }
	for i := range 8 {
		if _, err := b.put(key(t, "job", "j"), body(i)); err != nil {
			t.Fatal(err)
		}
	}
	known = true
	for i := range 8 {
		if _, err := b.put(key(t, "job", "j"), body(i)); !errors.Is(err, change.Forbidden) {
			t.Errorf("Push %d = %v", i, err)
		}
	}
}
