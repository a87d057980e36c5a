package exposition

import (
	"math"

	"pushrelay/internal/metric"
)

// Cut returns a body of the same format that says what body says of the families for which keep is true, and nothing of the
// others: their lines or messages are copied as they are, so that it is never longer than body and nothing in it is
// understood otherwise. keep is called with names of families, also of such without metrics, and perhaps more than once
// for one name; a name is valid until keep returns. The result is the caller's own. An error is a [*ParseError].
//
// It is meant for bodies that were parsed before; limits and contradictions are not looked for again.
func (p *Parser) Cut(f Format, body []byte, keep func(name []byte) bool) ([]byte, error) {
	if len(body) > math.MaxInt32 {
		return nil, errHuge
	}
	// The wider scheme understands every body that the narrower one takes in the same way.
	o := Options{Names: metric.UTF8Names}
	if f == ProtobufDelimited {
		p.text.reset(nil, o)
		m := protobufParser{out: &p.text.out}
		return m.cut(body, keep)
	}
	p.text.reset(body, o)
	return p.text.cut(keep)
}

// cut scans line by line, because the family of a line depends on the lines before it: h_sum is a line of the histogram
// h, if one is known by then, and a family of its own otherwise.
func (t *textParser) cut(keep func(name []byte) bool) ([]byte, error) {
	var kept []byte
	last, keeps := int32(-1), false
	for i := 0; i < len(t.src); {
		t.current = -1 // for lines that name no family
		next, err := t.textLine(i)
		if err != nil {
			return nil, err
		}
		if t.current >= 0 {
			if t.current != last {
				last, keeps = t.current, keep(t.currentName())
			}
			if keeps {
				kept = append(kept, t.src[i:next]...)
			}
		}
		i = next
	}
	return kept, nil
}

// cut copies all messages of a name: the last one of them counts, even if it is empty.
func (p *protobufParser) cut(body []byte, keep func(name []byte) bool) ([]byte, error) {
	var kept []byte
	for len(body) > 0 {
		msg, rest, err := nextMessage(body)
		if err != nil {
			return nil, err
		}
		head, err := p.familyHead(msg)
		if err != nil {
			return nil, err
		}
		if keep(head.Name) {
			kept = append(kept, body[:len(body)-len(rest)]...)
		}
		body = rest
	}
	return kept, nil
}
