package exposition_test

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"pushrelay/internal/exposition"
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
			if exposition.IsLegacyMetricName(name) {
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

func TestLegacyNames(t *testing.T) {
	for _, name := range []string{"", "a", "a1", "1a", "a:b", "_", "a.b", "Π", "a ", "\xff"} {
		if got, want := exposition.IsLegacyMetricName(name), model.LegacyValidation.IsValidMetricName(name); got != want {
			t.Errorf("IsLegacyMetricName(%q) = %v", name, got)
		}
		if got, want := exposition.IsLegacyLabelName([]byte(name)), model.LegacyValidation.IsValidLabelName(name); got != want {
			t.Errorf("IsLegacyLabelName(%q) = %v", name, got)
		}
	}
	if got, want := string(exposition.AppendLabelName(nil, "a:b")), `"a:b"`; got != want {
		t.Errorf("AppendLabelName(a:b) = %s, want %s", got, want)
	}
}

var escapings = map[exposition.Escaping]model.EscapingScheme{
	exposition.EscapeUnderscores: model.UnderscoreEscaping,
	exposition.EscapeDots:        model.DotsEscaping,
	exposition.EscapeValues:      model.ValueEncodingEscaping,
	exposition.AllowUTF8:         model.NoEscaping,
}

func TestEscapedNamesAreTheReferences(t *testing.T) {
	for escaping, scheme := range escapings {
		if escaping.String() != scheme.String() {
			t.Errorf("escaping %d is called %s, want %s", escaping, escaping, scheme)
		}
		for _, name := range []string{"a", "a_b", "my.metric", "1a", "a:b.c", "Π_a", "a\x00\U0010FFFF"} {
			f := model.EscapeMetricFamily(family(name, dto.MetricType_GAUGE, gauge(1, name, "v")), scheme)
			if got := exposition.EscapeName(name, escaping); got != f.GetName() {
				t.Errorf("EscapeName(%q, %s) = %q, want %q", name, escaping, got, f.GetName())
			}
			if name == "a:b.c" {
				continue // The reference leaves the colon in labels.
			}
			if got := exposition.EscapeLabelName(name, escaping); got != f.Metric[0].Label[0].GetName() {
				t.Errorf("EscapeLabelName(%q, %s) = %q, want %q", name, escaping, got, f.Metric[0].Label[0].GetName())
			}
		}
	}
}

func TestEscapedLabelNamesHaveNoColon(t *testing.T) {
	for _, name := range []string{"a:b", ":", "1:_1_.Π", "a:\x01b", "_3a_:"} {
		for escaping := range escapings {
			got := exposition.EscapeLabelName(name, escaping)
			if escaping == exposition.AllowUTF8 {
				if got != name {
					t.Errorf("EscapeLabelName(%q, %s) = %q", name, escaping, got)
				}
				continue
			}
			if !exposition.IsLegacyLabelName(got) {
				t.Errorf("EscapeLabelName(%q, %s) = %q, which is no legacy name", name, escaping, got)
			}
			if back := model.UnescapeName(got, model.ValueEncodingEscaping); escaping == exposition.EscapeValues && back != name {
				t.Errorf("EscapeLabelName(%q, %s) = %q, which means %q", name, escaping, got, back)
			}
		}
	}
}
