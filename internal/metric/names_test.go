package metric_test

import (
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"google.golang.org/protobuf/proto"

	"pushrelay/internal/metric"
)

var someNames = []string{"", "a", "a1", "1a", "a:b", ":", "_", "__a", "a.b", "Π", "a ", "a\x00", "\xff", "a\xff"}

// TestNameSchemes compares with the schemes of Prometheus' library.
func TestNameSchemes(t *testing.T) {
	schemes := map[metric.NameScheme]model.ValidationScheme{
		metric.LegacyNames: model.LegacyValidation, metric.UTF8Names: model.UTF8Validation,
	}
	for scheme, want := range schemes {
		for _, name := range someNames {
			if got := metric.ValidMetricName(scheme, name); got != want.IsValidMetricName(name) {
				t.Errorf("ValidMetricName(%d, %q) = %v", scheme, name, got)
			}
			if got := metric.ValidLabelName(scheme, []byte(name)); got != want.IsValidLabelName(name) {
				t.Errorf("ValidLabelName(%d, %q) = %v", scheme, name, got)
			}
		}
		long := strings.Repeat("a", 1000)
		inBytes := []byte(long)
		if n := testing.AllocsPerRun(10, func() {
			metric.ValidMetricName(scheme, long)
			metric.ValidLabelName(scheme, long)
			metric.ValidMetricName(scheme, inBytes)
			metric.ValidLabelName(scheme, inBytes)
		}); n > 0 {
			t.Errorf("looking at names by scheme %d allocates %v times", scheme, n)
		}
	}
}

func TestLegacyNames(t *testing.T) {
	for _, name := range someNames {
		if got, want := metric.IsLegacyMetricName(name), model.LegacyValidation.IsValidMetricName(name); got != want {
			t.Errorf("IsLegacyMetricName(%q) = %v", name, got)
		}
		if got, want := metric.IsLegacyLabelName([]byte(name)), model.LegacyValidation.IsValidLabelName(name); got != want {
			t.Errorf("IsLegacyLabelName(%q) = %v", name, got)
		}
	}
}

var escapings = map[metric.Escaping]model.EscapingScheme{
	metric.EscapeUnderscores: model.UnderscoreEscaping,
	metric.EscapeDots:        model.DotsEscaping,
	metric.EscapeValues:      model.ValueEncodingEscaping,
	metric.AllowUTF8:         model.NoEscaping,
}

func TestEscapedNamesAreTheReferences(t *testing.T) {
	for escaping, scheme := range escapings {
		if escaping.String() != scheme.String() {
			t.Errorf("escaping %d is called %s, want %s", escaping, escaping, scheme)
		}
		if got := metric.EscapingOf(scheme); got != escaping {
			t.Errorf("EscapingOf(%s) = %s", scheme, got)
		}
		for _, name := range []string{"a", "a_b", "my.metric", "1a", "a:b.c", "Π_a", "a\x00\U0010FFFF"} {
			f := model.EscapeMetricFamily(&dto.MetricFamily{
				Name: proto.String(name), Type: dto.MetricType_GAUGE.Enum(),
				Metric: []*dto.Metric{{Label: []*dto.LabelPair{{Name: proto.String(name), Value: proto.String("v")}}, Gauge: &dto.Gauge{}}},
			}, scheme)
			if got := metric.EscapeName(name, escaping); got != f.GetName() {
				t.Errorf("EscapeName(%q, %s) = %q, want %q", name, escaping, got, f.GetName())
			}
			if name == "a:b.c" {
				continue // The reference leaves the colon in labels.
			}
			if got := metric.EscapeLabelName(name, escaping); got != f.Metric[0].Label[0].GetName() {
				t.Errorf("EscapeLabelName(%q, %s) = %q, want %q", name, escaping, got, f.Metric[0].Label[0].GetName())
			}
		}
	}
}

func TestEscapedLabelNamesHaveNoColon(t *testing.T) {
	for _, name := range []string{"a:b", ":", "1:_1_.Π", "a:\x01b", "_3a_:"} {
		for escaping := range escapings {
			got := metric.EscapeLabelName(name, escaping)
			if escaping == metric.AllowUTF8 {
				if got != name {
					t.Errorf("EscapeLabelName(%q, %s) = %q", name, escaping, got)
				}
				continue
			}
			if !metric.IsLegacyLabelName(got) {
				t.Errorf("EscapeLabelName(%q, %s) = %q, which is no legacy name", name, escaping, got)
			}
			if back := model.UnescapeName(got, model.ValueEncodingEscaping); escaping == metric.EscapeValues && back != name {
				t.Errorf("EscapeLabelName(%q, %s) = %q, which means %q", name, escaping, got, back)
			}
		}
	}
}
