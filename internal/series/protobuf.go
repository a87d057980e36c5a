package series

import (
	"encoding/binary"
	"iter"
	"math"
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"pushrelay/internal/grouping"
	"pushrelay/internal/metric"
)

// The fields of io.prometheus.client that are written here, by message.
const (
	familyMetric = 4

	metricLabel = 1

	pairName, pairValue = 1, 2

	sampleValue = 1

	sampleCount, sampleSum, sampleBucket, sampleCountFloat = 1, 2, 3, 4

	bucketCount, bucketBound, bucketCountFloat = 1, 2, 4
)

// Pairs are the grouping labels of a group in protobuf, for one group after the other.
type Pairs struct {
	encoded []byte
	ends    []int // of each in encoded
}

// AppendPair appends a label as a field of a metric message.
func AppendPair(dst []byte, name, value string) []byte {
	size := 2 + protowire.SizeVarint(uint64(len(name))) + len(name) + protowire.SizeVarint(uint64(len(value))) + len(value)
	dst = protowire.AppendVarint(protowire.AppendTag(dst, metricLabel, protowire.BytesType), uint64(size))
	return appendBytes(appendBytes(dst, pairName, name), pairValue, value)
}

// Set sets the pairs to those that AppendPair appended, in the order of the key. They are not copied.
func (p *Pairs) Set(encoded []byte) {
	p.encoded, p.ends = encoded, p.ends[:0]
	for end := 0; end < len(encoded); {
		_, _, size := protowire.ConsumeField(encoded[end:])
		end += size
		p.ends = append(p.ends, end)
	}
}

// run returns the pairs from (inclusive) to (exclusive).
func (p *Pairs) run(from, to uint32) []byte {
	start := 0
	if from > 0 {
		start = p.ends[from-1]
	}
	return p.encoded[start:p.ends[to-1]]
}

// value returns the value of the i-th pair.
func (p *Pairs) value(i int) string {
	pair, _ := protowire.ConsumeBytes(p.run(uint32(i), uint32(i)+1)[1:])
	_, name := protowire.ConsumeBytes(pair[1:])
	value, _ := protowire.ConsumeBytes(pair[1+name+1:])
	return string(value)
}

// AppendMetrics appends the metrics of a set, as fields of a family message, with the labels of a group and its values. Whenever ChunkBytes are
// collected it has spill write them, and goes on with what that returns.
func (r *Renderer) AppendMetrics(dst []byte, k *Set, labels *Pairs, values string, spill func([]byte) []byte) []byte {
	pieces := r.piecesOf(k)
	segments, literals := pieces.segments, pieces.literals
	// What changes with each metric is on the stack: the renderer is not, and each change of a pointer in it would cost more.
	message, v := r.metric, valueReader{typ: k.typ, points: r.points, scratch: r.scratch}
	v.created, v.extras, v.tokens = k.sections(values)
	for i := range k.metrics {
		message = message[:0]
		for {
			s := segments[0]
			segments = segments[1:]
			message = append(message, literals[:s.length]...)
			literals = literals[s.length:]
			if s.from == s.to {
				break
			}
			message = pieces.appendPairs(message, s, labels)
		}
		var bounds []float64
		if len(pieces.bounds) > 0 {
			bounds = pieces.bounds[i]
		}
		v.next(bounds)
		message = v.appendTo(message, bounds)
		dst = appendBytes(dst, familyMetric, message)
		if len(dst) >= ChunkBytes {
			dst = spill(dst)
		}
	}
	r.metric, r.points, r.scratch = message, v.points, v.scratch
	return dst
}

// AppendGauge appends the metric of a set that [Gauge] returned.
func (r *Renderer) AppendGauge(dst []byte, k *Set, labels *Pairs, value float64) []byte {
	pieces := r.piecesOf(k)
	message, literals := r.metric[:0], pieces.literals
	for _, s := range pieces.segments {
		message = append(message, literals[:s.length]...)
		literals = literals[s.length:]
		if s.from != s.to {
			message = pieces.appendPairs(message, s, labels)
		}
	}
	r.metric = appendSimple(message, metric.Gauge, value, 0)
	return appendBytes(dst, familyMetric, r.metric)
}

// appendPairs appends the grouping labels of a segment that has some.
func (r *rendition) appendPairs(dst []byte, s segment, labels *Pairs) []byte {
	if s.to == valueOnly {
		pair := r.pairs[s.from]
		return AppendPair(dst, pair.name, labels.value(pair.hole))
	}
	return append(dst, labels.run(s.from, s.to)...)
}

// Messages yields the metrics of a set with the labels of the group of that key and its values, as messages. Each is made when it is asked for
// and is the caller's own. nil for the dialect leaves the names as they are.
func (k *Set) Messages(key grouping.Key, values string, d *Dialect) iter.Seq[*dto.Metric] {
	return func(yield func(*dto.Metric) bool) {
		b := pieceBuilder{k: k}
		for m := k.readWith(values); m.next(); {
			var names []string
			if d != nil {
				if b.dialect = *d; !m.labels.repeated {
					b.labelNames(m.labels)
				}
				names = b.names
			}
			if !yield(m.message(key, names)) {
				return
			}
		}
	}
}

// message returns the current metric. Labels get the given names, and those whose name is empty are left out; nil stands for their own names.
func (m *metricReader) message(key grouping.Key, names []string) *dto.Metric {
	metric := &dto.Metric{}
	if err := proto.Unmarshal(m.values.appendTo(nil, m.labels.bounds), metric); err != nil {
		metric = &dto.Metric{} // extras are scanned before they are stored, so that this does not happen
	}
	metric.Label = make([]*dto.LabelPair, 0, len(m.labels.labels))
	for i, l := range m.labels.labels {
		name, value := l.name, m.labels.values[i]
		if names != nil {
			name = names[i]
		}
		if l.hole >= 0 {
			value, _ = key.Get(l.name)
		}
		if name != "" {
			metric.Label = append(metric.Label, &dto.LabelPair{Name: proto.String(strings.Clone(name)), Value: proto.String(strings.Clone(value))})
		}
	}
	return metric
}

// metric adds the labels of one metric to a protobuf rendition.
func (b *pieceBuilder) metric(r *reader) {
	for i := 0; i < len(r.labels); i++ {
		switch l := r.labels[i]; {
		case b.names[i] == "":
		case l.hole < 0:
			b.literals = AppendPair(b.literals, b.names[i], r.values[i])
		case !b.k.legacy:
			b.endSegment(uint32(len(b.pairs)), valueOnly)
			b.pairs = append(b.pairs, pair{l.hole, b.names[i]})
		default:
			n := b.run(r, i)
			b.endSegment(uint32(l.hole), uint32(l.hole+n))
			i += n - 1
		}
	}
	b.endSegment(0, 0)
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
