package exposition

import (
	"fmt"
	"unicode/utf8"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"

	"pushrelay/internal/metric"
)

// extraOf makes the Extra of a metric from its wire bytes, or nil if it turns out to need none. What it keeps is encoded
// anew, without unknown fields, labels, timestamp and values of other types than the family's, and has been checked: it is
// exposed as it is.
func (p *protobufParser) extraOf(labels []Label, msg []byte) (*Extra, error) {
	var m dto.Metric
	if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(msg, &m); err != nil {
		return nil, errWire
	}
	var kept dto.Metric
	var exemplars []*dto.Exemplar
	native, beyond := false, false
	switch {
	case p.fam.Type == metric.Counter:
		kept.Counter = m.Counter
		exemplars = append(exemplars, m.GetCounter().GetExemplar())
	case p.fam.Type.Bucketed():
		kept.Histogram = m.Histogram
		exemplars = append(exemplars, m.GetHistogram().GetExemplars()...)
		for _, b := range m.GetHistogram().GetBucket() {
			exemplars = append(exemplars, b.GetExemplar())
			beyond = beyond || b.GetCumulativeCountFloat() != 0
		}
		native = isNative(m.GetHistogram())
		beyond = beyond || native || hasNativeFields(m.GetHistogram()) || m.GetHistogram().GetSampleCountFloat() != 0
		if err := checkNative(m.GetHistogram()); err != nil {
			p.out.contradiction(p.fam.Name, labels, "has an invalid native histogram: "+err.Error())
		}
	default: // The value of another type was all that had to be looked at.
	}
	for _, e := range exemplars {
		beyond = beyond || e != nil
		if err := p.checkExemplar(e); err != nil {
			return nil, err
		}
	}
	if !beyond {
		return nil, nil
	}
	wire, err := proto.MarshalOptions{Deterministic: true}.Marshal(&kept)
	if err != nil {
		return nil, fmt.Errorf("encoding metric %q: %w", p.fam.Name, err)
	}
	return &Extra{Wire: wire, Native: native}, nil
}

// checkExemplar holds the labels of an exemplar to the rules for all labels, because protobuf exposes them.
func (p *protobufParser) checkExemplar(e *dto.Exemplar) error {
	for _, l := range e.GetLabel() {
		if !metric.ValidLabelName(p.out.names, l.GetName()) || !utf8.ValidString(l.GetValue()) {
			return malformed(fmt.Sprintf("invalid label %q=%q in an exemplar of metric %q", l.GetName(), l.GetValue(), p.fam.Name))
		}
		if max(len(l.GetName()), len(l.GetValue())) > p.out.maxLabelLength {
			return p.out.lengthError(p.fam.Name)
		}
	}
	if len(e.GetLabel()) > p.out.maxLabels {
		return p.out.labelsError(p.fam.Name)
	}
	if t := e.GetTimestamp(); t != nil && !validTimestamp(t.GetSeconds(), int64(t.GetNanos())) {
		return malformed(fmt.Sprintf("invalid timestamp in an exemplar of metric %q", p.fam.Name))
	}
	return nil
}
