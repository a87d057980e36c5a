package groupstore_test

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/exposition"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/metric"
)

// FuzzWrite pushes arbitrary names and values: whatever is accepted can be read back whole, in every format.
func FuzzWrite(f *testing.F) {
	f.Add("m", "l", "v", "g", "w", "help", uint8(0), 1.5)
	f.Add("my.metric", "l.a", "v\"\n\\", "g g", "\x00", "h\x00\r\"", uint8(4), math.NaN())
	f.Add("\"", "\\", "{", "}", "=", "#", uint8(3), math.Copysign(0, -1))
	f.Fuzz(func(t *testing.T, name, label, value, group, groupValue, help string, typ uint8, number float64) {
		k, err := newKey("job", "j", group, groupValue)
		if err != nil {
			t.Skip(err)
		}
		body := fuzzBody(name, label, value, help, metric.Type(typ%6), number)
		s := newTester(t, groupstore.Config{})
		if _, err := apply(t.Context(), s.store, pushing{Operation: put, Key: k, Body: body, At: noon}); err != nil {
			t.Skip(err)
		}
		for _, escaping := range []metric.Escaping{metric.EscapeUnderscores, metric.EscapeDots, metric.EscapeValues, metric.AllowUTF8} {
			want := readBack(t, groupstore.Form{Escaping: escaping}, s.write(groupstore.Form{Escaping: escaping}))
			for _, format := range []exposition.Format{exposition.ProtobufDelimited, exposition.OpenMetrics100} {
				f := groupstore.Form{Format: format, Escaping: escaping}
				if diff := cmp.Diff(want, readBack(t, f, s.write(f))); diff != "" {
					t.Errorf("%v: series (-text +got):\n%s", f, diff)
				}
			}
		}
	})
}

func fuzzBody(name, label, value, help string, typ metric.Type, number float64) *exposition.Body {
	b := &exposition.Body{
		Families: []exposition.Family{{Name: []byte(name), Help: []byte(help), HasHelp: help != "", Type: typ, Metrics: exposition.Range{End: 1}}},
		Labels:   []exposition.Label{{Name: []byte(label), Value: []byte(value)}},
	}
	bounds := []float64{0}
	switch typ {
	case metric.Summary:
		bounds = []float64{0.5, 0, 0}
	case metric.Histogram, metric.GaugeHistogram:
		bounds, number = []float64{0.5, math.Inf(1), 0, 0}, math.Floor(math.Abs(number))
		if math.IsNaN(number) || number > 1<<50 {
			number = 3 // the scanner takes no other counts
		}
	}
	for _, bound := range bounds {
		b.Points = append(b.Points, exposition.Point{Bound: bound, Value: number, Token: exposition.AppendFloat(nil, number)})
	}
	if typ == metric.Summary && !(number >= 0 && number < 1<<63 && number == math.Trunc(number)) {
		b.Points[2].Token = []byte("3")
	}
	b.Metrics = []exposition.Metric{{Labels: exposition.Range{End: 1}, Points: exposition.Range{End: int32(len(bounds))}}}
	return b
}
