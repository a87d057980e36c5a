package ingest

import (
	"bytes"
	"math"
	"strconv"
	"strings"

	"pushrelay/internal/exposition"
	"pushrelay/internal/groupstore"
)

// A template is a text body that was pushed, less its values (S11). Jobs push the same series again and again; a body that
// matches the template is compared at the speed of memory, only its numbers are read, and nothing but values changes in
// the store. A template serves every group that exposes just its series, and it is never in the way: what does not match
// is parsed.
type template struct {
	sets   *groupstore.Sets
	text   string  // the body without its values
	cuts   []int   // where in text each value was
	order  []int32 // for each line of the store the value of the body that stands there, or noValue
	counts []bool  // for each value of the body whether it is a count, which has to be a whole number
	size   int
}

// noValue marks lines that the body leaves out and that are zero then.
const noValue = -1

// maxTemplateValues bounds the bodies that templates are made of, so that every value has a number that text spells with
// digits only.
const maxTemplateValues = 100_000

// newTemplate makes the template of a body that was pushed to the group of the given store. It lets the scanner tell which
// value goes where: it numbers the values, and looks where the numbers come out. It returns nil if the body is none to make
// a template of. It uses the parser.
func newTemplate(body []byte, parse func([]byte) (*exposition.Body, error), setsOf func(*exposition.Body) *groupstore.Sets) *template {
	values := valuesOf(body)
	if len(values) == 0 || len(values) > maxTemplateValues {
		return nil
	}
	t := &template{cuts: make([]int, len(values)), counts: make([]bool, len(values))}
	var numbered []byte
	var text strings.Builder
	from := 0
	for i, v := range values {
		text.Write(body[from:v.start])
		t.cuts[i] = text.Len()
		numbered = strconv.AppendInt(append(numbered, body[from:v.start]...), int64(i)+1, 10)
		from = v.end
	}
	text.Write(body[from:])
	t.text = text.String()
	parsed, err := parse(append(numbered, body[from:]...))
	if err != nil {
		return nil
	}
	if t.sets = setsOf(parsed); t.sets == nil || !t.setOrder() || !t.setCounts(parsed) {
		return nil
	}
	t.size = len(t.text) + 8*len(t.cuts) + 4*len(t.order) + len(t.counts) + len(t.sets.Values())
	return t
}

// replaces says whether the other template is of no more use beside this one: it is for the same bodies and groups, but
// perhaps of a time before the store forgot the series and met them again.
func (t *template) replaces(other *template) bool {
	return t.text == other.text && t.sets.Equal(other.sets)
}

// A stretch is a piece of a body.
type stretch struct{ start, end int }

// valuesOf returns where the values of a body stand that the scanner has taken: the last field of each line that is no
// comment. (A sample with a timestamp, which would be the last, is never stored.)
func valuesOf(body []byte) []stretch {
	var values []stretch
	for start := 0; start < len(body); {
		length := bytes.IndexByte(body[start:], '\n')
		if length < 0 {
			return nil
		}
		if v, ok := valueOf(body[start : start+length]); ok {
			values = append(values, stretch{start + v.start, start + v.end})
		}
		start += length + 1
	}
	return values
}

// valueOf returns where in a line the value stands, if the line is a sample.
func valueOf(line []byte) (stretch, bool) {
	const blanks = " \t"
	trimmed := bytes.TrimRight(line, blanks)
	if len(trimmed) == 0 || bytes.TrimLeft(line, blanks)[0] == '#' {
		return stretch{}, false
	}
	return stretch{bytes.LastIndexAny(trimmed, " \t}") + 1, len(trimmed)}, true
}

// setOrder reads from the values of the sets, which are numbers of values, where each value goes.
func (t *template) setOrder() bool {
	for token := range strings.SplitSeq(strings.TrimSuffix(t.sets.Values(), "\n"), "\n") {
		n, ok := t.number(token)
		if !ok {
			return false
		}
		t.order = append(t.order, int32(n))
	}
	return true
}

// setCounts notes which values are counts.
func (t *template) setCounts(b *exposition.Body) bool {
	for _, f := range b.Families {
		for _, m := range b.Metrics[f.Metrics.Start:f.Metrics.End] {
			points := b.Points[m.Points.Start:m.Points.End]
			for i := range points {
				if !f.Type.IsCount(i, len(points)) {
					continue
				}
				n, ok := t.number(string(points[i].Token))
				if !ok {
					return false
				}
				if n != noValue {
					t.counts[n] = true
				}
			}
		}
	}
	return true
}

// number returns which value of the body a token stands for, by the number that the value was given.
func (t *template) number(token string) (int, bool) {
	f, err := strconv.ParseFloat(token, 64)
	if err != nil || f != math.Trunc(f) || f < 0 || f > float64(len(t.cuts)) {
		return 0, false
	}
	return int(f) - 1, true
}

// A matching holds the scratch memory of matching bodies with templates.
type matching struct {
	tokens []byte    // the values of the body as the store wants them
	spans  []stretch // of each in tokens
	values []byte
}

// match returns the values of a body in the order of the sets, if the body is the template's but for its values and
// those are plain numbers.
func (t *template) match(body []byte, m *matching) (values string, ok bool) {
	m.tokens, m.spans, m.values = m.tokens[:0], m.spans[:0], m.values[:0]
	from := 0
	for i, cut := range t.cuts {
		literal := t.text[from:cut]
		if len(body) < len(literal) || string(body[:len(literal)]) != literal {
			return "", false
		}
		body, from = body[len(literal):], cut
		n := bytes.IndexAny(body[:min(len(body), maxToken)], " \t\n")
		if n < 0 {
			return "", false
		}
		start := len(m.tokens)
		if m.tokens, ok = appendNumber(m.tokens, body[:n], t.counts[i]); !ok {
			return "", false
		}
		m.spans = append(m.spans, stretch{start, len(m.tokens)})
		body = body[n:]
	}
	if string(body) != t.text[from:] {
		return "", false
	}
	for _, i := range t.order {
		if i == noValue {
			m.values = append(m.values, '0', '\n')
			continue
		}
		m.values = append(append(m.values, m.tokens[m.spans[i].start:m.spans[i].end]...), '\n')
	}
	return string(m.values), true
}

// maxToken is how long a number may be that is read here.
const maxToken = 32

// appendNumber appends a number as the scanner would have it. It takes only what is plainly a number, or a whole one for
// counts, and leaves everything else to the scanner.
func appendNumber(dst, token []byte, count bool) ([]byte, bool) {
	const (
		fewDigits   = 6  // numbers of so many digits are spelled with digits
		exactDigits = 15 // and of so many they are exact
	)
	digits := 0
	for digits < len(token) && token[digits] >= '0' && token[digits] <= '9' {
		digits++
	}
	whole := digits > 0 && digits == len(token) && (digits == 1 || token[0] != '0')
	switch {
	case whole && digits <= fewDigits:
		return append(dst, token...), true
	case count && (!whole || digits > exactDigits):
		return dst, false
	}
	switch string(token) {
	case "NaN", "+Inf", "-Inf":
		return append(dst, token...), true
	}
	for _, c := range token {
		if (c < '0' || c > '9') && c != '.' && c != '-' && c != '+' && c != 'e' && c != 'E' {
			return dst, false
		}
	}
	f, err := strconv.ParseFloat(string(token), 64)
	if err != nil {
		return dst, false
	}
	return exposition.AppendFloat(dst, f), true
}
