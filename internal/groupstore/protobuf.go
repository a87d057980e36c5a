package groupstore

import (
	"encoding/binary"
	"math"
	"slices"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"pushrelay/internal/metric"
)

// The fields of io.prometheus.client that are written here, by message.
const (
	familyName, familyHelp, familyType, familyMetric, familyUnit = 1, 2, 3, 4, 5

	metricLabel = 1

	pairName, pairValue = 1, 2

	sampleValue = 1

	sampleCount, sampleSum, sampleBucket, sampleCountFloat = 1, 2, 3, 4

	bucketCount, bucketBound, bucketCountFloat = 1, 2, 4
)

// heldBytes is up to which size a family is held in memory until its length is known. A larger one is made twice: once to
// learn its length, which stands before it, and once to be written.
const heldBytes = 4 << 20

// writeProtobuf writes the families as delimited protobuf, one message per family.
func (v *View) writeProtobuf(o *output, families []exposed) {
	e := encoding{v: v, limit: heldBytes, pairs: encodePairs(v.states)}
	for i := range families {
		e.reset(nil)
		e.family(&families[i])
		o.buf = protowire.AppendVarint(o.buf, uint64(e.length))
		if e.length == len(e.buf) {
			o.buf = append(o.buf, e.buf...)
		} else {
			e.reset(o)
			e.family(&families[i])
			e.drain()
		}
		o.spill()
		if o.failed.Load() {
			return
		}
	}
}

// An encoding makes one family message. Without an output it counts the length, and holds the message if it is small.
type encoding struct {
	v      *View
	limit  int
	o      *output
	length int    // of all that was made, unless it goes to an output
	buf    []byte // the message up to limit; with an output what was not handed over yet
	metric []byte
	pairs  pairs
	labels []byte // the group's label pairs, one after the other
	ends   []int
	points []float64

	preparer preparer
}

func (e *encoding) reset(o *output) { e.o, e.length, e.buf = o, 0, e.buf[:0] }

// drain accounts for what is in buf: hands it over, or counts it and drops it once the message is too large to be held.
func (e *encoding) drain() {
	if e.o != nil {
		e.o.buf = append(e.o.buf, e.buf...)
		e.o.spill()
		e.buf = e.buf[:0]
		return
	}
	if e.length == 0 && len(e.buf) <= e.limit {
		return
	}
	e.length += len(e.buf)
	e.buf = e.buf[:0]
}

func (e *encoding) family(f *exposed) {
	e.buf = appendBytes(e.buf, familyName, f.name)
	if f.hasHelp {
		e.buf = appendBytes(e.buf, familyHelp, f.help)
	}
	e.buf = appendVarint(e.buf, familyType, uint64(f.typ.Proto()))
	if f.own != nil {
		e.ownMetrics(f.own)
	}
	e.times(f)
	e.run(f)
	if f.unit != "" {
		e.buf = appendBytes(e.buf, familyUnit, f.unit)
	}
	if e.o == nil && e.length == 0 {
		e.length = len(e.buf)
		return
	}
	e.drain()
}

func (e *encoding) ownMetrics(mf *dto.MetricFamily) {
	for _, m := range mf.Metric {
		encoded, err := proto.Marshal(m)
		if err != nil {
			continue // a metric of ours that cannot be written must not cost anybody the scrape (S14)
		}
		e.buf = appendBytes(e.buf, familyMetric, encoded)
		e.drain()
	}
}

func (e *encoding) times(f *exposed) {
	if f.time == nil {
		return
	}
	for i, st := range e.v.shown(false) {
		k, at := f.time(st)
		pieces := e.preparer.rendition(k, f.dialect)
		e.setGroup(i)
		e.metric = e.appendLabels(e.metric[:0], pieces, st.group)
		e.metric = appendSimple(e.metric, metric.Gauge, float64(at)/1e9, 0)
		e.buf = appendBytes(e.buf, familyMetric, e.metric)
		e.drain()
	}
}

func (e *encoding) run(f *exposed) {
	if f.run == nil {
		return
	}
	for p := range e.v.partsOf(f.run, false) {
		e.part(p, f.dialect)
		if e.o != nil && e.o.failed.Load() {
			return
		}
	}
}

// part writes all metrics of one part.
func (e *encoding) part(p visit, f dialect) {
	pieces := e.preparer.rendition(p.skeleton, f)
	e.setGroup(p.state)
	segments, literals := pieces.segments, pieces.literals
	values := valueReader{typ: p.skeleton.typ, points: e.points}
	values.created, values.extras, values.tokens = p.sections()
	for i := range p.skeleton.metrics {
		e.metric = e.metric[:0]
		for {
			s := segments[0]
			segments = segments[1:]
			e.metric = append(e.metric, literals[:s.length]...)
			literals = literals[s.length:]
			if s.from == s.to {
				break
			}
			e.metric = e.appendRun(e.metric, pieces, s, p.group)
		}
		var bounds []float64
		if len(pieces.bounds) > 0 {
			bounds = pieces.bounds[i]
		}
		values.next(bounds)
		e.metric = values.appendTo(e.metric, bounds)
		e.buf = appendBytes(e.buf, familyMetric, e.metric)
		if len(e.buf) >= chunkBytes {
			e.drain()
		}
	}
	e.points = values.points
}

// appendLabels appends the labels of a skeleton with a single metric.
func (e *encoding) appendLabels(dst []byte, pieces *rendition, g *group) []byte {
	literals := pieces.literals
	for _, s := range pieces.segments {
		dst = append(dst, literals[:s.length]...)
		literals = literals[s.length:]
		if s.from != s.to {
			dst = e.appendRun(dst, pieces, s, g)
		}
	}
	return dst
}

func (e *encoding) appendRun(dst []byte, pieces *rendition, s segment, g *group) []byte {
	if s.to == valueOnly {
		p := pieces.pairs[s.from]
		return appendPair(dst, p.name, g.label(g.layout.names[p.hole]))
	}
	start := 0
	if s.from > 0 {
		start = e.ends[s.from-1]
	}
	return append(dst, e.labels[start:e.ends[s.to-1]]...)
}

// Pairs are the grouping labels of all states of a view, encoded: each group is asked for them once per family. Beside the list of
// parts they are what a scrape holds in proportion to the groups.
type pairs struct {
	encoded []byte
	ends    []int // of each state
}

func encodePairs(states []*state) pairs {
	p := pairs{ends: make([]int, len(states))}
	for i, st := range states {
		for rest := st.group.key.Canonical(); rest != ""; {
			var name, value string
			name, value, rest = nextLabel(rest)
			p.encoded = appendPair(p.encoded, name, value)
		}
		p.ends[i] = len(p.encoded)
	}
	return p
}

// setGroup looks up the labels of a group by the index of its state.
func (e *encoding) setGroup(state int) {
	start := 0
	if state > 0 {
		start = e.pairs.ends[state-1]
	}
	e.labels, e.ends = e.pairs.encoded[start:e.pairs.ends[state]], e.ends[:0]
	for end := 0; end < len(e.labels); {
		_, _, size := protowire.ConsumeField(e.labels[end:])
		end += size
		e.ends = append(e.ends, end)
	}
}

// metric adds the labels of one metric to a protobuf rendition.
func (b *pieceBuilder) metric(r *reader) {
	for i := 0; i < len(r.labels); i++ {
		switch l := r.labels[i]; {
		case b.names[i] == "":
		case l.hole < 0:
			b.literals = appendPair(b.literals, b.names[i], r.values[i])
		case !b.k.legacy:
			b.mark(uint32(len(b.pairs)), valueOnly)
			b.pairs = append(b.pairs, pair{l.hole, b.names[i]})
		default:
			n := b.run(r, i)
			b.mark(uint32(l.hole), uint32(l.hole+n))
			i += n - 1
		}
	}
	b.mark(0, 0)
	if b.k.typ.Simple() {
		return
	}
	if !slices.Equal(b.bound, r.bounds) {
		b.bound = slices.Clone(r.bounds)
	}
	b.bounds = append(b.bounds, b.bound)
}

// appendTo appends what a metric message has beside its labels.
func (v *valueReader) appendTo(dst []byte, bounds []float64) []byte {
	if v.extra != "" {
		return append(dst, v.extra...)
	}
	switch {
	case v.typ.Simple():
		return appendSimple(dst, v.typ, v.points[0], v.createdAt)
	case v.typ.Bucketed():
		return v.appendHistogram(dst, bounds)
	default:
		return v.appendSummary(dst, bounds)
	}
}

func appendSimple(dst []byte, t metric.Type, value float64, created int64) []byte {
	var message [48]byte
	sub := appendDouble(message[:0], sampleValue, value)
	sub = appendCreated(sub, t, created)
	return appendValue(dst, t, sub)
}

func (v *valueReader) appendSummary(dst []byte, bounds []float64) []byte {
	n := len(bounds)
	sub := appendCount(v.scratch[:0], sampleCount, 0, v.points[n+1])
	sub = appendDouble(sub, sampleSum, v.points[n])
	for i, rank := range bounds {
		var message [32]byte
		q := appendDouble(message[:0], 1, rank)
		q = appendDouble(q, 2, v.points[i])
		sub = appendBytes(sub, sampleBucket, q)
	}
	v.scratch = appendCreated(sub, v.typ, v.createdAt)
	return appendValue(dst, v.typ, v.scratch)
}

func (v *valueReader) appendHistogram(dst []byte, bounds []float64) []byte {
	n := len(bounds)
	sub := appendCount(v.scratch[:0], sampleCount, sampleCountFloat, v.points[n+1])
	sub = appendDouble(sub, sampleSum, v.points[n])
	for i, bound := range bounds {
		var message [32]byte
		b := appendCount(message[:0], bucketCount, bucketCountFloat, v.points[i])
		b = appendDouble(b, bucketBound, bound)
		sub = appendBytes(sub, sampleBucket, b)
	}
	v.scratch = appendCreated(sub, v.typ, v.createdAt)
	return appendValue(dst, v.typ, v.scratch)
}

// appendCount appends a count: as the whole number it nearly always is, or in the field for other numbers if there is one.
func appendCount(dst []byte, field, floatField protowire.Number, n float64) []byte {
	if n >= 0 && n < 1<<64 && (n == math.Trunc(n) || floatField == 0) {
		return appendVarint(dst, field, uint64(n))
	}
	if floatField == 0 {
		return dst
	}
	return appendDouble(dst, floatField, n)
}

// appendValue appends the value of a metric, which is a message in the field that the type has for it.
func appendValue(dst []byte, t metric.Type, value []byte) []byte {
	return appendBytes(dst, protowire.Number(t.ValueField()), value)
}

// appendCreated appends a created timestamp given in nanoseconds since the epoch, unless it is 0 or the type has none.
func appendCreated(dst []byte, t metric.Type, created int64) []byte {
	if created == 0 || t.CreatedField() == 0 {
		return dst
	}
	seconds, nanos := created/1e9, created%1e9
	if nanos < 0 {
		seconds, nanos = seconds-1, nanos+1e9
	}
	var message [24]byte
	sub := appendVarint(message[:0], 1, uint64(seconds))
	if nanos != 0 {
		sub = appendVarint(sub, 2, uint64(nanos))
	}
	return appendBytes(dst, protowire.Number(t.CreatedField()), sub)
}

func appendPair(dst []byte, name, value string) []byte {
	size := 2 + protowire.SizeVarint(uint64(len(name))) + len(name) + protowire.SizeVarint(uint64(len(value))) + len(value)
	dst = protowire.AppendVarint(protowire.AppendTag(dst, metricLabel, protowire.BytesType), uint64(size))
	return appendBytes(appendBytes(dst, pairName, name), pairValue, value)
}

func appendBytes[T string | []byte](dst []byte, field protowire.Number, value T) []byte {
	dst = protowire.AppendVarint(protowire.AppendTag(dst, field, protowire.BytesType), uint64(len(value)))
	return append(dst, value...)
}

func appendVarint(dst []byte, field protowire.Number, value uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(dst, field, protowire.VarintType), value)
}

func appendDouble(dst []byte, field protowire.Number, value float64) []byte {
	dst = protowire.AppendTag(dst, field, protowire.Fixed64Type)
	return binary.LittleEndian.AppendUint64(dst, math.Float64bits(value))
}
