package exposition_test

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"google.golang.org/protobuf/testing/protocmp"

	"pushrelay/internal/exposition"
	"pushrelay/internal/metric"
)

// messagesOf returns the families of a body as messages.
func messagesOf(t *testing.T, b *exposition.Body) []*dto.MetricFamily {
	t.Helper()
	families := make([]*dto.MetricFamily, len(b.Families))
	for i := range families {
		var err error
		if families[i], err = b.Message(i); err != nil {
			t.Fatal(err)
		}
	}
	return families
}

// compareMessages fails if the messages of a body, written and read, are another body; timestamps are not part of them.
func compareMessages(t *testing.T, b *exposition.Body) {
	t.Helper()
	if slices.ContainsFunc(b.Metrics, func(m exposition.Metric) bool { return m.HasTimestamp }) {
		return
	}
	again, err := new(exposition.Parser).ParseProtobuf(protobufOf(t, messagesOf(t, b)...), exposition.Options{Names: metric.UTF8Names})
	if err != nil {
		t.Fatalf("the messages of a body are refused: %v\n%s", err, render(t, b))
	}
	if got, want := render(t, again), render(t, b); got != want {
		t.Errorf("the messages say\n%swant\n%s", got, want)
	}
	for i := range b.Families {
		f, g := &b.Families[i], &again.Families[i]
		if !bytes.Equal(f.Name, g.Name) || f.Type != g.Type || !bytes.Equal(f.Unit, g.Unit) {
			t.Errorf("family %d is %+v, want %+v", i, g, f)
		}
		for j := range f.Metrics.Len() {
			m, n := &b.Metrics[int(f.Metrics.Start)+j], &again.Metrics[int(g.Metrics.Start)+j]
			if m.Created != n.Created || m.Extra != nil && (n.Extra == nil || m.Extra.Native != n.Extra.Native || !bytes.Equal(m.Extra.Wire, n.Extra.Wire)) {
				t.Errorf("metric %d of %q is %+v, want %+v", j, f.Name, n, m)
			}
		}
	}
}

// TestMessagesSayWhatBodiesSay: whatever is accepted is the same once it is made messages, and those are read.
func TestMessagesSayWhatBodiesSay(t *testing.T) {
	parser, seed := new(exposition.Parser), rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 1000 {
		if b, err := parser.ParseProtobuf(protobufOf(t, append(richFamilies(), randomFamily(rng, "random"))...), exposition.Options{}); err != nil {
			t.Fatal(err)
		} else {
			compareMessages(t, b)
		}
		text := randomText(rng)
		// A number of observations below 0 is text only: protobuf cannot say it.
		if b, err := parser.ParseText([]byte(text), exposition.Options{Names: metric.UTF8Names}); err == nil && !hasNegativeCount(b) {
			compareMessages(t, b)
		}
		if t.Failed() {
			t.Fatalf("seed %d, text\n%s", seed, text)
		}
	}
}

func hasNegativeCount(b *exposition.Body) bool {
	for _, f := range b.Families {
		for _, m := range b.Metrics[f.Metrics.Start:f.Metrics.End] {
			points := b.Points[m.Points.Start:m.Points.End]
			for i, p := range points {
				if f.Type.IsCount(i, len(points)) && !(p.Value >= 0) {
					return true
				}
			}
		}
	}
	return false
}

// TestMessagesAreThoseOfTheReference: a text becomes the messages that Prometheus' own decoder makes of it.
func TestMessagesAreThoseOfTheReference(t *testing.T) {
	const text = `# HELP c Counted.
# TYPE c counter
c{a="x",b="y"} 3
c 4.5
# TYPE g gauge
g -1
u{l="é"} -Inf
# TYPE h histogram
h_bucket{le="1"} 1
h_bucket{le="+Inf"} 3
h_sum 7
h_count 3
# TYPE s summary
s{quantile="0.5"} 2
s_sum{} 7
s_count 3
`
	reference := expfmt.NewTextParser(model.LegacyValidation)
	want, err := reference.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	b, err := new(exposition.Parser).ParseText([]byte(text), exposition.Options{})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]*dto.MetricFamily{}
	for _, mf := range messagesOf(t, b) {
		got[mf.GetName()] = mf
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("messages (-reference +got):\n%s", diff)
	}
}
