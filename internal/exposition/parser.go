package exposition

import (
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
	// text reads bodies in text, and holds what makes the Body. Bodies in protobuf are read by a protobufParser of their own, which
	// is lent that and the scratch memory: they lie in text, and not beside it, since a pointer to them costs text 4 %.
	text textParser
}

// Parse reads a body of the format: see [Parser.ParseText] and [Parser.ParseProtobuf].
func (p *Parser) Parse(f Format, body []byte, o Options) (*Body, error) {
	if f == ProtobufDelimited {
		return p.ParseProtobuf(body, o)
	}
	return p.ParseText(body, o)
}

// ParseText parses a body in text format 0.0.4. What it returns is valid until the parser is used again, and only as long
// as body is not changed. Errors are a [*ParseError], a [*LimitError] or an [*InconsistentError], in the order in which one
// of them is found first, the last kind only if there is no other.
func (p *Parser) ParseText(body []byte, o Options) (*Body, error) {
	if len(body) > math.MaxInt32 {
		return nil, errHuge
	}
	p.text.reset(body, o)
	if err := p.text.parse(); err != nil {
		return nil, err
	}
	return p.text.out.finish()
}

// ParseProtobuf parses a body of delimited io.prometheus.client.MetricFamily messages. What it returns is valid until the
// parser is used again, and only as long as body is not changed. Of several families with one name the last is taken.
// Errors are as those of [Parser.ParseText].
func (p *Parser) ParseProtobuf(body []byte, o Options) (*Body, error) {
	if len(body) > math.MaxInt32 {
		return nil, errHuge
	}
	p.text.reset(nil, o)
	m := protobufParser{out: &p.text.out, scratch: p.text.scratch}
	err := m.parse(body)
	p.text.scratch = m.scratch
	if err != nil {
		return nil, err
	}
	return m.out.finish()
}

// maxKept is how many elements of each kind a parser keeps for the next body.
const maxKept = 1 << 16

// errHuge is for bodies that indices of 32 bits do not reach.
var errHuge = &ParseError{Msg: "body is larger than 2 GiB"}

// Reset lets go of the body that was parsed last; what the parser returned for it must not be used any more. A parser
// that is put aside for later should be reset, because it keeps that body in memory otherwise.
func (p *Parser) Reset() { p.text.reset(nil, Options{}) }

// scratch holds what is spelled otherwise in the body: tokens and unescaped text. What it has handed out stays valid when
// it grows, because a slice that outgrows its array leaves the array as it is.
type scratch []byte

func (s *scratch) reset() {
	if cap(*s) > 32*maxKept {
		*s = nil
	}
	*s = (*s)[:0]
}

// token renders a number.
func (s *scratch) token(f float64) []byte {
	from := len(*s)
	*s = AppendFloat(*s, f)
	return (*s)[from:]
}
