package exposition_test

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"pushrelay/internal/exposition"
	"pushrelay/internal/metric"
)

func TestAppendFloat(t *testing.T) {
	values := []float64{
		0, math.Copysign(0, -1), 1, -1, 2, 10, 100000, 999999, 1e6, 1000001, -999999, -1e6, 1e9, 1234567, 0.1, 0.5, 1.5, 0.0001, 0.00001, 1e-7, 123456.5, 1234567.5,
		1e20, 1e21, 1e22, 1e23, math.MaxInt64, math.MinInt64, math.MaxFloat64, math.SmallestNonzeroFloat64, math.NaN(), math.Inf(1), math.Inf(-1), 0.1 + 0.2,
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for range 10_000 {
		values = append(values, math.Float64frombits(rng.Uint64()), math.Trunc(rng.NormFloat64()*1e6), rng.NormFloat64())
	}
	for _, v := range values {
		want := expfmtSample(t, "m", nil, v)
		want = want[len("# TYPE m untyped\nm ") : len(want)-1]
		if got := string(exposition.AppendFloat([]byte("x"), v)); got != "x"+want {
			t.Fatalf("AppendFloat(%x) = %q, want %q", math.Float64bits(v), got[1:], want)
		}
	}
}

// expfmtSample is an untyped sample as expfmt writes it.
func expfmtSample(tb testing.TB, name string, labels []*dto.LabelPair, value float64) string {
	tb.Helper()
	var b bytes.Buffer
	f := &dto.MetricFamily{Name: &name, Type: dto.MetricType_UNTYPED.Enum(), Metric: []*dto.Metric{{Label: labels, Untyped: &dto.Untyped{Value: &value}}}}
	if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
		tb.Fatalf("writing %q: %v", name, err)
	}
	return b.String()
}

func TestNamesAndEscapesAreExpfmts(t *testing.T) {
	texts := []string{"", "a", "a_b", "a:b", "1a", "a.b", "Π", `\`, `"`, "\n", "a\\\"\nb", "a b", "_", "__a", ":"}
	for _, name := range texts {
		if name == "" {
			continue // expfmt writes no such family
		}
		for _, value := range texts {
			got := "# TYPE " + string(exposition.AppendMetricName(nil, name)) + " untyped\n"
			if metric.IsLegacyMetricName(name) {
				got += name + "{"
			} else {
				got += "{" + string(exposition.AppendMetricName(nil, []byte(name))) + ","
			}
			got += `"l.l"="` + string(exposition.AppendEscapedLabelValue(nil, value)) + "\"} 1\n"
			if want := expfmtSample(t, name, labelPairs("l.l", value), 1); got != want {
				t.Errorf("name %q, value %q: %q, want %q", name, value, got, want)
			}
		}
		var b bytes.Buffer
		f := family(name, dto.MetricType_GAUGE, gauge(1))
		f.Help = new(name)
		if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
			t.Fatalf("writing %q: %v", name, err)
		}
		line, _, _ := bytes.Cut(b.Bytes(), []byte("\n"))
		got := append([]byte("# HELP "), exposition.AppendMetricName(nil, name)...)
		if got = exposition.AppendEscapedHelp(append(got, ' '), name); !bytes.Equal(got, line) {
			t.Errorf("HELP line is %q, want %q", got, line)
		}
	}
}

func TestAppendLabelName(t *testing.T) {
	if got, want := string(exposition.AppendLabelName(nil, "a:b")), `"a:b"`; got != want {
		t.Errorf("AppendLabelName(a:b) = %s, want %s", got, want)
	}
}
