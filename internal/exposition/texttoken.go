package exposition

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// textScanner scans the pieces of a body in text format 0.0.4: names, label values, numbers. It knows in which line it is,
// and nothing of what the pieces say. Where a piece begins is said by whoever asks for it, and where it ends is returned.
type textScanner struct {
	src     []byte
	line    int // counted from 1, for errors; who scans line by line counts it
	scratch scratch
}

func (s *textScanner) malformed(msg string) error { return &ParseError{Line: s.line, Msg: msg} }

// name scans a metric name (class metricNameByte) or a label name (labelNameByte) that begins at i, quoted or not. The name
// is empty if no name can begin there. What follows the name is there, at the index returned: a name cannot end the body.
// A name without quotes is a legacy name; the caller judges others.
func (s *textScanner) name(i int, class byteClass) ([]byte, int, error) {
	src, start := s.src, i
	if i < len(src) && !isDigit(src[i]) {
		for i < len(src) && classes[src[i]]&class != 0 {
			i++
		}
	}
	if i == len(src) {
		return nil, 0, s.endOfInput()
	}
	if src[i] != '"' {
		return src[start:i], i, nil
	}
	return s.quotedName(start, i, class)
}

// quotedName scans a name whose quotes begin at quotes: within the name, perhaps, as expfmt has it.
func (s *textScanner) quotedName(start, quotes int, class byteClass) ([]byte, int, error) {
	what := "label name"
	if class == metricNameByte {
		what = "metric name"
	}
	from := len(s.scratch)
	s.scratch = append(s.scratch, s.src[start:quotes]...)
	end, err := s.unescape(quotes+1, from, what)
	if err != nil {
		return nil, 0, err
	}
	if end+1 == len(s.src) {
		return nil, 0, s.endOfInput()
	}
	return s.scratch[from:], end + 1, nil
}

// labelValue scans a label value from behind its opening quote and returns where the line goes on behind the closing one.
// The value is valid UTF-8.
func (s *textScanner) labelValue(i int) ([]byte, int, error) {
	src, start := s.src, i
	seen := byte(0)
	for i < len(src) && classes[src[i]]&literalByte != 0 {
		seen |= src[i]
		i++
	}
	value, end := src[start:i], i
	if i == len(src) || src[i] != '"' {
		from := len(s.scratch)
		s.scratch = append(s.scratch, value...)
		var err error
		if end, err = s.unescape(i, from, "label value"); err != nil {
			return nil, 0, err
		}
		value = s.scratch[from:]
		seen = utf8.RuneSelf
	}
	if seen >= utf8.RuneSelf && !utf8.Valid(value) {
		return nil, 0, s.malformed(fmt.Sprintf("invalid label value %q", value))
	}
	return value, end + 1, nil
}

// toLineEnd makes unescape read up to the line feed.
const toLineEnd = ""

// unescape appends to the scratch memory what is spelled from i on, up to the closing quote, and returns its index. A line
// feed before it is an error that says what is being read and how much of it there is in the scratch memory, behind from.
// For toLineEnd, the text ends at the line feed instead, and quotes are part of it.
func (s *textScanner) unescape(i, from int, what string) (int, error) {
	for i < len(s.src) {
		switch b := s.src[i]; {
		case b == '\n' && what == toLineEnd, b == '"' && what != toLineEnd:
			return i, nil
		case b == '\n':
			return 0, s.malformed(fmt.Sprintf("%s %q contains unescaped new-line", what, s.scratch[from:]))
		case b == '\\':
			i++
			if i == len(s.src) {
				return 0, s.endOfInput()
			}
			switch s.src[i] {
			case '\\', '"':
				s.scratch = append(s.scratch, s.src[i])
			case 'n':
				s.scratch = append(s.scratch, '\n')
			default:
				return 0, s.malformed(fmt.Sprintf("invalid escape sequence '\\%c'", s.src[i]))
			}
		default:
			s.scratch = append(s.scratch, b)
		}
		i++
	}
	return 0, s.endOfInput()
}

// number scans a value and returns where it ends, at a blank or a line feed.
func (s *textScanner) number(i int) (Point, int, error) {
	d, n := scanDecimal(s.src[i:])
	if end := i + n; n > 0 && end < len(s.src) && (s.src[end] == '\n' || isBlank(s.src[end])) {
		if f, ok := d.float(); ok {
			if d.canonical {
				return Point{Value: f, Token: s.src[i:end]}, end, nil
			}
			return Point{Value: f, Token: s.scratch.token(f)}, end, nil
		}
	}
	token, i := s.word(i)
	if i == len(s.src) {
		return Point{}, 0, s.endOfInput()
	}
	f, ok := parseFloat(token)
	if !ok {
		return Point{}, 0, s.malformed(fmt.Sprintf("expected float as value, got %q", token))
	}
	return Point{Value: f, Token: s.scratch.token(f)}, i, nil
}

// timestamp scans what follows a value that does not end its line.
func (s *textScanner) timestamp(i int) (int, error) {
	token, i := s.word(s.skipBlanks(i))
	if i == len(s.src) {
		return 0, s.endOfInput()
	}
	if _, err := strconv.ParseInt(string(token), 10, 64); err != nil {
		return 0, s.malformed(fmt.Sprintf("expected integer as timestamp, got %q", token))
	}
	end := bytes.IndexByte(s.src[i:], '\n')
	if end < 0 {
		return 0, s.endOfInput()
	}
	if end > 0 {
		spurious := strings.ReplaceAll(string(s.src[i:i+end]), `\`, "")
		return 0, s.malformed(fmt.Sprintf("spurious string after timestamp: %q", spurious))
	}
	return i + 1, nil
}

func (s *textScanner) skipBlanks(i int) int {
	for i < len(s.src) && isBlank(s.src[i]) {
		i++
	}
	return i
}

// word returns the bytes from i up to the next blank or line feed, and where that is: the end of the body if there is none.
func (s *textScanner) word(i int) ([]byte, int) {
	start := i
	for i < len(s.src) && !isBlank(s.src[i]) && s.src[i] != '\n' {
		i++
	}
	return s.src[start:i], i
}

func (s *textScanner) endOfInput() error { return s.malformed(endOfInput) }

func isBlank(b byte) bool { return b == ' ' || b == '\t' }
