package exposition

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"math"

	"pushrelay/internal/metric"
)

// Options says what a parser takes.
type Options struct {
	// Names is the scheme for metric and label names.
	Names metric.NameScheme
	// Limits bound the body. Of them the parser applies those on series and labels.
	Limits Limits
}

// Parser turns pushed bodies into a [Body]. The zero value is ready. A parser is meant to be used again and again: it
// keeps its memory, so that parsing allocates nothing once it has met bodies of the size. It must not be used by two
// goroutines at once.
//
// What [Parser.ParseText] accepts and what it makes of it is what the expfmt package of Prometheus' common library does,
// and what [Parser.ParseProtobuf] accepts is what a Pushgateway does, with these differences:
//
//   - The same sum, count, bucket or quantile twice for one label set is an [InconsistentError]; expfmt keeps the last or
//     keeps both. Buckets and quantiles are the same if their bounds are the same number (S7).
//   - Two le labels in one sample of a histogram, or two quantile labels in one of a summary, are a duplicate label; expfmt
//     takes the last.
//   - A label whose name begins with two underscores is an [InconsistentError] here; with expfmt the registry finds it.
//   - A summary's count that is negative, not a number or 2^64 and above is malformed; what expfmt makes of it depends on the
//     processor.
//   - Where the metric name stands inside the braces, labels before and behind it belong to it; expfmt judges those before it
//     by the family of the line above, mixes up histograms and summaries written so, and may panic.
//   - HELP that is not valid UTF-8 is repaired (S14).
//   - -0 is 0, as expfmt renders it, and buckets and quantiles are sorted.
//   - Where one line has several faults, the one reported may be another.
//   - In protobuf, names and label values are held to the rules of text; a family type that is not known, a bound that is
//     not a number, and a native histogram that Prometheus would not ingest are errors. A Pushgateway takes them all and
//     exposes what then breaks scrapes.
type Parser struct {
	names                                metric.NameScheme
	maxSeries, maxLabels, maxLabelLength int // of the limits; math.MaxInt for none

	src  []byte
	body Body

	// scratch holds what is spelled otherwise in the body: tokens and unescaped text. What it has handed out stays valid
	// when it grows, because a slice that outgrows its array leaves the array as it is.
	scratch []byte

	seed     maphash.Seed
	seeded   bool
	families []parsedFamily // all families that were named, those without metrics, too
	byName   table          // of families
	series   []series       // one per body.Metrics
	bySeries table          // of the metrics of histograms and summaries in text, by family and labels
	parts    []part         // the lines of histograms and summaries, until finish puts them in order
	spare    []Metric

	// interleaved says that the metrics of some family are not contiguous yet.
	interleaved bool
	// inconsistent is the first such error. It is returned only if the body has no other fault, which goes first.
	inconsistent *InconsistentError

	text textState
}

// Parse reads a body of the format: see [Parser.ParseText] and [Parser.ParseProtobuf].
func (p *Parser) Parse(f Format, body []byte, o Options) (*Body, error) {
	if f == ProtobufDelimited {
		return p.ParseProtobuf(body, o)
	}
	return p.ParseText(body, o)
}

// parsedFamily is a family while its body is parsed.
type parsedFamily struct {
	Family
	// typed says that the type cannot change any more: a TYPE line or a sample was there.
	typed bool
	// count is the number of its metrics; end is the index after the one that was added last, last the index of the one
	// that was met last. Both are meaningful only if count > 0.
	count, end, last int32
}

// series is what the parser notes down about one metric.
type series struct {
	family int32 // -1 if the family was replaced
	// first and last are the ends of its list of parts, -1 if it has none.
	first, last int32
}

// part is one line of a histogram or summary.
type part struct {
	Point
	role metric.Role
	next int32 // of the same metric, -1 at the end
}

// maxKept is how many elements of each kind a parser keeps for the next body.
const maxKept = 1 << 16

// errHuge is for bodies that indices of 32 bits do not reach.
var errHuge = &ParseError{Msg: "body is larger than 2 GiB"}

// Reset lets go of the body that was parsed last; what the parser returned for it must not be used any more. A parser
// that is put aside for later should be reset, because it keeps that body in memory otherwise.
func (p *Parser) Reset() { p.reset(nil, Options{}) }

func (p *Parser) reset(src []byte, o Options) {
	if !p.seeded {
		p.seed, p.seeded = maphash.MakeSeed(), true
	}
	p.src, p.names = src, o.Names
	p.maxSeries, p.maxLabels, p.maxLabelLength = limitOf(o.Limits.MaxSeries), limitOf(o.Limits.MaxLabels), limitOf(o.Limits.MaxLabelLength)
	p.body.Families = reuse(p.body.Families)
	p.body.Metrics = reuse(p.body.Metrics)
	p.body.Labels = reuse(p.body.Labels)
	p.body.Points = reuse(p.body.Points)
	p.families = reuse(p.families)
	p.series = reuse(p.series)
	p.parts = reuse(p.parts)
	p.spare = reuse(p.spare)
	p.byName.reset()
	p.bySeries.reset()
	if cap(p.scratch) > 32*maxKept {
		p.scratch = nil
	}
	p.scratch = p.scratch[:0]
	p.interleaved, p.inconsistent = false, nil
	p.text = textState{current: -1, lastFamily: -1}
}

// limitOf makes a limit of an option, in which 0 is none.
func limitOf(limit int) int {
	if limit == 0 {
		return math.MaxInt
	}
	return limit
}

// reuse empties a slice and lets go of what its elements pointed to.
func reuse[T any](s []T) []T {
	if cap(s) > maxKept {
		return nil
	}
	clear(s)
	return s[:0]
}

func (p *Parser) malformed(msg string) error { return &ParseError{Line: p.text.line, Msg: msg} }

// contradiction notes down the first [InconsistentError].
func (p *Parser) contradiction(name []byte, labels []Label, what string) {
	if p.inconsistent == nil {
		msg := fmt.Sprintf("collected metric %q { %s } %s", name, appendLabels(nil, labels), what)
		p.inconsistent = &InconsistentError{Msg: msg}
	}
}

func (p *Parser) seriesError() error { return &LimitError{Limit: SeriesLimit, Max: p.maxSeries} }

// lengthError says that a name or label of a metric is longer than MaxLabelLength.
func (p *Parser) lengthError(metric []byte) error {
	limit := p.maxLabelLength
	if len(metric) > limit {
		metric = append(bytes.ToValidUTF8(metric[:limit], nil), "…"...)
	}
	return &LimitError{Limit: LabelLengthLimit, Max: limit, Metric: string(metric)}
}

// findFamily returns the index of the family of that name.
func (p *Parser) findFamily(name []byte) (int32, bool) {
	return p.byName.find(maphash.Bytes(p.seed, name), func(i int32) bool { return bytes.Equal(p.families[i].Name, name) })
}

// addFamily adds a family, which must not be there yet.
func (p *Parser) addFamily(name []byte) (int32, error) {
	i := int32(len(p.families))
	if int(i) >= p.maxSeries {
		return 0, p.seriesError()
	}
	p.families = append(p.families, parsedFamily{Family: Family{Name: name}})
	p.byName.add(maphash.Bytes(p.seed, name), i)
	return i, nil
}

// addMetric appends a metric to a family and returns its index.
func (p *Parser) addMetric(f int32, m Metric) int32 {
	i := int32(len(p.body.Metrics))
	p.body.Metrics = append(p.body.Metrics, m)
	p.series = append(p.series, series{family: f, first: -1, last: -1})
	fam := &p.families[f]
	if fam.count > 0 && fam.end != i {
		p.interleaved = true
	}
	fam.count++
	fam.end, fam.last = i+1, i
	return i
}
