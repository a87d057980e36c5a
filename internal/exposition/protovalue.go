package exposition

import (
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"

	"pushrelay/internal/metric"
)

// valueOf scans the value of a metric: a Gauge, Counter, Untyped, Summary or Histogram message. If there are several,
// they are merged as protobuf has it: what comes later wins, and buckets and quantiles add up.
func (p *protobufParser) valueOf(msg []byte) error {
	for len(msg) > 0 {
		field, rest, ok := nextField(msg)
		if !ok {
			return errWire
		}
		msg = rest
		var err error
		switch {
		case p.fam.Type.Simple():
			err = p.value.simpleField(p.fam.Type, &field)
		case p.fam.Type.Bucketed():
			err = p.histogramField(&field)
		default:
			err = p.summaryField(&field)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// simpleField takes a field of a Gauge, Counter or Untyped message.
func (v *protoValue) simpleField(t metric.Type, field *wireField) error {
	switch {
	case field.is(1, protowire.Fixed64Type):
		v.value = math.Float64frombits(field.bits)
	case t == metric.Counter && field.is(2, protowire.BytesType):
		v.beyond = true // an exemplar
	case t == metric.Counter && field.is(3, protowire.BytesType):
		return v.createdField(field.bytes)
	}
	return nil
}

func (p *protobufParser) summaryField(field *wireField) error {
	switch {
	case field.is(1, protowire.VarintType):
		p.value.count = field.bits
	case field.is(2, protowire.Fixed64Type):
		p.value.sum = math.Float64frombits(field.bits)
	case field.is(3, protowire.BytesType):
		return p.quantile(field.bytes)
	case field.is(4, protowire.BytesType):
		return p.value.createdField(field.bytes)
	}
	return nil
}

func (p *protobufParser) quantile(msg []byte) error {
	var rank, value float64
	for len(msg) > 0 {
		field, rest, ok := nextField(msg)
		if !ok {
			return errWire
		}
		msg = rest
		switch {
		case field.is(1, protowire.Fixed64Type):
			rank = math.Float64frombits(field.bits)
		case field.is(2, protowire.Fixed64Type):
			value = math.Float64frombits(field.bits)
		}
	}
	return p.addBound(rank, value)
}

func (p *protobufParser) histogramField(field *wireField) error {
	switch {
	case field.is(1, protowire.VarintType):
		p.value.count = field.bits
	case field.is(2, protowire.Fixed64Type):
		p.value.sum = math.Float64frombits(field.bits)
	case field.is(3, protowire.BytesType):
		return p.bucket(field.bytes)
	case field.is(4, protowire.Fixed64Type):
		p.value.countFloat = math.Float64frombits(field.bits)
		p.value.beyond = p.value.beyond || p.value.countFloat != 0
	case field.is(15, protowire.BytesType):
		return p.value.createdField(field.bytes)
	case field.number >= 5 && field.number <= 16:
		p.value.beyond = true // of a native histogram
	}
	return nil
}

func (p *protobufParser) bucket(msg []byte) error {
	var count uint64
	var countFloat, bound float64
	for len(msg) > 0 {
		field, rest, ok := nextField(msg)
		if !ok {
			return errWire
		}
		msg = rest
		switch {
		case field.is(1, protowire.VarintType):
			count = field.bits
		case field.is(2, protowire.Fixed64Type):
			bound = math.Float64frombits(field.bits)
		case field.is(3, protowire.BytesType):
			p.value.beyond = true // an exemplar
		case field.is(4, protowire.Fixed64Type):
			countFloat = math.Float64frombits(field.bits)
			p.value.beyond = p.value.beyond || countFloat != 0
		}
	}
	if countFloat < 0 {
		return malformed(fmt.Sprintf("negative bucket population for histogram %q", p.fam.Name))
	}
	if countFloat == 0 {
		countFloat = float64(count)
	}
	return p.addBound(bound, countFloat)
}

// addBound adds a bucket or quantile to the points of the current metric.
func (p *protobufParser) addBound(bound, value float64) error {
	if bound != bound {
		return malformed(fmt.Sprintf("metric %q has a %s that is not a number", p.fam.Name, p.fam.Type.BoundLabel()))
	}
	if len(p.out.body.Points) >= p.out.maxSeries {
		return p.out.seriesError()
	}
	point := p.point(value)
	point.Bound = canonical(bound)
	p.out.body.Points = append(p.out.body.Points, point)
	return nil
}

// createdField scans a Timestamp.
func (v *protoValue) createdField(msg []byte) error {
	for len(msg) > 0 {
		field, rest, ok := nextField(msg)
		if !ok {
			return errWire
		}
		msg = rest
		switch {
		case field.is(1, protowire.VarintType):
			v.seconds = int64(field.bits)
		case field.is(2, protowire.VarintType):
			v.nanos = int64(int32(field.bits))
		}
	}
	return nil
}
