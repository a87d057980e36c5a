package exposition

import (
	"bytes"
	"fmt"
	"slices"

	"pushrelay/internal/metric"
)

// sample scans a line with a sample from its first byte that is no blank.
func (p *Parser) sample(i int) (int, error) {
	p.text.samples++
	if p.text.samples > p.maxSeries {
		return 0, p.seriesError()
	}
	if bytes.HasPrefix(p.src[i:], p.text.prefix) && p.text.prefix != nil {
		if next, ok, err := p.sampleOfSameMetric(i); ok {
			return next, err
		}
	}
	p.text.start = int32(i)
	i, err := p.seriesOfSample(i)
	if err != nil {
		return 0, err
	}
	return p.value(i)
}

// seriesOfSample scans name and labels. The labels are added to the body, in the order of their names, and belong to the
// current family. It returns where the value begins.
func (p *Parser) seriesOfSample(i int) (int, error) {
	p.text.labels = int32(len(p.body.Labels))
	if p.src[i] == '{' {
		return p.labels(i+1, nameInside)
	}
	name, i, err := p.name(i, metricNameByte)
	if err != nil {
		return 0, err
	}
	if len(name) == 0 {
		return 0, p.malformed("invalid metric name")
	}
	if err := p.nameFamily(name); err != nil {
		return 0, err
	}
	p.families[p.text.current].typed = true
	if i = p.skipBlanks(i); i == len(p.src) {
		return 0, p.endOfInput()
	}
	if p.src[i] != '{' {
		return i, nil
	}
	return p.labels(i+1, nameBefore)
}

// nameAt says where the metric name of a sample stands.
type nameAt uint8

const (
	nameBefore   nameAt = iota // before the braces
	nameInside                 // inside, and not met yet
	nameWasThere               // inside, and met
)

// labels scans the inside of the braces and returns where the value begins.
func (p *Parser) labels(i int, at nameAt) (int, error) {
	sorted := true
	for {
		if i = p.skipBlanks(i); i == len(p.src) {
			return 0, p.endOfInput()
		}
		if p.src[i] == '}' {
			return p.endLabels(i+1, at, sorted)
		}
		name, next, err := p.name(i, labelNameByte)
		if err != nil {
			return 0, err
		}
		if len(name) == 0 {
			return 0, p.malformed(fmt.Sprintf("invalid label name for metric %q", p.currentName()))
		}
		if i = p.skipBlanks(next); i == len(p.src) {
			return 0, p.endOfInput()
		}
		if p.src[i] != '=' {
			if err := p.nameInBraces(name, p.src[i], at); err != nil {
				return 0, err
			}
			at = nameWasThere
			if p.src[i] == ',' {
				i++
			}
			continue
		}
		if n := len(p.body.Labels); n > int(p.text.labels) {
			switch bytes.Compare(p.body.Labels[n-1].Name, name) {
			case 0:
				return 0, p.duplicateLabel()
			case 1:
				sorted = false
			}
		}
		if p.src[next-1] == '"' && !metric.ValidLabelName(p.names, name) {
			return 0, p.malformed(fmt.Sprintf("invalid label name %q", name))
		}
		if i, err = p.label(name, i+1); err != nil {
			return 0, err
		}
		switch p.src[i] {
		case ',':
			i++
		case '}':
		default:
			value := p.body.Labels[len(p.body.Labels)-1].Value
			return 0, p.malformed(fmt.Sprintf("unexpected end of label value %q", value))
		}
	}
}

// nameInBraces takes a name that no equals sign follows for the metric name, where one is expected.
func (p *Parser) nameInBraces(name []byte, follows byte, at nameAt) error {
	switch {
	case at == nameBefore:
		return p.malformed(fmt.Sprintf("expected '=' after label name, found %q", follows))
	case at == nameWasThere:
		return p.malformed(fmt.Sprintf("multiple metric names for metric %q", p.currentName()))
	case follows != ',' && follows != '}':
		return p.malformed(fmt.Sprintf("unexpected end of metric name %q", follows))
	}
	if err := p.nameFamily(name); err != nil {
		return err
	}
	p.families[p.text.current].typed = true
	return nil
}

// label scans a label from behind its equals sign and adds it. It returns where the line goes on.
func (p *Parser) label(name []byte, i int) (int, error) {
	if string(name) == "__name__" {
		return 0, p.malformed(`label name "__name__" is reserved`)
	}
	if i = p.skipBlanks(i); i == len(p.src) {
		return 0, p.endOfInput()
	}
	if p.src[i] != '"' {
		return 0, p.malformed(fmt.Sprintf("expected '\"' at start of label value, found %q", p.src[i]))
	}
	start := i + 1
	value, i, err := p.labelValue(start)
	if err != nil {
		return 0, err
	}
	if max(len(name), len(value)) > p.maxLabelLength {
		return 0, p.lengthError(p.currentName())
	}
	// One label may turn out to be le or quantile, which does not count.
	if len(p.body.Labels)-int(p.text.labels) > p.maxLabels {
		return 0, p.labelsError(p.currentName())
	}
	p.body.Labels = append(p.body.Labels, Label{Name: name, Value: value})
	p.text.lastLabel, p.text.lastValue = name, int32(start)
	if i = p.skipBlanks(i); i == len(p.src) {
		return 0, p.endOfInput()
	}
	return i, nil
}

// endLabels goes on behind the closing brace and puts the labels in order.
func (p *Parser) endLabels(i int, at nameAt, sorted bool) (int, error) {
	if at == nameInside {
		return 0, p.malformed("invalid metric name")
	}
	if i = p.skipBlanks(i); i == len(p.src) {
		return 0, p.endOfInput()
	}
	if sorted {
		return i, nil
	}
	labels := p.body.Labels[p.text.labels:]
	slices.SortFunc(labels, func(a, b Label) int { return bytes.Compare(a.Name, b.Name) })
	for k := 1; k < len(labels); k++ {
		if bytes.Equal(labels[k-1].Name, labels[k].Name) {
			return 0, p.duplicateLabel()
		}
	}
	return i, nil
}

func (p *Parser) duplicateLabel() error {
	return p.malformed(fmt.Sprintf("duplicate label names for metric %q", p.currentName()))
}

func (p *Parser) labelsError(metric []byte) error {
	return &LimitError{Limit: LabelsLimit, Max: p.maxLabels, Metric: string(metric)}
}

// currentName is the name of the family that was named last; nil before the first one.
func (p *Parser) currentName() []byte {
	if p.text.current < 0 {
		return nil
	}
	return p.families[p.text.current].Name
}

// value scans value and timestamp of a sample and adds the sample to its family.
func (p *Parser) value(i int) (int, error) {
	point, i, err := p.number(i)
	if err != nil {
		return 0, err
	}
	// The sample itself comes first, so that its faults are found before those of the timestamp.
	hasTimestamp := p.src[i] != '\n'
	if err := p.addSample(point, hasTimestamp); err != nil {
		return 0, err
	}
	if hasTimestamp {
		return p.timestamp(i)
	}
	return i + 1, nil
}

// number scans a value and returns where it ends, at a blank or a line feed.
func (p *Parser) number(i int) (Point, int, error) {
	d, n := scanDecimal(p.src[i:])
	if end := i + n; n > 0 && end < len(p.src) && (p.src[end] == '\n' || isBlank(p.src[end])) {
		if f, ok := d.float(); ok {
			if d.canonical {
				return Point{Value: f, Token: p.src[i:end]}, end, nil
			}
			return Point{Value: f, Token: p.token(f)}, end, nil
		}
	}
	token, i := p.word(i)
	if i == len(p.src) {
		return Point{}, 0, p.endOfInput()
	}
	f, ok := parseFloat(token)
	if !ok {
		return Point{}, 0, p.malformed(fmt.Sprintf("expected float as value, got %q", token))
	}
	return Point{Value: f, Token: p.token(f)}, i, nil
}

// token renders a number into the scratch memory.
func (p *Parser) token(f float64) []byte {
	from := len(p.scratch)
	p.scratch = AppendFloat(p.scratch, f)
	return p.scratch[from:]
}

// addSample adds the sample with the labels scanned last to the current family.
func (p *Parser) addSample(point Point, hasTimestamp bool) error {
	fam := &p.families[p.text.current]
	labels := Range{Start: p.text.labels, End: int32(len(p.body.Labels))}
	if !fam.Type.Simple() {
		return p.addPart(fam, point, hasTimestamp)
	}
	if err := p.checkLabels(fam.Name, labels); err != nil {
		return err
	}
	n := int32(len(p.body.Points))
	p.body.Points = append(p.body.Points, point)
	p.addMetric(p.text.current, Metric{Labels: labels, Points: Range{Start: n, End: n + 1}, HasTimestamp: hasTimestamp})
	return nil
}

// checkLabels applies what is left to check when the labels of a metric are known.
func (p *Parser) checkLabels(metric []byte, r Range) error {
	if r.Len() > p.maxLabels {
		return p.labelsError(metric)
	}
	labels := p.body.Labels[r.Start:r.End]
	for _, l := range labels {
		if len(l.Name) >= 2 && l.Name[0] == '_' && l.Name[1] == '_' {
			p.contradiction(metric, labels, "has a label with an invalid name: "+string(l.Name))
		}
	}
	return nil
}
