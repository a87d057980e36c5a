package exposition

import (
	"fmt"
	"math"
	"time"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"pushrelay/internal/metric"
)

// Message returns the family of that index as a message of the protobuf format, which says what the body says of it and is the caller's own. It is
// for those who calculate with few bodies: it makes a tree of what lies flat in the body.
func (b *Body) Message(family int) (*dto.MetricFamily, error) {
	f := &b.Families[family]
	mf := &dto.MetricFamily{Name: proto.String(string(f.Name)), Type: f.Type.Proto().Enum()}
	if f.HasHelp {
		mf.Help = proto.String(string(f.Help))
	}
	if len(f.Unit) > 0 {
		mf.Unit = proto.String(string(f.Unit))
	}
	mf.Metric = make([]*dto.Metric, 0, f.Metrics.Len())
	for i := f.Metrics.Start; i < f.Metrics.End; i++ {
		m, err := b.metricMessage(f.Type, &b.Metrics[i])
		if err != nil {
			return nil, fmt.Errorf("decoding metric %q: %w", f.Name, err)
		}
		mf.Metric = append(mf.Metric, m)
	}
	return mf, nil
}

func (b *Body) metricMessage(t metric.Type, m *Metric) (*dto.Metric, error) {
	message := &dto.Metric{}
	if m.Extra != nil {
		if err := proto.Unmarshal(m.Extra.Wire, message); err != nil {
			return nil, err
		}
	} else {
		setValue(message, t, b.Points[m.Points.Start:m.Points.End], createdOf(m))
	}
	message.Label = make([]*dto.LabelPair, 0, m.Labels.Len())
	for _, l := range b.Labels[m.Labels.Start:m.Labels.End] {
		message.Label = append(message.Label, &dto.LabelPair{Name: proto.String(string(l.Name)), Value: proto.String(string(l.Value))})
	}
	return message, nil
}

func createdOf(m *Metric) *timestamppb.Timestamp {
	if m.Created == 0 {
		return nil
	}
	return timestamppb.New(time.Unix(0, m.Created))
}

func setValue(m *dto.Metric, t metric.Type, points []Point, created *timestamppb.Timestamp) {
	switch t {
	case metric.Counter:
		m.Counter = &dto.Counter{Value: proto.Float64(points[0].Value), CreatedTimestamp: created}
	case metric.Gauge:
		m.Gauge = &dto.Gauge{Value: proto.Float64(points[0].Value)}
	case metric.Untyped:
		m.Untyped = &dto.Untyped{Value: proto.Float64(points[0].Value)}
	case metric.Summary:
		m.Summary = summaryMessage(points)
		m.Summary.CreatedTimestamp = created
	default:
		m.Histogram = histogramMessage(points)
		m.Histogram.CreatedTimestamp = created
	}
}

// summaryMessage makes a summary of its quantiles, sum and count.
func summaryMessage(points []Point) *dto.Summary {
	n := len(points) - 2
	s := &dto.Summary{SampleSum: proto.Float64(points[n].Value), SampleCount: proto.Uint64(uint64(points[n+1].Value))}
	for _, p := range points[:n] {
		s.Quantile = append(s.Quantile, &dto.Quantile{Quantile: proto.Float64(p.Bound), Value: proto.Float64(p.Value)})
	}
	return s
}

// histogramMessage makes a classic histogram of its buckets, sum and count.
func histogramMessage(points []Point) *dto.Histogram {
	n := len(points) - 2
	h := &dto.Histogram{SampleSum: proto.Float64(points[n].Value)}
	h.SampleCount, h.SampleCountFloat = countFields(points[n+1].Value)
	for _, p := range points[:n] {
		bucket := &dto.Bucket{UpperBound: proto.Float64(p.Bound)}
		bucket.CumulativeCount, bucket.CumulativeCountFloat = countFields(p.Value)
		h.Bucket = append(h.Bucket, bucket)
	}
	return h
}

// countFields returns a count as the whole number that it nearly always is, or else for the field for others.
func countFields(n float64) (whole *uint64, other *float64) {
	if n >= 0 && n < 1<<64 && n == math.Trunc(n) {
		return proto.Uint64(uint64(n)), nil
	}
	return nil, proto.Float64(n)
}
