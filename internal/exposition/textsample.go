package exposition

import (
	"bytes"
	"fmt"
	"slices"

	"pushrelay/internal/metric"
)

// sample scans a line with a sample from its first byte that is no blank.
func (t *textParser) sample(i int) (int, error) {
	t.samples++
	if t.samples > t.out.maxSeries {
		return 0, t.out.seriesError()
	}
	if bytes.HasPrefix(t.src[i:], t.prefix) && t.prefix != nil {
		if next, ok, err := t.sampleOfSameMetric(i); ok {
			return next, err
		}
	}
	t.start = int32(i)
	i, err := t.seriesOfSample(i)
	if err != nil {
		return 0, err
	}
	return t.value(i)
}

// seriesOfSample scans name and labels. The labels are added to the body, in the order of their names, and belong to the
// current family. It returns where the value begins.
func (t *textParser) seriesOfSample(i int) (int, error) {
	t.firstLabel = int32(len(t.out.body.Labels))
	if t.src[i] == '{' {
		return t.labels(i+1, nameInside)
	}
	name, i, err := t.name(i, metricNameByte)
	if err != nil {
		return 0, err
	}
	if len(name) == 0 {
		return 0, t.malformed("invalid metric name")
	}
	if err := t.nameFamily(name); err != nil {
		return 0, err
	}
	t.out.families[t.current].typed = true
	if i = t.skipBlanks(i); i == len(t.src) {
		return 0, t.endOfInput()
	}
	if t.src[i] != '{' {
		return i, nil
	}
	return t.labels(i+1, nameBefore)
}

// nameAt says where the metric name of a sample stands.
type nameAt uint8

const (
	nameBefore   nameAt = iota // before the braces
	nameInside                 // inside, and not met yet
	nameWasThere               // inside, and met
)

// labels scans the inside of the braces and returns where the value begins.
func (t *textParser) labels(i int, at nameAt) (int, error) {
	sorted := true
	for {
		if i = t.skipBlanks(i); i == len(t.src) {
			return 0, t.endOfInput()
		}
		if t.src[i] == '}' {
			return t.endLabels(i+1, at, sorted)
		}
		name, next, err := t.name(i, labelNameByte)
		if err != nil {
			return 0, err
		}
		if len(name) == 0 {
			return 0, t.malformed(fmt.Sprintf("invalid label name for metric %q", t.currentName()))
		}
		if i = t.skipBlanks(next); i == len(t.src) {
			return 0, t.endOfInput()
		}
		if t.src[i] != '=' {
			if err := t.nameInBraces(name, t.src[i], at); err != nil {
				return 0, err
			}
			at = nameWasThere
			if t.src[i] == ',' {
				i++
			}
			continue
		}
		if labels := t.out.body.Labels; len(labels) > int(t.firstLabel) {
			switch bytes.Compare(labels[len(labels)-1].Name, name) {
			case 0:
				return 0, t.duplicateLabel()
			case 1:
				sorted = false
			}
		}
		if t.src[next-1] == '"' && !metric.ValidLabelName(t.out.names, name) {
			return 0, t.malformed(fmt.Sprintf("invalid label name %q", name))
		}
		if i, err = t.label(name, i+1); err != nil {
			return 0, err
		}
		switch t.src[i] {
		case ',':
			i++
		case '}':
		default:
			value := t.out.body.Labels[len(t.out.body.Labels)-1].Value
			return 0, t.malformed(fmt.Sprintf("unexpected end of label value %q", value))
		}
	}
}

// nameInBraces takes a name that no equals sign follows for the metric name, where one is expected.
func (t *textParser) nameInBraces(name []byte, follows byte, at nameAt) error {
	switch {
	case at == nameBefore:
		return t.malformed(fmt.Sprintf("expected '=' after label name, found %q", follows))
	case at == nameWasThere:
		return t.malformed(fmt.Sprintf("multiple metric names for metric %q", t.currentName()))
	case follows != ',' && follows != '}':
		return t.malformed(fmt.Sprintf("unexpected end of metric name %q", follows))
	}
	if err := t.nameFamily(name); err != nil {
		return err
	}
	t.out.families[t.current].typed = true
	return nil
}

// label scans a label from behind its equals sign and adds it. It returns where the line goes on.
func (t *textParser) label(name []byte, i int) (int, error) {
	if string(name) == "__name__" {
		return 0, t.malformed(`label name "__name__" is reserved`)
	}
	if i = t.skipBlanks(i); i == len(t.src) {
		return 0, t.endOfInput()
	}
	if t.src[i] != '"' {
		return 0, t.malformed(fmt.Sprintf("expected '\"' at start of label value, found %q", t.src[i]))
	}
	start := i + 1
	value, i, err := t.labelValue(start)
	if err != nil {
		return 0, err
	}
	out := &t.out
	if max(len(name), len(value)) > out.maxLabelLength {
		return 0, out.lengthError(t.currentName())
	}
	// One label may turn out to be le or quantile, which does not count.
	if len(out.body.Labels)-int(t.firstLabel) > out.maxLabels {
		return 0, out.labelsError(t.currentName())
	}
	out.body.Labels = append(out.body.Labels, Label{Name: name, Value: value})
	t.lastLabel, t.lastValue = name, int32(start)
	if i = t.skipBlanks(i); i == len(t.src) {
		return 0, t.endOfInput()
	}
	return i, nil
}

// endLabels goes on behind the closing brace and puts the labels in order.
func (t *textParser) endLabels(i int, at nameAt, sorted bool) (int, error) {
	if at == nameInside {
		return 0, t.malformed("invalid metric name")
	}
	if i = t.skipBlanks(i); i == len(t.src) {
		return 0, t.endOfInput()
	}
	if sorted {
		return i, nil
	}
	labels := t.out.body.Labels[t.firstLabel:]
	slices.SortFunc(labels, func(a, b Label) int { return bytes.Compare(a.Name, b.Name) })
	for k := 1; k < len(labels); k++ {
		if bytes.Equal(labels[k-1].Name, labels[k].Name) {
			return 0, t.duplicateLabel()
		}
	}
	return i, nil
}

func (t *textParser) duplicateLabel() error {
	return t.malformed(fmt.Sprintf("duplicate label names for metric %q", t.currentName()))
}

// currentName is the name of the family that was named last; nil before the first one.
func (t *textParser) currentName() []byte {
	if t.current < 0 {
		return nil
	}
	return t.out.families[t.current].Name
}

// value scans value and timestamp of a sample and adds the sample to its family.
func (t *textParser) value(i int) (int, error) {
	point, i, err := t.number(i)
	if err != nil {
		return 0, err
	}
	// The sample itself comes first, so that its faults are found before those of the timestamp.
	hasTimestamp := t.src[i] != '\n'
	if err := t.addSample(point, hasTimestamp); err != nil {
		return 0, err
	}
	if hasTimestamp {
		return t.timestamp(i)
	}
	return i + 1, nil
}

// addSample adds the sample with the labels scanned last to the current family.
func (t *textParser) addSample(point Point, hasTimestamp bool) error {
	out := &t.out
	fam := &out.families[t.current]
	labels := Range{Start: t.firstLabel, End: int32(len(out.body.Labels))}
	if !fam.Type.Simple() {
		return t.addPart(fam, point, hasTimestamp)
	}
	if err := out.checkLabels(fam.Name, labels); err != nil {
		return err
	}
	n := int32(len(out.body.Points))
	out.body.Points = append(out.body.Points, point)
	out.addMetric(t.current, Metric{Labels: labels, Points: Range{Start: n, End: n + 1}, HasTimestamp: hasTimestamp})
	return nil
}
