package exposition

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"

	"pushrelay/internal/metric"
)

// textParser reads the lines of a body in text format 0.0.4 and hands on to its builder what they say. It must be reset first.
type textParser struct {
	textScanner

	out builder

	textState
}

// textState is what a textParser knows of the lines so far.
type textState struct {
	samples    int         // lines with a sample so far
	firstLabel int32       // where the labels of the current line begin in the body
	current    int32       // the family that was named last, -1 at first
	role       metric.Role // what a sample is by the suffix of its name; a BoundLine if it has none

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

// reset lets go of the body before, and makes ready for another one.
func (t *textParser) reset(src []byte, o Options) {
	t.src, t.line = src, 0
	t.scratch.reset()
	t.textState = textState{current: -1, lastFamily: -1}
	t.out.reset(o)
}

// parse reads the whole body.
func (t *textParser) parse() error {
	for i := 0; i < len(t.src); {
		next, err := t.textLine(i)
		if err != nil {
			return err
		}
		i = next
	}
	t.out.joinLines()
	return nil
}

// textLine scans the line that begins at i and returns where the next one begins.
func (t *textParser) textLine(i int) (int, error) {
	t.line++
	i = t.skipBlanks(i)
	if i == len(t.src) {
		return i, nil // Blanks without a line feed may end a body; nothing else may.
	}
	switch t.src[i] {
	case '\n':
		return i + 1, nil
	case '#':
		return t.comment(i + 1)
	default:
		return t.sample(i)
	}
}

// comment scans a comment, which may be a HELP or TYPE line, from behind its #.
func (t *textParser) comment(i int) (int, error) {
	i = t.skipBlanks(i)
	keyword, i := t.word(i)
	if i == len(t.src) {
		return 0, t.endOfInput()
	}
	if t.src[i] == '\n' {
		return i + 1, nil
	}
	isHelp := string(keyword) == "HELP"
	if !isHelp && string(keyword) != "TYPE" {
		end := bytes.IndexByte(t.src[i:], '\n')
		if end < 0 {
			return 0, t.endOfInput()
		}
		return i + end + 1, nil
	}
	name, i, err := t.name(t.skipBlanks(i), metricNameByte)
	if err != nil {
		return 0, err
	}
	if t.src[i] == '\n' {
		return i + 1, nil
	}
	if !isBlank(t.src[i]) {
		return 0, t.malformed("invalid metric name in comment")
	}
	if err := t.nameFamily(name); err != nil {
		return 0, err
	}
	i = t.skipBlanks(i)
	if i == len(t.src) {
		return 0, t.endOfInput()
	}
	if t.src[i] == '\n' {
		return i + 1, nil
	}
	if isHelp {
		return t.help(i)
	}
	return t.typeLine(i)
}

// help scans the text of a HELP line.
func (t *textParser) help(i int) (int, error) {
	fam := &t.out.families[t.current]
	if fam.HasHelp {
		return 0, t.malformed(fmt.Sprintf("second HELP line for metric name %q", fam.Name))
	}
	end := bytes.IndexByte(t.src[i:], '\n')
	line := t.src[i:]
	if end >= 0 {
		line = line[:end]
	}
	if bytes.IndexByte(line, '\\') >= 0 {
		start := len(t.scratch)
		var err error
		if i, err = t.unescape(i, start, toLineEnd); err != nil {
			return 0, err
		}
		line = t.scratch[start:]
	} else if end < 0 {
		return 0, t.endOfInput()
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
func (t *textParser) typeLine(i int) (int, error) {
	fam := &t.out.families[t.current]
	if fam.typed {
		return 0, t.malformed(fmt.Sprintf("second TYPE line for metric name %q, or TYPE reported after samples", fam.Name))
	}
	end := bytes.IndexByte(t.src[i:], '\n')
	if end < 0 {
		return 0, t.endOfInput()
	}
	word := t.src[i : i+end]
	typ, ok := metric.OfText(string(word))
	if !ok {
		// expfmt drops backslashes here and takes any case; both are too rare to look for first.
		spelled := strings.ReplaceAll(string(word), `\`, "")
		if typ, ok = metric.OfText(strings.ToLower(strings.ToUpper(spelled))); !ok {
			return 0, t.malformed(fmt.Sprintf("unknown metric type %q", spelled))
		}
	}
	fam.Type, fam.typed = typ, true
	return i + end + 1, nil
}

// nameFamily makes the family that a metric name belongs to the current one and adds it if there is none yet. The name of
// a sum, a count or a bucket belongs to the summary or histogram of the name before the suffix, if one is known by then.
func (t *textParser) nameFamily(name []byte) error {
	if t.lastFamily >= 0 && bytes.Equal(name, t.lastName) {
		t.current, t.role = t.lastFamily, t.lastRole
		return nil
	}
	if !metric.ValidMetricName(t.out.names, name) {
		return t.malformed(fmt.Sprintf("invalid metric name %q", name))
	}
	if len(name) > t.out.maxLabelLength {
		return t.out.lengthError(name)
	}
	t.current, t.role = t.lookUpFamily(name)
	if t.current < 0 {
		var err error
		if t.current, err = t.out.addFamily(name); err != nil {
			return err
		}
	}
	t.lastName, t.lastFamily, t.lastRole = name, t.current, t.role
	return nil
}

func (t *textParser) lookUpFamily(name []byte) (int32, metric.Role) {
	if f, ok := t.out.findFamily(name); ok {
		return f, metric.BoundLine
	}
	base, r, ok := metric.CutSuffix(name)
	if !ok {
		return -1, metric.BoundLine
	}
	f, ok := t.out.findFamily(base)
	if !ok || t.out.families[f].Type.Suffix(r) == "" {
		return -1, metric.BoundLine
	}
	return f, r
}
