package exposition_test

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"pushrelay/internal/exposition"
	"pushrelay/internal/metric"
)

// render writes a body as text 0.0.4, families by name, in the simplest way. It fails the test where the body breaks a
// promise of its documentation.
func render(tb testing.TB, b *exposition.Body) string {
	tb.Helper()
	families := slices.Clone(b.Families)
	slices.SortFunc(families, func(x, y exposition.Family) int { return bytes.Compare(x.Name, y.Name) })
	var out []byte
	metrics := 0
	for _, f := range families {
		if f.Metrics.Len() == 0 {
			tb.Errorf("family %q is listed without metrics", f.Name)
		}
		metrics += f.Metrics.Len()
		if f.HasHelp {
			out = append(out, "# HELP "...)
			out = exposition.AppendMetricName(out, f.Name)
			out = append(out, ' ')
			out = exposition.AppendEscapedHelp(out, f.Help)
			out = append(out, '\n')
		}
		out = append(out, "# TYPE "...)
		out = exposition.AppendMetricName(out, f.Name)
		out = append(append(out, ' '), typeWord(f.Type)...)
		out = append(out, '\n')
		for _, m := range b.Metrics[f.Metrics.Start:f.Metrics.End] {
			out = renderMetric(tb, out, b, &f, &m)
		}
	}
	if metrics != len(b.Metrics) {
		tb.Errorf("the families hold %d metrics, the body %d", metrics, len(b.Metrics))
	}
	return string(out)
}

func typeWord(t metric.Type) string {
	return []string{"untyped", "gauge", "counter", "summary", "histogram", "histogram"}[t]
}

func renderMetric(tb testing.TB, out []byte, b *exposition.Body, f *exposition.Family, m *exposition.Metric) []byte {
	tb.Helper()
	labels := b.Labels[m.Labels.Start:m.Labels.End]
	points := b.Points[m.Points.Start:m.Points.End]
	for i := 1; i < len(labels); i++ {
		if bytes.Compare(labels[i-1].Name, labels[i].Name) >= 0 {
			tb.Errorf("labels of %q are not in order: %q", f.Name, labels)
		}
	}
	special := ""
	switch f.Type {
	case metric.Summary:
		special = "quantile"
	case metric.Histogram, metric.GaugeHistogram:
		special = "le"
		if len(points) < 3 || !math.IsInf(points[len(points)-3].Bound, 1) {
			tb.Fatalf("histogram %q does not end in a +Inf bucket, sum and count: %v", f.Name, points)
		}
	default:
		if len(points) != 1 {
			tb.Fatalf("%q has %d points", f.Name, len(points))
		}
	}
	for i, pt := range points {
		if want := string(exposition.AppendFloat(nil, pt.Value)); string(pt.Token) != want {
			tb.Errorf("token of %v in %q is %q, want %q", pt.Value, f.Name, pt.Token, want)
		}
		if math.Signbit(pt.Value) && pt.Value == 0 {
			tb.Errorf("value in %q is -0", f.Name)
		}
		suffix, bound := "", ""
		switch fromEnd := len(points) - i; {
		case special == "":
		case fromEnd == 1:
			suffix = "_count"
		case fromEnd == 2:
			suffix = "_sum"
		default:
			if special == "le" {
				suffix = "_bucket"
			}
			bound = special
			if i > 0 && !(points[i-1].Bound < pt.Bound) {
				tb.Errorf("bounds of %q do not rise: %v", f.Name, points)
			}
		}
		out = renderLine(out, string(f.Name)+suffix, labels, bound, pt, m.HasTimestamp)
	}
	return out
}

func renderLine(out []byte, name string, labels []exposition.Label, bound string, pt exposition.Point, hasTimestamp bool) []byte {
	var inside []string
	if metric.IsLegacyMetricName(name) {
		out = append(out, name...)
	} else {
		inside = append(inside, string(exposition.AppendMetricName(nil, name)))
	}
	for _, l := range labels {
		label := append(exposition.AppendLabelName(nil, l.Name), `="`...)
		label = exposition.AppendEscapedLabelValue(label, l.Value)
		inside = append(inside, string(append(label, '"')))
	}
	if bound != "" {
		inside = append(inside, fmt.Sprintf("%s=%q", bound, exposition.AppendFloat(nil, pt.Bound)))
	}
	if len(inside) > 0 {
		out = append(out, "{"+strings.Join(inside, ",")+"}"...)
	}
	out = append(append(out, ' '), pt.Token...)
	if hasTimestamp {
		out = append(out, " @"...)
	}
	return append(out, '\n')
}

// renderReference writes families as expfmt does, normalised in the ways in which a Body is.
func renderReference(tb testing.TB, families map[string]*dto.MetricFamily) string {
	tb.Helper()
	names := make([]string, 0, len(families))
	for name := range families {
		names = append(names, name)
	}
	slices.Sort(names)
	var out bytes.Buffer
	for _, name := range names {
		f := families[name]
		if f.Help != nil {
			f.Help = new(strings.ToValidUTF8(f.GetHelp(), "\uFFFD"))
		}
		for _, m := range f.Metric {
			normalise(m)
		}
		if _, err := expfmt.MetricFamilyToText(&out, f); err != nil {
			tb.Fatalf("rendering the reference's family %q: %v", name, err)
		}
	}
	return out.String()
}

func normalise(m *dto.Metric) {
	slices.SortFunc(m.Label, func(x, y *dto.LabelPair) int { return strings.Compare(x.GetName(), y.GetName()) })
	if h := m.Histogram; h != nil {
		slices.SortStableFunc(h.Bucket, func(x, y *dto.Bucket) int { return cmp.Compare(x.GetUpperBound(), y.GetUpperBound()) })
	}
	if s := m.Summary; s != nil {
		slices.SortStableFunc(s.Quantile, func(x, y *dto.Quantile) int { return cmp.Compare(x.GetQuantile(), y.GetQuantile()) })
	}
}

// parseReference parses text as the reference does. It turns a panic into an error.
func parseReference(body []byte, names metric.NameScheme) (families map[string]*dto.MetricFamily, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	scheme := model.LegacyValidation
	if names == metric.UTF8Names {
		scheme = model.UTF8Validation
	}
	parser := expfmt.NewTextParser(scheme)
	return parser.TextToMetricFamilies(bytes.NewReader(body))
}
