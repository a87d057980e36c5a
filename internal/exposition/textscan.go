package exposition

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"pushrelay/internal/metric"
)

// textState is where the scan of a text body stands.
type textState struct {
	line    int         // counted from 1
	samples int         // lines with a sample so far
	labels  int32       // where the labels of the current line begin in the body
	current int32       // the family that was named last, -1 at first
	role    metric.Role // what a sample is by the suffix of its name; a BoundLine if it has none

	// lastName is the metric name that was looked up last, with what was found: most lines repeat it.
	lastName   []byte
	lastFamily int32
	lastRole   metric.Role

	// start is where the current line with a sample begins; lastLabel is the name of its last label so far, lastValue where
	// that label's value begins.
	start, lastValue int32
	lastLabel        []byte

	// prefix is how the last line of a histogram or summary with a bound begins, up to the bound, and whose it is.
	prefix                     []byte
	prefixFamily, prefixMetric int32
}

// ParseText parses a body in text format 0.0.4. What it returns is valid until the parser is used again, and only as long
// as body is not changed. Errors are a [*ParseError], a [*LimitError] or an [*InconsistentError], in the order in which one
// of them is found first, the last kind only if there is no other.
func (p *Parser) ParseText(body []byte, o Options) (*Body, error) {
	if len(body) > math.MaxInt32 {
		return nil, errHuge
	}
	p.reset(body, o)
	for i := 0; i < len(p.src); {
		next, err := p.textLine(i)
		if err != nil {
			return nil, err
		}
		i = next
	}
	return p.finish()
}

// textLine scans the line that begins at i and returns where the next one begins.
func (p *Parser) textLine(i int) (int, error) {
	p.text.line++
	i = p.skipBlanks(i)
	if i == len(p.src) {
		return i, nil // Blanks without a line feed may end a body; nothing else may.
	}
	switch p.src[i] {
	case '\n':
		return i + 1, nil
	case '#':
		return p.comment(i + 1)
	default:
		return p.sample(i)
	}
}

// comment scans a comment, which may be a HELP or TYPE line, from behind its #.
func (p *Parser) comment(i int) (int, error) {
	i = p.skipBlanks(i)
	keyword, i := p.word(i)
	if i == len(p.src) {
		return 0, p.endOfInput()
	}
	if p.src[i] == '\n' {
		return i + 1, nil
	}
	isHelp := string(keyword) == "HELP"
	if !isHelp && string(keyword) != "TYPE" {
		end := bytes.IndexByte(p.src[i:], '\n')
		if end < 0 {
			return 0, p.endOfInput()
		}
		return i + end + 1, nil
	}
	name, i, err := p.name(p.skipBlanks(i), metricNameByte)
	if err != nil {
		return 0, err
	}
	if p.src[i] == '\n' {
		return i + 1, nil
	}
	if !isBlank(p.src[i]) {
		return 0, p.malformed("invalid metric name in comment")
	}
	if err := p.nameFamily(name); err != nil {
		return 0, err
	}
	i = p.skipBlanks(i)
	if i == len(p.src) {
		return 0, p.endOfInput()
	}
	if p.src[i] == '\n' {
		return i + 1, nil
	}
	if isHelp {
		return p.help(i)
	}
	return p.typeLine(i)
}

// help scans the text of a HELP line.
func (p *Parser) help(i int) (int, error) {
	fam := &p.families[p.text.current]
	if fam.HasHelp {
		return 0, p.malformed(fmt.Sprintf("second HELP line for metric name %q", fam.Name))
	}
	end := bytes.IndexByte(p.src[i:], '\n')
	line := p.src[i:]
	if end >= 0 {
		line = line[:end]
	}
	if bytes.IndexByte(line, '\\') >= 0 {
		start := len(p.scratch)
		var err error
		if i, err = p.unescape(i, start, toLineEnd); err != nil {
			return 0, err
		}
		line = p.scratch[start:]
	} else if end < 0 {
		return 0, p.endOfInput()
	} else {
		i += end
	}
	fam.Help, fam.HasHelp = line, true
	if !utf8.Valid(line) {
		fam.Help = repairHelp(line)
	}
	return i + 1, nil
}

// typeLine scans the type of a TYPE line.
func (p *Parser) typeLine(i int) (int, error) {
	fam := &p.families[p.text.current]
	if fam.typed {
		return 0, p.malformed(fmt.Sprintf("second TYPE line for metric name %q, or TYPE reported after samples", fam.Name))
	}
	end := bytes.IndexByte(p.src[i:], '\n')
	if end < 0 {
		return 0, p.endOfInput()
	}
	word := p.src[i : i+end]
	t, ok := metric.OfText(string(word))
	if !ok {
		// expfmt drops backslashes here and takes any case; both are too rare to look for first.
		spelled := strings.ReplaceAll(string(word), `\`, "")
		if t, ok = metric.OfText(strings.ToLower(strings.ToUpper(spelled))); !ok {
			return 0, p.malformed(fmt.Sprintf("unknown metric type %q", spelled))
		}
	}
	fam.Type, fam.typed = t, true
	return i + end + 1, nil
}

// nameFamily makes the family that a metric name belongs to the current one and adds it if there is none yet. The name of
// a sum, a count or a bucket belongs to the summary or histogram of the name before the suffix, if one is known by then.
func (p *Parser) nameFamily(name []byte) error {
	t := &p.text
	if t.lastFamily >= 0 && bytes.Equal(name, t.lastName) {
		t.current, t.role = t.lastFamily, t.lastRole
		return nil
	}
	if !metric.ValidMetricName(p.names, name) {
		return p.malformed(fmt.Sprintf("invalid metric name %q", name))
	}
	if len(name) > p.maxLabelLength {
		return p.lengthError(name)
	}
	t.current, t.role = p.lookUpFamily(name)
	if t.current < 0 {
		var err error
		if t.current, err = p.addFamily(name); err != nil {
			return err
		}
	}
	t.lastName, t.lastFamily, t.lastRole = name, t.current, t.role
	return nil
}

func (p *Parser) lookUpFamily(name []byte) (int32, metric.Role) {
	if f, ok := p.findFamily(name); ok {
		return f, metric.BoundLine
	}
	base, r, ok := metric.CutSuffix(name)
	if !ok {
		return -1, metric.BoundLine
	}
	f, ok := p.findFamily(base)
	if !ok || p.families[f].Type.Suffix(r) == "" {
		return -1, metric.BoundLine
	}
	return f, r
}

// timestamp scans what follows a value that does not end its line.
func (p *Parser) timestamp(i int) (int, error) {
	token, i := p.word(p.skipBlanks(i))
	if i == len(p.src) {
		return 0, p.endOfInput()
	}
	if _, err := strconv.ParseInt(string(token), 10, 64); err != nil {
		return 0, p.malformed(fmt.Sprintf("expected integer as timestamp, got %q", token))
	}
	end := bytes.IndexByte(p.src[i:], '\n')
	if end < 0 {
		return 0, p.endOfInput()
	}
	if end > 0 {
		spurious := strings.ReplaceAll(string(p.src[i:i+end]), `\`, "")
		return 0, p.malformed(fmt.Sprintf("spurious string after timestamp: %q", spurious))
	}
	return i + 1, nil
}

func (p *Parser) skipBlanks(i int) int {
	for i < len(p.src) && isBlank(p.src[i]) {
		i++
	}
	return i
}

// word returns the bytes from i up to the next blank or line feed, and where that is: the end of the body if there is none.
func (p *Parser) word(i int) ([]byte, int) {
	start := i
	for i < len(p.src) && !isBlank(p.src[i]) && p.src[i] != '\n' {
		i++
	}
	return p.src[start:i], i
}

func (p *Parser) endOfInput() error { return p.malformed("unexpected end of input stream") }

func isBlank(b byte) bool { return b == ' ' || b == '\t' }
