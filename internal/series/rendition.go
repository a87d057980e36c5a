package series

import (
	"bytes"
	"slices"
	"strings"

	"github.com/prometheus/common/model"

	"pushrelay/internal/exposition"
	"pushrelay/internal/metric"
)

// A Dialect is what sets are rendered for. The one of text serves text 0.0.4 and OpenMetrics alike, since their sample lines
// are the same ones (S15).
type Dialect struct {
	Protobuf bool
	// Escaping is how names are written that are no legacy names.
	Escaping metric.Escaping
	// Apart says that the family's name, escaped, would be that of another family, and is escaped by values instead.
	Apart bool
}

// A rendition is a set prepared for one dialect: literal bytes, and marks of what goes between them. Rendering is copying
// in turn literal bytes, grouping labels and values.
type rendition struct {
	dialect  Dialect
	literals []byte
	segments []segment
	next     *rendition

	// In protobuf only:
	pairs  []pair      // what segments with valueOnly refer to
	bounds [][]float64 // of each metric; nil if the family has none
}

// clone returns a copy that shares no memory but that of bounds.
func (r *rendition) clone() *rendition {
	return &rendition{
		dialect: r.dialect, literals: bytes.Clone(r.literals), segments: slices.Clone(r.segments),
		pairs: slices.Clone(r.pairs), bounds: slices.Clone(r.bounds),
	}
}

// A pair is a grouping label whose name is escaped.
type pair struct {
	hole int
	name string
}

// A segment is a piece of literal text and what follows it: grouping labels from (inclusive) to (exclusive) with their
// names and commas; or only the value of label from (in protobuf: the whole of the pair from), if to is valueOnly; or a
// sample's value (in protobuf: a metric's values), if from and to are equal.
type segment struct{ length, from, to uint32 }

const valueOnly = ^uint32(0)

// prepare returns the pieces of a set for the renderer's dialect. They are valid until the next call.
//
// A set that several parts use keeps its pieces. One that a single part uses does not: they would take more memory than all else of it, and
// preparing it again costs a scrape little more than reading them from memory would.
func (r *Renderer) prepare(k *Set) *rendition {
	f := r.dialect
	if k.legacy {
		f = Dialect{Protobuf: f.Protobuf} // nothing to escape
	}
	head := k.renditions.Load()
	for p := head; p != nil; p = p.next {
		if p.dialect == f {
			return p
		}
	}
	r.builder.prepare(k, f)
	if k.refs.Load() <= 1 {
		r.own = r.builder.rendition
		return &r.own
	}
	p := r.builder.clone()
	for p.next = head; !k.renditions.CompareAndSwap(p.next, p); {
		p.next = k.renditions.Load() // another scrape was faster; at worst the same pieces are there twice
	}
	return p
}

// KeepsPieces says whether pieces of output of the set are kept.
func (k *Set) KeepsPieces() bool { return k.renditions.Load() != nil }

// FamilyName returns a family's name as the dialect exposes it.
func (f Dialect) FamilyName(name string) string {
	if f.Apart {
		return metric.EscapeName(name, metric.EscapeValues)
	}
	return metric.EscapeName(name, f.Escaping)
}

// A pieceBuilder makes the pieces of one rendition after the other, in the same memory.
type pieceBuilder struct {
	rendition

	k      *Set
	name   string   // the family's, escaped
	names  []string // the present metric's label names, escaped; empty for a label that cannot be told from another
	cut    int      // where the literal of the next segment begins
	reader reader
	bound  []float64 // the last bounds, which metrics with the same ones share
}

func (b *pieceBuilder) prepare(k *Set, f Dialect) {
	b.k, b.cut, b.name = k, 0, k.Name()
	b.dialect, b.literals, b.segments, b.pairs, b.bounds = f, b.literals[:0], b.segments[:0], b.pairs[:0], b.bounds[:0]
	if !k.legacy {
		b.name = f.FamilyName(k.Name())
	}
	r := &b.reader
	for r.reset(k); r.next(); {
		if !r.repeated {
			b.labelNames(r)
		}
		if f.Protobuf {
			b.metric(r)
		} else {
			b.lines(r)
		}
	}
}

func (b *pieceBuilder) endSegment(from, to uint32) {
	b.segments = append(b.segments, segment{uint32(len(b.literals) - b.cut), from, to})
	b.cut = len(b.literals)
}

// labelNames escapes the names of a metric's labels. Names that become equal would make a series that Prometheus refuses,
// and the whole scrape with it: the later one is escaped by values, which keeps names apart, or is left out.
func (b *pieceBuilder) labelNames(r *reader) {
	b.names = b.names[:0]
	if b.k.legacy {
		for i := range r.labels {
			b.names = append(b.names, r.labels[i].name)
		}
		return
	}
	taken := make(map[string]bool, len(r.labels))
	for _, l := range r.labels {
		if metric.IsLegacyLabelName(l.name) {
			taken[l.name] = true
		}
	}
	for _, l := range r.labels {
		name := l.name
		if !metric.IsLegacyLabelName(name) {
			name = metric.EscapeLabelName(l.name, b.dialect.Escaping)
			if taken[name] || b.special(name) {
				name = metric.EscapeLabelName(l.name, metric.EscapeValues)
			}
			if taken[name] {
				name = ""
			}
			taken[name] = true
		}
		b.names = append(b.names, name)
	}
}

// special says whether a name that came out of escaping has a meaning of its own.
func (b *pieceBuilder) special(name string) bool {
	return strings.HasPrefix(name, model.ReservedLabelPrefix) || name != "" && name == b.k.typ.BoundLabel()
}

// lines adds the sample lines of a metric.
func (b *pieceBuilder) lines(r *reader) {
	typ := b.k.typ
	if typ.Simple() {
		b.line(r, "", "", 0)
		return
	}
	suffix, label := typ.Suffix(metric.BoundLine), typ.BoundLabel()
	for _, bound := range r.bounds {
		b.line(r, suffix, label, bound)
	}
	b.line(r, typ.Suffix(metric.SumLine), "", 0)
	b.line(r, typ.Suffix(metric.CountLine), "", 0)
}

// line adds one sample line up to its value.
func (b *pieceBuilder) line(r *reader, suffix, boundLabel string, bound float64) {
	separator := byte('{')
	if b.k.legacy || metric.IsLegacyMetricName(b.name) {
		b.literals = append(append(b.literals, b.name...), suffix...)
	} else {
		b.literals = exposition.AppendMetricName(append(b.literals, '{'), b.name+suffix)
		separator = ','
	}
	for i := 0; i < len(r.labels); i++ {
		if b.names[i] == "" {
			continue
		}
		b.literals = append(b.literals, separator)
		separator = ','
		if n := b.run(r, i); n > 0 {
			b.endSegment(uint32(r.labels[i].hole), uint32(r.labels[i].hole+n))
			i += n - 1
			continue
		}
		b.label(r, i)
	}
	if boundLabel != "" {
		b.literals = append(append(append(b.literals, separator), boundLabel...), '=', '"')
		b.literals = append(exposition.AppendFloat(b.literals, bound), '"')
	}
	b.literals = append(b.literals, '}', ' ')
	b.endSegment(0, 0)
}

// label adds one label with its name.
func (b *pieceBuilder) label(r *reader, i int) {
	b.literals = exposition.AppendLabelName(b.literals, b.names[i])
	b.literals = append(b.literals, '=', '"')
	if hole := r.labels[i].hole; hole >= 0 {
		b.endSegment(uint32(hole), valueOnly)
	} else {
		b.literals = exposition.AppendEscapedLabelValue(b.literals, r.values[i])
	}
	b.literals = append(b.literals, '"')
}

// run returns how many labels from the i-th on are grouping labels that stand next to each other in the group, too, so that
// they can be copied in one piece; 0 where names have to be escaped.
func (b *pieceBuilder) run(r *reader, i int) int {
	if !b.k.legacy || r.labels[i].hole < 0 {
		return 0
	}
	n := 1
	for i+n < len(r.labels) && r.labels[i+n].hole == r.labels[i].hole+n {
		n++
	}
	return n
}
