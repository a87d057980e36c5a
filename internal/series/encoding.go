package series

import (
	"bytes"
	"encoding/binary"
	"math"

	"pushrelay/internal/exposition"
	"pushrelay/internal/fields"
	"pushrelay/internal/metric"
)

// A slot is one label of a metric that is being encoded.
type slot struct {
	name, value []byte
	hole        int  // index of the grouping label whose value this is, or -1
	added       bool // to the group's labels by somebody else than the pusher
	replaced    bool // a pushed label of that name gave way to it
}

// An encoding is one that is being written: a header with the family, then the metrics, each of which may refer to the one
// before. The format is read by newHeading and reader, and by nobody else but inspect, which trusts nothing.
type encoding struct {
	out    []byte
	headed int // where the heading of the present family ends in out
	last   []slot
	bounds []exposition.Point
}

// family writes the header. The encoding begins at the present end of out.
func (e *encoding) family(t metric.Type, name, help, unit []byte, flags byte, holes []string, metrics int) {
	e.out = append(e.out, flags, byte(t))
	e.out = fields.AppendText(e.out, name)
	if flags&hasHelp != 0 {
		e.out = fields.AppendText(e.out, help)
	}
	if flags&hasUnit != 0 {
		e.out = fields.AppendText(e.out, unit)
	}
	e.out = binary.AppendUvarint(e.out, uint64(len(holes)))
	for _, name := range holes {
		e.out = fields.AppendText(e.out, name)
	}
	e.out = binary.AppendUvarint(e.out, uint64(metrics))
	e.headed = len(e.out)
	e.last, e.bounds = nil, nil
}

// metric writes the next metric. Both slices must stay as they are until the family's last metric is written.
func (e *encoding) metric(labels []slot, bounds []exposition.Point, bounded bool) {
	flags := byte(0)
	if equalLayout(e.last, labels) {
		flags |= sameLayout
	}
	if equalBounds(e.bounds, bounds) {
		flags |= sameBounds
	}
	e.out = append(e.out, flags)
	if flags&sameLayout == 0 {
		e.layout(labels)
	}
	if e.last == nil {
		e.headed = len(e.out)
	}
	for i := range labels {
		if labels[i].hole < 0 {
			e.out = fields.AppendText(e.out, labels[i].value)
		}
	}
	if bounded && flags&sameBounds == 0 {
		e.out = binary.AppendUvarint(e.out, uint64(len(bounds)))
		for i := range bounds {
			e.out = binary.LittleEndian.AppendUint64(e.out, math.Float64bits(bounds[i].Bound))
		}
	}
	e.last, e.bounds = labels, bounds
}

func (e *encoding) layout(labels []slot) {
	e.out = binary.AppendUvarint(e.out, uint64(len(labels)))
	for i := range labels {
		e.out = binary.AppendUvarint(e.out, uint64(labels[i].hole+1))
		if labels[i].hole < 0 {
			e.out = fields.AppendText(e.out, labels[i].name)
		}
	}
}

// equalLayout says whether two metrics have the same label names and holes. No metric is without labels, since every group
// has a job; so the first one of a family has a layout of its own.
func equalLayout(a, b []slot) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].hole != b[i].hole || !bytes.Equal(a[i].name, b[i].name) {
			return false
		}
	}
	return true
}

// equalBounds compares the bounds of two metrics bit by bit, so that what is read back is what was written.
func equalBounds(a, b []exposition.Point) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if math.Float64bits(a[i].Bound) != math.Float64bits(b[i].Bound) {
			return false
		}
	}
	return true
}
