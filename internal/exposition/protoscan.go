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

// ParseProtobuf parses a body of delimited io.prometheus.client.MetricFamily messages. What it returns is valid until the
// parser is used again, and only as long as body is not changed. Of several families with one name the last is taken.
// Errors are as those of [Parser.ParseText].
func (p *Parser) ParseProtobuf(body []byte, o Options) (*Body, error) {
	if len(body) > math.MaxInt32 {
		return nil, errHuge
	}
	p.reset(body, o)
	for len(body) > 0 {
		msg, rest, err := p.nextMessage(body)
		if err != nil {
			return nil, err
		}
		if err := p.protoFamily(msg); err != nil {
			return nil, err
		}
		body = rest
	}
	if len(p.body.Points) > p.maxSeries {
		return nil, p.seriesError()
	}
	if p.inconsistent != nil {
		return nil, p.inconsistent
	}
	p.groupMetrics()
	return &p.body, nil
}

// nextMessage takes the first message, with its length in front of it, off a body that is not empty.
func (p *Parser) nextMessage(body []byte) (msg, rest []byte, err error) {
	size, n := consumeVarint(body)
	if n < 0 {
		if errors.Is(protowire.ParseError(n), io.ErrUnexpectedEOF) {
			return nil, nil, p.malformed(io.ErrUnexpectedEOF.Error())
		}
		return nil, nil, errOverflow
	}
	body = body[n:]
	if size > uint64(len(body)) {
		// Found before anything is allocated for it: a body of five bytes may claim to hold 4 GiB.
		return nil, nil, p.malformed(io.ErrUnexpectedEOF.Error())
	}
	return body[:size], body[size:], nil
}

// protoFamily scans a MetricFamily. Its fields may come in any order, so that what is said of the family is read before its
// metrics are.
func (p *Parser) protoFamily(msg []byte) error {
	head, err := p.protoFamilyHead(msg)
	if err != nil {
		return err
	}
	f, ok := p.findFamily(head.Name)
	if ok {
		p.replaceFamily(f, head)
	} else {
		if f, err = p.addFamily(head.Name); err != nil {
			return err
		}
		p.families[f].Family = head
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
		if err := p.protoMetric(f, field.bytes); err != nil {
			return err
		}
		if len(p.body.Points) > p.maxSeries {
			return p.seriesError()
		}
	}
	return nil
}

func (p *Parser) protoFamilyHead(msg []byte) (Family, error) {
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
				return fam, p.malformed(fmt.Sprintf("unknown metric type %d", number))
			}
			fam.Type = t
		case field.is(5, protowire.BytesType):
			fam.Unit = field.bytes
		}
	}
	if !metric.ValidMetricName(p.names, fam.Name) {
		return fam, p.malformed(fmt.Sprintf("invalid metric name %q", fam.Name))
	}
	if len(fam.Name) > p.maxLabelLength {
		return fam, p.lengthError(fam.Name)
	}
	if !utf8.Valid(fam.Help) {
		fam.Help = repairHelp(fam.Help)
	}
	if !utf8.Valid(fam.Unit) {
		return fam, p.malformed(fmt.Sprintf("invalid unit %q for metric %q", fam.Unit, fam.Name))
	}
	return fam, nil
}

// replaceFamily puts a family in the place of an earlier one with the same name, whose metrics are forgotten.
func (p *Parser) replaceFamily(f int32, head Family) {
	fam := &p.families[f]
	if fam.count > 0 {
		for m := fam.end - fam.count; m < fam.end; m++ {
			p.series[m].family = -1
		}
		p.interleaved = true
	}
	*fam = parsedFamily{Family: head}
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

// protoMetric scans a Metric of a family and adds it to the body.
func (p *Parser) protoMetric(f int32, msg []byte) error {
	fam := &p.families[f]
	v := protoValue{firstPoint: int32(len(p.body.Points)), firstLabel: int32(len(p.body.Labels))}
	for rest := msg; len(rest) > 0; {
		var field wireField
		var ok bool
		if field, rest, ok = nextField(rest); !ok {
			return errWire
		}
		var err error
		switch {
		case field.is(1, protowire.BytesType):
			err = p.protoLabel(fam, &v, field.bytes)
		case field.is(fam.Type.ValueField(), protowire.BytesType):
			v.present = true
			err = p.protoValueOf(fam, &v, field.bytes)
		case field.is(6, protowire.VarintType):
			v.hasTimestamp = true
		case field.kind == protowire.BytesType && metric.IsValueField(field.number):
			v.beyond = true // A value of another type does not count, but it must be well formed.
		}
		if err != nil {
			return err
		}
	}
	return p.addProtoMetric(f, msg, &v)
}

// addProtoMetric checks a metric as a whole and adds it.
func (p *Parser) addProtoMetric(f int32, msg []byte, v *protoValue) error {
	fam := &p.families[f]
	r := Range{Start: v.firstLabel, End: int32(len(p.body.Labels))}
	if err := p.checkLabels(fam.Name, r); err != nil {
		return err
	}
	p.orderLabels(fam, r)
	created, err := p.protoCreated(fam, v)
	if err != nil {
		return err
	}
	m := p.addMetric(f, Metric{Labels: r, HasTimestamp: v.hasTimestamp, Created: created})
	if err := p.addProtoPoints(m, fam, v); err != nil {
		return err
	}
	if v.beyond {
		extra, err := p.extraOf(fam, p.body.Labels[r.Start:r.End], msg)
		if err != nil {
			return err
		}
		p.body.Metrics[m].Extra = extra
	}
	if !v.present {
		p.contradiction(fam.Name, p.body.Labels[r.Start:r.End], "is not a "+fam.Type.Protobuf())
	}
	return nil
}

// addProtoPoints adds the points of a metric whose buckets or quantiles are there already.
func (p *Parser) addProtoPoints(m int32, fam *parsedFamily, v *protoValue) error {
	start := int(v.firstPoint)
	if fam.Type.Simple() {
		p.body.Points = append(p.body.Points, p.point(v.value))
		p.body.Metrics[m].Points = Range{Start: v.firstPoint, End: v.firstPoint + 1}
		return nil
	}
	count := v.countFloat
	if count == 0 {
		count = float64(v.count)
	}
	if count < 0 {
		return p.malformed(fmt.Sprintf("negative count for histogram %q", fam.Name))
	}
	if !boundsRise(p.body.Points[start:]) {
		p.sortBounds(m, start)
	}
	p.endPoints(m, start, p.point(v.sum), p.point(count))
	return nil
}

// point makes a point of a number.
func (p *Parser) point(f float64) Point {
	f = canonical(f)
	return Point{Value: f, Token: p.token(f)}
}

// protoLabel scans a LabelPair and adds it to the body.
func (p *Parser) protoLabel(fam *parsedFamily, v *protoValue, msg []byte) error {
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
	if !metric.ValidLabelName(p.names, l.Name) {
		return p.malformed(fmt.Sprintf("invalid label name %q", l.Name))
	}
	if !utf8.Valid(l.Value) {
		return p.malformed(fmt.Sprintf("invalid label value %q", l.Value))
	}
	if max(len(l.Name), len(l.Value)) > p.maxLabelLength {
		return p.lengthError(fam.Name)
	}
	if len(p.body.Labels)-int(v.firstLabel) >= p.maxLabels {
		return p.labelsError(fam.Name)
	}
	p.body.Labels = append(p.body.Labels, l)
	return nil
}

// orderLabels sorts the labels of a metric by name and looks for those that cannot be among them.
func (p *Parser) orderLabels(fam *parsedFamily, r Range) {
	labels := p.body.Labels[r.Start:r.End]
	byName := func(a, b Label) int { return bytes.Compare(a.Name, b.Name) }
	if !slices.IsSortedFunc(labels, byName) {
		slices.SortFunc(labels, byName)
	}
	implicit := fam.Type.BoundLabel()
	for i, l := range labels {
		if i > 0 && bytes.Equal(labels[i-1].Name, l.Name) {
			p.contradiction(fam.Name, labels, fmt.Sprintf("has two or more labels with the same name: %s", l.Name))
		}
		if string(l.Name) == implicit {
			p.contradiction(fam.Name, labels, fmt.Sprintf("must not have an explicit %q label", implicit))
		}
	}
}

// protoCreated returns the created timestamp of a metric in nanoseconds.
func (p *Parser) protoCreated(fam *parsedFamily, v *protoValue) (int64, error) {
	if !validTimestamp(v.seconds, v.nanos) {
		return 0, p.malformed(fmt.Sprintf("invalid created timestamp for metric %q", fam.Name))
	}
	return v.seconds*1e9 + v.nanos, nil
}

// validTimestamp says whether a timestamp is well formed and its nanoseconds since the epoch fit into an int64.
func validTimestamp(seconds, nanos int64) bool {
	const limit = math.MaxInt64/1_000_000_000 - 1
	return seconds >= -limit && seconds <= limit && nanos >= 0 && nanos < 1e9
}
