package groupstore

import (
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"pushrelay/internal/series"
)

// The fields of io.prometheus.client.MetricFamily.
const (
	familyName, familyHelp, familyType, familyMetric, familyUnit = 1, 2, 3, 4, 5
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
	pairs  pairs
	labels series.Pairs // of the present group

	renderer series.Renderer
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

// spillFull drains what an append function has filled.
func (e *encoding) spillFull(buf []byte) []byte {
	e.buf = buf
	e.drain()
	return e.buf
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
	e.ofStore(f)
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

func (e *encoding) ofStore(f *exposed) {
	if f.ofStore == nil {
		return
	}
	e.renderer.Use(f.dialect)
	for i, st := range e.v.shown(false) {
		k, value, ok := f.ofStore.of(st, e.v.fate(i), e.v.moment.now)
		if !ok {
			continue
		}
		e.setGroup(i)
		e.buf = e.renderer.AppendGauge(e.buf, k, &e.labels, value)
		e.drain()
	}
}

func (e *encoding) run(f *exposed) {
	if f.run == nil {
		return
	}
	e.renderer.Use(f.dialect)
	for p := range e.v.partsOf(f.run, false) {
		e.setGroup(p.state)
		e.buf = e.renderer.AppendMetrics(e.buf, p.set, &e.labels, p.values, e.spillFull)
		if e.o != nil && e.o.failed.Load() {
			return
		}
	}
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
			p.encoded = series.AppendPair(p.encoded, name, value)
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
	e.labels.Set(e.pairs.encoded[start:e.pairs.ends[state]])
}

func appendBytes[T string | []byte](dst []byte, field protowire.Number, value T) []byte {
	dst = protowire.AppendVarint(protowire.AppendTag(dst, field, protowire.BytesType), uint64(len(value)))
	return append(dst, value...)
}

func appendVarint(dst []byte, field protowire.Number, value uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(dst, field, protowire.VarintType), value)
}
