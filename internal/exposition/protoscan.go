package exposition

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"unicode/utf8"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/encoding/protowire"

	"pushrelay/internal/metric"
)

// errWire says that bytes are not a protobuf message. The words are those of the protobuf library.
var errWire = &ParseError{Msg: "proto: cannot parse invalid wire-format data"}

// errOverflow says that a length is no number.
var errOverflow = &ParseError{Msg: "proto: variable length integer overflow"}

// protobufParser reads the messages of a body in delimited protobuf and hands on to a builder what they say. It is made anew
// for each body.
type protobufParser struct {
	out     *builder // the Parser's, as the scratch memory is
	scratch scratch

	// family is the family whose metrics are being read, by its index, and fam the same in the builder; fam is valid until the
	// next family.
	family int32
	fam    *parsedFamily
	// value is what has been read of the current metric.
	value protoValue
}

// parse reads the whole body.
func (p *protobufParser) parse(body []byte) error {
	for len(body) > 0 {
		msg, rest, err := nextMessage(body)
		if err != nil {
			return err
		}
		if err := p.familyMessage(msg); err != nil {
			return err
		}
		body = rest
	}
	return nil
}

// malformed says what is wrong with a message.
func malformed(msg string) error { return &ParseError{Msg: msg} }

// nextMessage takes the first message, with its length in front of it, off a body that is not empty.
func nextMessage(body []byte) (msg, rest []byte, err error) {
	size, n := consumeVarint(body)
	if n < 0 {
		if errors.Is(protowire.ParseError(n), io.ErrUnexpectedEOF) {
			return nil, nil, malformed(io.ErrUnexpectedEOF.Error())
		}
		return nil, nil, errOverflow
	}
	body = body[n:]
	if size > uint64(len(body)) {
		// Found before anything is allocated for it: a body of five bytes may claim to hold 4 GiB.
		return nil, nil, malformed(io.ErrUnexpectedEOF.Error())
	}
	return body[:size], body[size:], nil
}

// familyMessage reads a MetricFamily. Its fields may come in any order, so that what is said of the family is read before its
// metrics are.
func (p *protobufParser) familyMessage(msg []byte) error {
	if err := p.beginFamily(msg); err != nil {
		return err
	}
	for len(msg) > 0 {
		field, rest, ok := nextField(msg)
		if !ok {
			return errWire
		}
		msg = rest
		if !field.is(4, protowire.BytesType) {
			continue
		}
		if err := p.metric(field.bytes); err != nil {
			return err
		}
		if len(p.out.body.Points) > p.out.maxSeries {
			return p.out.seriesError()
		}
	}
	return nil
}

// beginFamily makes the family of a MetricFamily the current one. It takes the place of an earlier one with its name.
func (p *protobufParser) beginFamily(msg []byte) error {
	head, err := p.familyHead(msg)
	if err != nil {
		return err
	}
	f, ok := p.out.findFamily(head.Name)
	if ok {
		p.out.replaceFamily(f, head)
	} else {
		if f, err = p.out.addFamily(head.Name); err != nil {
			return err
		}
		p.out.families[f].Family = head
	}
	p.family, p.fam = f, &p.out.families[f]
	return nil
}

// familyHead reads what a MetricFamily says of the family itself.
func (p *protobufParser) familyHead(msg []byte) (Family, error) {
	// A family that does not say its type is a counter: that is the default of the enumeration.
	fam := Family{Type: metric.Counter}
	for len(msg) > 0 {
		field, rest, ok := nextField(msg)
		if !ok {
			return fam, errWire
		}
		msg = rest
		switch {
		case field.is(1, protowire.BytesType):
			fam.Name = field.bytes
		case field.is(2, protowire.BytesType):
			fam.Help, fam.HasHelp = field.bytes, true
		case field.is(3, protowire.VarintType):
			number := int32(field.bits)
			t, ok := metric.OfProto(dto.MetricType(number))
			if !ok {
				return fam, malformed(fmt.Sprintf("unknown metric type %d", number))
			}
			fam.Type = t
		case field.is(5, protowire.BytesType):
			fam.Unit = field.bytes
		}
	}
	if !metric.ValidMetricName(p.out.names, fam.Name) {
		return fam, malformed(fmt.Sprintf("invalid metric name %q", fam.Name))
	}
	if len(fam.Name) > p.out.maxLabelLength {
		return fam, p.out.lengthError(fam.Name)
	}
	if !utf8.Valid(fam.Help) {
		fam.Help = repairHelp(fam.Help)
	}
	if !utf8.Valid(fam.Unit) {
		return fam, malformed(fmt.Sprintf("invalid unit %q for metric %q", fam.Unit, fam.Name))
	}
	return fam, nil
}

// protoValue is what is read of one Metric before it is put together.
type protoValue struct {
	present      bool // the value of the family's type is there
	hasTimestamp bool
	// beyond says that the metric has something that a Body cannot hold, or that has to be looked at more closely.
	beyond bool

	value                  float64 // of a gauge, counter or untyped
	sum                    float64
	count                  uint64
	countFloat             float64 // stands for count unless it is 0
	seconds, nanos         int64   // of the created timestamp
	firstPoint, firstLabel int32   // where points and labels begin in the body
}

// metric reads a Metric of the current family and adds it to the body.
func (p *protobufParser) metric(msg []byte) error {
	p.value = protoValue{firstPoint: int32(len(p.out.body.Points)), firstLabel: int32(len(p.out.body.Labels))}
	for rest := msg; len(rest) > 0; {
		var field wireField
		var ok bool
		if field, rest, ok = nextField(rest); !ok {
			return errWire
		}
		var err error
		switch {
		case field.is(1, protowire.BytesType):
			err = p.label(field.bytes)
		case field.is(p.fam.Type.ValueField(), protowire.BytesType):
			p.value.present = true
			err = p.valueOf(field.bytes)
		case field.is(6, protowire.VarintType):
			p.value.hasTimestamp = true
		case field.kind == protowire.BytesType && metric.IsValueField(field.number):
			p.value.beyond = true // A value of another type does not count, but it must be well formed.
		}
		if err != nil {
			return err
		}
	}
	return p.addMetric(msg)
}

// addMetric checks a metric as a whole and adds it.
func (p *protobufParser) addMetric(msg []byte) error {
	r := Range{Start: p.value.firstLabel, End: int32(len(p.out.body.Labels))}
	if err := p.out.checkLabels(p.fam.Name, r); err != nil {
		return err
	}
	p.orderLabels(r)
	created, err := p.value.created(p.fam.Name)
	if err != nil {
		return err
	}
	m := p.out.addMetric(p.family, Metric{Labels: r, HasTimestamp: p.value.hasTimestamp, Created: created})
	if err := p.addPoints(m); err != nil {
		return err
	}
	if p.value.beyond {
		extra, err := p.extraOf(p.out.body.Labels[r.Start:r.End], msg)
		if err != nil {
			return err
		}
		p.out.body.Metrics[m].Extra = extra
	}
	if !p.value.present {
		p.out.contradiction(p.fam.Name, p.out.body.Labels[r.Start:r.End], "is not a "+p.fam.Type.Protobuf())
	}
	return nil
}

// addPoints adds the points of a metric whose buckets or quantiles are there already.
func (p *protobufParser) addPoints(m int32) error {
	start := int(p.value.firstPoint)
	if p.fam.Type.Simple() {
		p.out.body.Points = append(p.out.body.Points, p.point(p.value.value))
		p.out.body.Metrics[m].Points = Range{Start: p.value.firstPoint, End: p.value.firstPoint + 1}
		return nil
	}
	count := p.value.countFloat
	if count == 0 {
		count = float64(p.value.count)
	}
	if count < 0 {
		return malformed(fmt.Sprintf("negative count for histogram %q", p.fam.Name))
	}
	if !boundsRise(p.out.body.Points[start:]) {
		p.out.sortBounds(m, start)
	}
	p.out.endPoints(m, start, p.point(p.value.sum), p.point(count))
	return nil
}

// point makes a point of a number.
func (p *protobufParser) point(f float64) Point {
	f = canonical(f)
	return Point{Value: f, Token: p.scratch.token(f)}
}

// label reads a LabelPair and adds it to the body.
func (p *protobufParser) label(msg []byte) error {
	var l Label
	for len(msg) > 0 {
		field, rest, ok := nextField(msg)
		if !ok {
			return errWire
		}
		msg = rest
		switch {
		case field.is(1, protowire.BytesType):
			l.Name = field.bytes
		case field.is(2, protowire.BytesType):
			l.Value = field.bytes
		}
	}
	if !metric.ValidLabelName(p.out.names, l.Name) {
		return malformed(fmt.Sprintf("invalid label name %q", l.Name))
	}
	if !utf8.Valid(l.Value) {
		return malformed(fmt.Sprintf("invalid label value %q", l.Value))
	}
	if max(len(l.Name), len(l.Value)) > p.out.maxLabelLength {
		return p.out.lengthError(p.fam.Name)
	}
	if len(p.out.body.Labels)-int(p.value.firstLabel) >= p.out.maxLabels {
		return p.out.labelsError(p.fam.Name)
	}
	p.out.body.Labels = append(p.out.body.Labels, l)
	return nil
}

// orderLabels sorts the labels of a metric by name and looks for those that cannot be among them.
func (p *protobufParser) orderLabels(r Range) {
	labels := p.out.body.Labels[r.Start:r.End]
	byName := func(a, b Label) int { return bytes.Compare(a.Name, b.Name) }
	if !slices.IsSortedFunc(labels, byName) {
		slices.SortFunc(labels, byName)
	}
	implicit := p.fam.Type.BoundLabel()
	for i, l := range labels {
		if i > 0 && bytes.Equal(labels[i-1].Name, l.Name) {
			p.out.contradiction(p.fam.Name, labels, fmt.Sprintf("has two or more labels with the same name: %s", l.Name))
		}
		if string(l.Name) == implicit {
			p.out.contradiction(p.fam.Name, labels, fmt.Sprintf("must not have an explicit %q label", implicit))
		}
	}
}

// created returns the created timestamp of a metric in nanoseconds.
func (v *protoValue) created(metric []byte) (int64, error) {
	if !validTimestamp(v.seconds, v.nanos) {
		return 0, malformed(fmt.Sprintf("invalid created timestamp for metric %q", metric))
	}
	return v.seconds*1e9 + v.nanos, nil
}

// validTimestamp says whether a timestamp is well formed and its nanoseconds since the epoch fit into an int64.
func validTimestamp(seconds, nanos int64) bool {
	const limit = math.MaxInt64/1_000_000_000 - 1
	return seconds >= -limit && seconds <= limit && nanos >= 0 && nanos < 1e9
}
