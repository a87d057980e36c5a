// Package metric holds what is known of metric families whatever they are pushed in, stored as or exposed as: their types
// and their names.
//
// A [Type] has all its behaviour here: how the formats name it, what a metric of it is made of, which names its lines
// have. Whoever asks a type what it is like need not know which types there are. A [NameScheme] says which names of
// metrics and labels are taken, an [Escaping] how they are exposed to a scraper that takes fewer. The package knows
// values only: no formats beyond their words, no bodies, no groups.
package metric

import dto "github.com/prometheus/client_model/go"

// Type is the type of a metric family. Its number is part of what lies on disk and must not change.
type Type uint8

// The types that text 0.0.4 and protobuf share. The zero value is what a family without a TYPE line is.
const (
	Untyped Type = iota
	Gauge
	Counter
	Summary
	Histogram
	GaugeHistogram
)

// Role is what one line of a summary or histogram is within its metric.
type Role uint8

// The roles, in the order in which the lines of a metric follow each other.
const (
	BoundLine Role = iota // a bucket or a quantile
	SumLine
	CountLine
)

const (
	bucketSuffix = "_bucket"
	sumSuffix    = "_sum"
	countSuffix  = "_count"
)

// types says of each type what cannot be told from its kind. It is never written to.
var types = [...]struct {
	people, text, openMetrics, protobuf string

	proto                    dto.MetricType
	valueField, createdField int32

	openSuffix string
	boundLabel string
	suffixes   [CountLine + 1]string
}{
	Untyped: {
		people: "untyped", text: "untyped", openMetrics: "unknown", protobuf: "UNTYPED",
		proto: dto.MetricType_UNTYPED, valueField: 5,
	},
	Gauge: {
		people: "gauge", text: "gauge", openMetrics: "gauge", protobuf: "GAUGE",
		proto: dto.MetricType_GAUGE, valueField: 2,
	},
	Counter: {
		people: "counter", text: "counter", openMetrics: "counter", protobuf: "COUNTER",
		proto: dto.MetricType_COUNTER, valueField: 3, createdField: 3,
		openSuffix: "_total",
	},
	Summary: {
		people: "summary", text: "summary", openMetrics: "summary", protobuf: "SUMMARY",
		proto: dto.MetricType_SUMMARY, valueField: 4, createdField: 4,
		boundLabel: "quantile", suffixes: [...]string{SumLine: sumSuffix, CountLine: countSuffix},
	},
	Histogram: {
		people: "histogram", text: "histogram", openMetrics: "histogram", protobuf: "HISTOGRAM",
		proto: dto.MetricType_HISTOGRAM, valueField: 7, createdField: 15,
		boundLabel: "le", suffixes: [...]string{bucketSuffix, sumSuffix, countSuffix},
	},
	GaugeHistogram: {
		people: "gauge histogram", text: "histogram", openMetrics: "gaugehistogram", protobuf: "GAUGE_HISTOGRAM",
		proto: dto.MetricType_GAUGE_HISTOGRAM, valueField: 7, createdField: 15,
		boundLabel: "le", suffixes: [...]string{bucketSuffix, sumSuffix, countSuffix},
	},
}

// Known says whether there is such a type. Nothing else may be asked of one that is not known.
func (t Type) Known() bool { return int(t) < len(types) }

// String returns the type's name for people.
func (t Type) String() string { return types[t].people }

// Text returns the word for the type on a TYPE line of text 0.0.4, which has none for a gauge histogram and calls it a
// histogram.
func (t Type) Text() string { return types[t].text }

// OpenMetrics returns the word for the type on a TYPE line of OpenMetrics.
func (t Type) OpenMetrics() string { return types[t].openMetrics }

// Protobuf returns the type's name in io.prometheus.client, which is the one in the Pushgateway's API and in errors.
func (t Type) Protobuf() string { return types[t].protobuf }

// Proto returns the type in io.prometheus.client.
func (t Type) Proto() dto.MetricType { return types[t].proto }

// ValueField returns the number of the field of an io.prometheus.client.Metric that holds the value of a metric of the type.
func (t Type) ValueField() int32 { return types[t].valueField }

// CreatedField returns the number of the created timestamp within the message in ValueField, 0 if it has none.
func (t Type) CreatedField() int32 { return types[t].createdField }

// OpenSuffix returns what ends the names of the type's samples in OpenMetrics, where the family is named without it; empty
// for nothing.
func (t Type) OpenSuffix() string { return types[t].openSuffix }

// Simple says whether a metric of the type is one line. Otherwise it is a summary or bucketed: lines with bounds, then the
// sum and the count.
func (t Type) Simple() bool { return t != Summary && !t.Bucketed() }

// Bucketed says whether the bounds of the type are those of buckets.
func (t Type) Bucketed() bool { return t == Histogram || t == GaugeHistogram }

// Lines returns how many lines a metric with that many bounds has.
func (t Type) Lines(bounds int) int {
	if t.Simple() {
		return 1
	}
	return bounds + 2
}

// IsCount says whether the i-th of the lines of a metric counts observations, so that it has to be a whole number: each
// bucket, and the count.
func (t Type) IsCount(i, lines int) bool {
	if t.Bucketed() {
		return i != lines-2
	}
	return t == Summary && i == lines-1
}

// BoundLabel returns the label of the lines with bounds that says which bound; empty for simple types.
func (t Type) BoundLabel() string { return types[t].boundLabel }

// Suffix returns what follows the family's name in the names of lines of that role; empty for a quantile, and for the roles
// that a simple type does not have.
func (t Type) Suffix(r Role) string { return types[t].suffixes[r] }

// OfText returns the type that a TYPE line of text 0.0.4 names. For a gauge histogram it is one of the two words that
// Prometheus' parser takes, though text 0.0.4 is never written with them.
func OfText(word string) (Type, bool) {
	switch word {
	case "counter":
		return Counter, true
	case "gauge":
		return Gauge, true
	case "histogram":
		return Histogram, true
	case "summary":
		return Summary, true
	case "untyped":
		return Untyped, true
	case "gaugehistogram", "gauge_histogram":
		return GaugeHistogram, true
	default:
		return Untyped, false
	}
}

// byProto are the types by their number in io.prometheus.client. It is never written to.
var byProto = func() (byProto [len(types)]Type) {
	for t := range types {
		byProto[types[t].proto] = Type(t)
	}
	return byProto
}()

// OfProto returns the type that io.prometheus.client has under that number, Untyped and false if it has none.
func OfProto(number dto.MetricType) (Type, bool) {
	if number < 0 || int(number) >= len(byProto) {
		return Untyped, false
	}
	return byProto[number], true
}

// IsValueField says whether the field of that number of an io.prometheus.client.Metric holds the value of some type.
func IsValueField(number int32) bool {
	for t := range types {
		if types[t].valueField == number {
			return true
		}
	}
	return false
}

// SimpleValue returns the value of a metric of a simple type; 0 if it has none.
func SimpleValue(m *dto.Metric) float64 {
	switch {
	case m.Gauge != nil:
		return m.GetGauge().GetValue()
	case m.Counter != nil:
		return m.GetCounter().GetValue()
	default:
		return m.GetUntyped().GetValue()
	}
}

// CutSuffix takes the suffix of a line of a histogram off its name and returns which line it is. It returns false if the
// name has none, or is nothing else. Whether the family of the name before it has such lines says [Type.Suffix] of its
// type.
func CutSuffix[T text](name T) (base T, r Role, ok bool) {
	n := len(name)
	switch {
	case n > len(countSuffix) && string(name[n-len(countSuffix):]) == countSuffix:
		return name[:n-len(countSuffix)], CountLine, true
	case n > len(sumSuffix) && string(name[n-len(sumSuffix):]) == sumSuffix:
		return name[:n-len(sumSuffix)], SumLine, true
	case n > len(bucketSuffix) && string(name[n-len(bucketSuffix):]) == bucketSuffix:
		return name[:n-len(bucketSuffix)], BoundLine, true
	default:
		return name, BoundLine, false
	}
}
