package groupstore

import (
	"strings"

	dto "github.com/prometheus/client_model/go"

	"pushrelay/internal/exposition"
	"pushrelay/internal/metric"
	"pushrelay/internal/series"
)

// writeText writes the families in text 0.0.4 or, which differs in comments and the end only, in OpenMetrics.
func (v *View) writeText(o *output, families []exposed, f Form) {
	open := f.Format == exposition.OpenMetrics100
	for i := range families {
		e := &families[i]
		if open {
			o.buf = e.appendOpenHeader(o.buf)
		} else {
			o.buf = e.appendHeader(o.buf)
		}
		if e.own != nil {
			o.buf = appendOwn(o.buf, e.own)
			o.spill()
		}
		v.writeOwn(o, e)
		v.writeRun(o, e)
		if o.failed.Load() {
			return
		}
	}
	if open {
		o.buf = append(o.buf, "# EOF\n"...)
	}
}

// writeRun writes the lines of all groups of a family.
func (v *View) writeRun(o *output, e *exposed) {
	if e.run == nil {
		return
	}
	o.text.Use(e.dialect)
	for p := range v.partsOf(e.run, true) {
		o.buf = series.AppendText(&o.text, o.buf, p.set, &p.group.labels, p.set.Tokens(p.values), o.spillFull)
		if o.failed.Load() {
			return
		}
	}
}

// writeOwn writes what all groups have of the store, if the family is of those.
func (v *View) writeOwn(o *output, e *exposed) {
	if e.ofStore == nil {
		return
	}
	o.text.Use(e.dialect)
	var text []byte
	for i, st := range v.shown(true) {
		k, value, ok := e.ofStore.of(st, v.fate(i), v.moment.now)
		if !ok {
			continue
		}
		text = append(exposition.AppendFloat(text[:0], value), '\n')
		o.buf = series.AppendText(&o.text, o.buf, k, &st.group.labels, text, o.spillFull)
		if o.failed.Load() {
			return
		}
	}
}

// appendHeader appends the comments of text 0.0.4.
func (e *exposed) appendHeader(dst []byte) []byte {
	if e.hasHelp {
		dst = append(exposition.AppendMetricName(append(dst, "# HELP "...), e.name), ' ')
		dst = append(exposition.AppendEscapedHelp(dst, e.help), '\n')
	}
	dst = exposition.AppendMetricName(append(dst, "# TYPE "...), e.name)
	return append(append(append(dst, ' '), e.typ.Text()...), '\n')
}

// appendOpenHeader appends the comments of OpenMetrics. Samples keep their names in it (S15): a counter that does not end
// in _total, or whose name without it is that of another family, is of unknown type.
func (e *exposed) appendOpenHeader(dst []byte) []byte {
	name, word := e.name, e.typ.OpenMetrics()
	if suffix := e.typ.OpenSuffix(); suffix != "" {
		base, ok := strings.CutSuffix(name, suffix)
		switch {
		case ok && base != "" && !e.baseTaken:
			name = base
		default:
			word = metric.Untyped.OpenMetrics()
		}
	}
	if e.hasHelp {
		dst = append(exposition.AppendMetricName(append(dst, "# HELP "...), name), ' ')
		dst = append(exposition.AppendEscapedLabelValue(dst, e.help), '\n')
	}
	dst = exposition.AppendMetricName(append(dst, "# TYPE "...), name)
	dst = append(append(append(dst, ' '), word...), '\n')
	if e.unit != "" && strings.HasSuffix(name, "_"+e.unit) {
		dst = append(exposition.AppendMetricName(append(dst, "# UNIT "...), name), ' ')
		dst = append(exposition.AppendEscapedLabelValue(dst, e.unit), '\n')
	}
	return dst
}

// appendOwn appends the sample lines of one of the program's own families.
func appendOwn(dst []byte, mf *dto.MetricFamily) []byte {
	name := mf.GetName()
	for _, m := range mf.Metric {
		switch {
		case m.Counter != nil:
			dst = appendOwnLine(dst, name, m, "", 0, m.Counter.GetValue())
		case m.Gauge != nil:
			dst = appendOwnLine(dst, name, m, "", 0, m.Gauge.GetValue())
		case m.Untyped != nil:
			dst = appendOwnLine(dst, name, m, "", 0, m.Untyped.GetValue())
		case m.Summary != nil:
			for _, q := range m.Summary.Quantile {
				dst = appendOwnLine(dst, name, m, metric.Summary.BoundLabel(), q.GetQuantile(), q.GetValue())
			}
			dst = appendOwnLine(dst, name+metric.Summary.Suffix(metric.SumLine), m, "", 0, m.Summary.GetSampleSum())
			dst = appendOwnLine(dst, name+metric.Summary.Suffix(metric.CountLine), m, "", 0, float64(m.Summary.GetSampleCount()))
		case m.Histogram != nil:
			dst = appendOwnHistogram(dst, name, m)
		}
	}
	return dst
}
