// Package exposition reads and names the exposition formats: text 0.0.4 and delimited protobuf in, content negotiation
// and content encodings both ways.
//
// It turns bytes into values and back: no goroutine, no I/O, no logger, and no idea of groups or stores. What a body
// says is a [Body]; start reading there, then at [Parser].
package exposition

import "pushrelay/internal/metric"

// Body is what one pushed body says: families in order of first appearance, every name once.
//
// It is flat so that scanning allocates nothing in the steady state: families point into Metrics, metrics into Labels
// and Points, all by [Range]. Every byte slice aliases the parsed body or the parser's scratch memory and is valid until
// the parser that made it is used again; what is kept must be cloned.
type Body struct {
	Families []Family
	Metrics  []Metric
	Labels   []Label
	Points   []Point
}

// Range is a half-open range of indices into one of the slices of a [Body].
type Range struct{ Start, End int32 }

// Len returns the number of elements in the range.
func (r Range) Len() int { return int(r.End - r.Start) }

// Family is one metric family of a body. Its metrics are contiguous in Body.Metrics, also when the body interleaved
// families. A family without metrics (a lone TYPE or HELP line) is not listed.
type Family struct {
	Name    []byte
	Help    []byte // unescaped; meaningful only if HasHelp
	Unit    []byte // protobuf only; empty if none
	HasHelp bool
	Type    metric.Type
	Metrics Range
}

// Metric is one series of a family, or the whole of one histogram or summary: all lines that share a label set.
type Metric struct {
	// Labels are sorted by name, no name twice, without le (histograms) and quantile (summaries). Values are valid
	// UTF-8. An empty value is kept as pushed.
	Labels Range
	// Points holds one point for untyped, gauge and counter; the quantiles, sum, count for a summary; the buckets (the
	// +Inf bucket always present and last), sum, count for a histogram. Sum and count are present even when the body
	// left them out, with the value that the reference would expose.
	Points Range
	// HasTimestamp says that at least one sample of the metric carried a timestamp. The store refuses such a push.
	HasTimestamp bool
	// Created is the created timestamp in nanoseconds since the epoch, 0 if there is none.
	Created int64
	// Extra holds what only protobuf can say; nil for most metrics.
	Extra *Extra
}

// Extra is the part of a metric that only protobuf can express, kept as the wire bytes of the metric
// (io.prometheus.client.Metric) less its labels, and put back on protobuf output.
type Extra struct {
	// Wire is the encoded Metric message without its label pairs, ready to be appended after them.
	Wire []byte
	// Native says that the metric is a native histogram: Points then hold only the +Inf bucket, sum and count, and before
	// them the classic buckets if it was pushed with such, too.
	Native bool
}

// Label is one label pair.
type Label struct{ Name, Value []byte }

// Point is one number of a metric.
type Point struct {
	// Bound is the upper bound of a bucket or the rank of a quantile, 0 otherwise.
	Bound float64
	// Value is the number itself.
	Value float64
	// Token is Value as the text format renders it: exactly what common/expfmt would write for it, so that `1e9` and
	// `1000000000` are both `1e+09`. It never aliases a spelling that the renderer would not produce.
	Token []byte
}
