package exposition

import (
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"

	"pushrelay/internal/metric"
)

// protoValueOf scans the value of a metric: a Gauge, Counter, Untyped, Summary or Histogram message. If there are several,
// they are merged as protobuf has it: what comes later wins, and buckets and quantiles add up.
func (p *Parser) protoValueOf(fam *parsedFamily, v *protoValue, msg []byte) error {
	for len(msg) > 0 {
		field, rest, ok := nextField(msg)
		if !ok {
			return errWire
		}
		msg = rest
		var err error
		switch {
		case fam.Type.Simple():
			err = v.simpleField(fam.Type, &field)
		case fam.Type.Bucketed():
			err = p.histogramField(fam, v, &field)
		default:
			err = p.summaryField(fam, v, &field)
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

func (p *Parser) summaryField(fam *parsedFamily, v *protoValue, field *wireField) error {
	switch {
	case field.is(1, protowire.VarintType):
		v.count = field.bits
	case field.is(2, protowire.Fixed64Type):
		v.sum = math.Float64frombits(field.bits)
	case field.is(3, protowire.BytesType):
		return p.quantile(fam, field.bytes)
	case field.is(4, protowire.BytesType):
		return v.createdField(field.bytes)
	}
	return nil
}

func (p *Parser) quantile(fam *parsedFamily, msg []byte) error {
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
	return p.addBound(fam, rank, value)
}

func (p *Parser) histogramField(fam *parsedFamily, v *protoValue, field *wireField) error {
	switch {
	case field.is(1, protowire.VarintType):
		v.count = field.bits
	case field.is(2, protowire.Fixed64Type):
		v.sum = math.Float64frombits(field.bits)
	case field.is(3, protowire.BytesType):
		return p.bucket(fam, v, field.bytes)
	case field.is(4, protowire.Fixed64Type):
		v.countFloat = math.Float64frombits(field.bits)
		v.beyond = v.beyond || v.countFloat != 0
	case field.is(15, protowire.BytesType):
		return v.createdField(field.bytes)
	case field.number >= 5 && field.number <= 16:
		v.beyond = true // of a native histogram
	}
	return nil
}

func (p *Parser) bucket(fam *parsedFamily, v *protoValue, msg []byte) error {
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
			v.beyond = true // an exemplar
		case field.is(4, protowire.Fixed64Type):
			countFloat = math.Float64frombits(field.bits)
			v.beyond = v.beyond || countFloat != 0
		}
	}
	if countFloat < 0 {
		return p.malformed(fmt.Sprintf("negative bucket population for histogram %q", fam.Name))
	}
	if countFloat == 0 {
		countFloat = float64(count)
	}
	return p.addBound(fam, bound, countFloat)
}

// addBound adds a bucket or quantile to the points of the current metric.
func (p *Parser) addBound(fam *parsedFamily, bound, value float64) error {
	if bound != bound {
		return p.malformed(fmt.Sprintf("metric %q has a %s that is not a number", fam.Name, fam.Type.BoundLabel()))
	}
	if len(p.body.Points) >= p.maxSeries {
		return p.seriesError()
	}
	point := p.point(value)
	point.Bound = canonical(bound)
	p.body.Points = append(p.body.Points, point)
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
