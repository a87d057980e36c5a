package series

import (
	"strings"

	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
)

// A Renderer writes the metrics of sets, in one dialect at a time. Its memory is used again. The zero Renderer is ready for text. It is used by
// one goroutine.
type Renderer struct {
	dialect Dialect
	set     *Set // whose pieces are prepared; nil for none
	pieces  *rendition
	own     rendition // of a set that does not keep its pieces
	builder pieceBuilder

	// Memory for protobuf.
	metric  []byte
	points  []float64
	scratch []byte
}

// Use sets the dialect from now on.
func (r *Renderer) Use(d Dialect) { r.dialect, r.set = d, nil }

// piecesOf returns the pieces of a set.
func (r *Renderer) piecesOf(k *Set) *rendition {
	if k != r.set {
		r.set, r.pieces = k, r.prepare(k)
	}
	return r.pieces
}

// ChunkBytes is how much output is collected before it is written: enough that handing it over and waking up the reader cost little, little
// enough to stay in the processor's cache.
const ChunkBytes = 256 << 10

// AppendText appends the lines of a set with the labels of a group and its values. Whenever ChunkBytes are collected it has spill write them,
// and goes on with what that returns.
func AppendText[T string | []byte](r *Renderer, dst []byte, k *Set, labels *Labels, values T, spill func([]byte) []byte) []byte {
	pieces := r.piecesOf(k)
	literals, at := pieces.literals, uint32(0)
	for _, s := range pieces.segments {
		dst = append(dst, literals[at:at+s.length]...)
		at += s.length
		switch {
		case s.from == s.to:
			n := 0
			for values[n] != '\n' {
				n++
			}
			dst = append(dst, values[:n+1]...)
			values = values[n+1:]
			if len(dst) >= ChunkBytes {
				dst = spill(dst)
			}
		case s.to == valueOnly:
			dst = append(dst, labels.value(int(s.from))...)
		default:
			dst = append(dst, labels.run(s.from, s.to)...)
		}
	}
	return dst
}

// Tokens returns of the values of a set those that text has: without what stands before them.
func (k *Set) Tokens(values string) string {
	_, _, tokens := k.sections(values)
	return tokens
}

// Labels are the grouping labels of a group as text. They are immutable.
type Labels struct {
	text string   // `name="value"` joined by commas
	ends []uint32 // of each in text
}

// NewLabels returns labels as text.
func NewLabels(labels []grouping.Label) Labels {
	l := Labels{ends: make([]uint32, len(labels))}
	var text []byte
	for i, label := range labels {
		if i > 0 {
			text = append(text, ',')
		}
		text = append(exposition.AppendLabelName(text, label.Name), '=', '"')
		text = append(exposition.AppendEscapedLabelValue(text, label.Value), '"')
		l.ends[i] = uint32(len(text))
	}
	l.text = string(text)
	return l
}

// Size is the length of the text.
func (l *Labels) Size() int { return len(l.text) }

// Touch reads the bytes that AppendText begins to read.
func (l *Labels) Touch() byte {
	if len(l.ends) == 0 || l.text == "" {
		return 0
	}
	return l.text[0] + byte(l.ends[0])
}

// run returns the text of the labels from (inclusive) to (exclusive).
func (l *Labels) run(from, to uint32) string {
	start := uint32(0)
	if from > 0 {
		start = l.ends[from-1] + 1
	}
	return l.text[start:l.ends[to-1]]
}

// value returns the escaped value of the i-th label.
func (l *Labels) value(i int) string {
	label := l.run(uint32(i), uint32(i)+1)
	name := 0
	if label[0] == '"' { // a name in quotes may have anything in it
		for name = 1; label[name] != '"'; name++ {
			if label[name] == '\\' {
				name++
			}
		}
	}
	return label[name+strings.IndexByte(label[name:], '=')+len(`="`) : len(label)-1]
}
