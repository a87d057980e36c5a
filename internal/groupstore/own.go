package groupstore

import (
	"math"

	dto "github.com/prometheus/client_model/go"

	"pushrelay/internal/exposition"
	"pushrelay/internal/metric"
)

// appendOwnHistogram appends the lines of one histogram of the program's own.
func appendOwnHistogram(dst []byte, name string, m *dto.Metric) []byte {
	count := float64(m.Histogram.GetSampleCount())
	if f := m.Histogram.GetSampleCountFloat(); f > 0 {
		count = f
	}
	bucket, label := name+metric.Histogram.Suffix(metric.BoundLine), metric.Histogram.BoundLabel()
	ended := false
	for _, b := range m.Histogram.Bucket {
		n := float64(b.GetCumulativeCount())
		if f := b.GetCumulativeCountFloat(); f > 0 {
			n = f
		}
		ended = ended || math.IsInf(b.GetUpperBound(), +1)
		dst = appendOwnLine(dst, bucket, m, label, b.GetUpperBound(), n)
	}
	if !ended {
		dst = appendOwnLine(dst, bucket, m, label, math.Inf(+1), count)
	}
	dst = appendOwnLine(dst, name+metric.Histogram.Suffix(metric.SumLine), m, "", 0, m.Histogram.GetSampleSum())
	return appendOwnLine(dst, name+metric.Histogram.Suffix(metric.CountLine), m, "", 0, count)
}

// appendOwnLine appends one sample line. The program's own names need no quotes.
func appendOwnLine(dst []byte, name string, m *dto.Metric, boundLabel string, bound, value float64) []byte {
	dst = append(dst, name...)
	separator := byte('{')
	for _, l := range m.Label {
		dst = append(append(append(dst, separator), l.GetName()...), '=', '"')
		dst = append(exposition.AppendEscapedLabelValue(dst, l.GetValue()), '"')
		separator = ','
	}
	if boundLabel != "" {
		dst = append(append(append(dst, separator), boundLabel...), '=', '"')
		dst = append(exposition.AppendFloat(dst, bound), '"')
		separator = ','
	}
	if separator == ',' {
		dst = append(dst, '}')
	}
	dst = append(dst, ' ')
	return append(exposition.AppendFloat(dst, value), '\n')
}

// typeOfOwn returns the type of one of the program's own families.
func typeOfOwn(mf *dto.MetricFamily) metric.Type {
	t, _ := metric.OfProto(mf.GetType())
	return t
}
