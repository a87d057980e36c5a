package series

import (
	"encoding/binary"
	"math"
)

// A reader walks the metrics of a set.
type reader struct {
	k     *Set
	holes string // the names of the grouping labels, as they stand in the heading
	rest  string

	// The current metric.
	metric   int
	repeated bool // labels are those of the metric before
	labels   []labelSlot
	values   []string // of the labels, in their order; empty for holes
	bounds   []float64
}

// A labelSlot is one label of a metric: a pushed one, or the hole for a grouping label.
type labelSlot struct {
	name string
	hole int // index of the grouping label, or -1
}

// read returns a reader that stands before the first metric.
func (k *Set) read() *reader {
	r := &reader{}
	r.reset(k)
	return r
}

// reset puts a reader before the first metric of a set, and keeps its memory.
func (r *reader) reset(k *Set) {
	holes := k.holes()
	*r = reader{
		k: k, holes: holes, rest: k.rest, metric: -1,
		labels: k.appendFirst(r.labels[:0], holes), values: r.values[:0], bounds: r.bounds[:0],
	}
}

// next moves to the next metric and says whether there is one.
func (r *reader) next() bool {
	if r.metric+1 >= int(r.k.metrics) {
		return false
	}
	r.metric++
	bare := r.k.bare
	if r.metric > 0 {
		flags := r.rest[0]
		r.rest = r.rest[1:]
		r.repeated = flags&sameLayout != 0
		if !r.repeated {
			r.labels, r.rest = cutLayout(r.labels[:0], r.rest, r.holes)
		}
		bare = flags&sameBounds != 0
	}
	if !r.repeated {
		r.values = append(r.values[:0], make([]string, len(r.labels))...)
	}
	for i := range r.labels {
		if r.labels[i].hole < 0 {
			r.values[i], r.rest = cutText(r.rest)
		}
	}
	if !r.k.typ.Simple() && !bare {
		r.readBounds()
	}
	return true
}

func (r *reader) readBounds() {
	var n uint64
	n, r.rest = cutUvarint(r.rest)
	r.bounds = r.bounds[:0]
	for range n {
		bits := binary.LittleEndian.Uint64([]byte(r.rest[:8]))
		r.bounds = append(r.bounds, math.Float64frombits(bits))
		r.rest = r.rest[8:]
	}
}

// literal returns the value of the current metric's pushed label of that name, empty if it has none.
func (r *reader) literal(name string) string {
	for i, l := range r.labels {
		if l.hole < 0 && l.name == name {
			return r.values[i]
		}
	}
	return ""
}

func cutText[T string | []byte](s T) (text, rest T) {
	n, s := cutUvarint(s)
	return s[:n], s[n:]
}

func cutUvarint[T string | []byte](s T) (v uint64, rest T) {
	for shift := 0; ; shift += 7 {
		b := s[0]
		s = s[1:]
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v, s
		}
	}
}
