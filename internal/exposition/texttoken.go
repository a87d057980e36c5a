package exposition

import (
	"fmt"
	"unicode/utf8"
)

// name scans a metric name (class metricNameByte) or a label name (labelNameByte) that begins at i, quoted or not. The name
// is empty if no name can begin there. What follows the name is there, at the index returned: a name cannot end the body.
// A name without quotes is a legacy name; the caller judges others.
func (p *Parser) name(i int, class byteClass) ([]byte, int, error) {
	src, start := p.src, i
	if i < len(src) && !isDigit(src[i]) {
		for i < len(src) && classes[src[i]]&class != 0 {
			i++
		}
	}
	if i == len(src) {
		return nil, 0, p.endOfInput()
	}
	if src[i] != '"' {
		return src[start:i], i, nil
	}
	// The quotes may begin within the name, as expfmt has it.
	what := "label name"
	if class == metricNameByte {
		what = "metric name"
	}
	from := len(p.scratch)
	p.scratch = append(p.scratch, src[start:i]...)
	end, err := p.unescape(i+1, from, what)
	if err != nil {
		return nil, 0, err
	}
	if end+1 == len(p.src) {
		return nil, 0, p.endOfInput()
	}
	return p.scratch[from:], end + 1, nil
}

// labelValue scans a label value from behind its opening quote and returns where the line goes on behind the closing one.
// The value is valid UTF-8.
func (p *Parser) labelValue(i int) ([]byte, int, error) {
	src, start := p.src, i
	seen := byte(0)
	for i < len(src) && classes[src[i]]&literalByte != 0 {
		seen |= src[i]
		i++
	}
	value, end := src[start:i], i
	if i == len(src) || src[i] != '"' {
		from := len(p.scratch)
		p.scratch = append(p.scratch, value...)
		var err error
		if end, err = p.unescape(i, from, "label value"); err != nil {
			return nil, 0, err
		}
		value = p.scratch[from:]
		seen = utf8.RuneSelf
	}
	if seen >= utf8.RuneSelf && !utf8.Valid(value) {
		return nil, 0, p.malformed(fmt.Sprintf("invalid label value %q", value))
	}
	return value, end + 1, nil
}

// toLineEnd makes unescape read up to the line feed.
const toLineEnd = ""

// unescape appends to the scratch memory what is spelled from i on, up to the closing quote, and returns its index. A line
// feed before it is an error that says what is being read and how much of it there is in the scratch memory, behind from.
// For toLineEnd, the text ends at the line feed instead, and quotes are part of it.
func (p *Parser) unescape(i, from int, what string) (int, error) {
	for i < len(p.src) {
		switch b := p.src[i]; {
		case b == '\n' && what == toLineEnd, b == '"' && what != toLineEnd:
			return i, nil
		case b == '\n':
			return 0, p.malformed(fmt.Sprintf("%s %q contains unescaped new-line", what, p.scratch[from:]))
		case b == '\\':
			i++
			if i == len(p.src) {
				return 0, p.endOfInput()
			}
			switch p.src[i] {
			case '\\', '"':
				p.scratch = append(p.scratch, p.src[i])
			case 'n':
				p.scratch = append(p.scratch, '\n')
			default:
				return 0, p.malformed(fmt.Sprintf("invalid escape sequence '\\%c'", p.src[i]))
			}
		default:
			p.scratch = append(p.scratch, b)
		}
		i++
	}
	return 0, p.endOfInput()
}
