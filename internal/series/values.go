package series

import (
	"encoding/binary"
	"strconv"
	"strings"

	"pushrelay/internal/exposition"
	"pushrelay/internal/metric"
)

// sections cuts values of the set into created timestamps, extras and values proper. The first two are empty unless the set says otherwise.
func (k *Set) sections(values string) (created, extras, tokens string) {
	rest := values
	if k.flags&hasCreated != 0 {
		n := 8 * k.metrics
		created, rest = rest[:n], rest[n:]
	}
	if k.flags&hasExtra == 0 {
		return created, "", rest
	}
	tokens = rest
	for range k.metrics {
		_, tokens = cutExtra(tokens)
	}
	return created, rest[:len(rest)-len(tokens)], tokens
}

// cutExtra takes the extra of one metric off: its wire bytes, empty for none.
func cutExtra(s string) (wire, rest string) {
	form, s := s[0], s[1:]
	if form == 0 {
		return "", s
	}
	return cutText(s)
}

// A valueReader walks the values of the metrics of a set. It must be told of each metric what bounds it has.
type valueReader struct {
	typ     metric.Type
	created string
	extras  string
	tokens  string
	scratch []byte

	// The current metric.
	points    []float64 // in the order of the lines
	createdAt int64     // nanoseconds since the epoch, 0 for none
	extra     string    // its wire bytes, empty for none
}

func (v *valueReader) next(bounds []float64) {
	if v.created != "" {
		v.createdAt = int64(binary.LittleEndian.Uint64([]byte(v.created[:8])))
		v.created = v.created[8:]
	}
	if v.extras != "" {
		v.extra, v.extras = cutExtra(v.extras)
	}
	v.points = v.points[:0]
	for range v.typ.Lines(len(bounds)) {
		end := strings.IndexByte(v.tokens, '\n')
		v.points = append(v.points, parseToken(v.tokens[:end]))
		v.tokens = v.tokens[end+1:]
	}
}

// parseToken reads a value back from its text. Tokens are made by the scanner, so that this never fails.
func parseToken(token string) float64 {
	const fewDigits = 9
	if len(token) <= fewDigits {
		whole := 0
		for i := range len(token) {
			if token[i] < '0' || token[i] > '9' {
				whole = -1
				break
			}
			whole = 10*whole + int(token[i]-'0')
		}
		if whole >= 0 {
			return float64(whole)
		}
	}
	f, _ := strconv.ParseFloat(token, 64)
	return f
}

// A metricReader walks the metrics of a set with their values.
type metricReader struct {
	labels *reader
	values valueReader
}

// readWith returns a reader that stands before the first metric.
func (k *Set) readWith(values string) metricReader {
	m := metricReader{labels: k.read(), values: valueReader{typ: k.typ}}
	m.values.created, m.values.extras, m.values.tokens = k.sections(values)
	return m
}

func (m *metricReader) next() bool {
	if !m.labels.next() {
		return false
	}
	m.values.next(m.labels.bounds)
	return true
}

// HasExtra says whether values of the set have what only protobuf can say.
func (k *Set) HasExtra() bool { return k.flags&hasExtra != 0 }

// AppendBegan appends what stands before the tokens of a set without extras all of whose metrics began at that time, in nanoseconds since the epoch;
// nothing for a set without such times.
func (k *Set) AppendBegan(dst []byte, at int64) []byte {
	if k.flags&hasCreated != 0 {
		for range k.metrics {
			dst = binary.LittleEndian.AppendUint64(dst, uint64(at))
		}
	}
	return dst
}

// AppendAdded appends values of a set without extras that are the sum of two, line by line; of gauges and what is untyped it is what gauge says. Each
// metric began when the older of the two did. A summary must have no quantiles.
func (k *Set) AppendAdded(dst []byte, base, more string, gauge func(base, more float64) float64) []byte {
	began, _, tokens := k.sections(base)
	moreBegan, _, moreTokens := k.sections(more)
	for ; began != ""; began, moreBegan = began[8:], moreBegan[8:] {
		a, b := binary.LittleEndian.Uint64([]byte(began[:8])), binary.LittleEndian.Uint64([]byte(moreBegan[:8]))
		if a == 0 || b != 0 && b < a {
			a = b
		}
		dst = binary.LittleEndian.AppendUint64(dst, a)
	}
	isGauge := k.typ == metric.Gauge || k.typ == metric.Untyped
	for tokens != "" {
		end, moreEnd := strings.IndexByte(tokens, '\n'), strings.IndexByte(moreTokens, '\n')
		value, added := parseToken(tokens[:end]), parseToken(moreTokens[:moreEnd])
		if isGauge {
			value = gauge(value, added)
		} else {
			value += added
		}
		dst = append(exposition.AppendFloat(dst, value), '\n')
		tokens, moreTokens = tokens[end+1:], moreTokens[moreEnd+1:]
	}
	return dst
}
