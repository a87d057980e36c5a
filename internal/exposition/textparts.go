package exposition

import (
	"fmt"
	"math"
	"slices"

	"pushrelay/internal/metric"
)

// addPart adds a line of a histogram or summary to its metric, which the other lines with the same labels make up with it.
func (t *textParser) addPart(fam *parsedFamily, point Point, hasTimestamp bool) error {
	bound, hasBound, err := t.takeBound(fam)
	if err != nil {
		return err
	}
	labels := Range{Start: t.firstLabel, End: int32(len(t.out.body.Labels))}
	m, err := t.out.metricOfPart(t.current, labels)
	if err != nil {
		return err
	}
	if t.role == metric.BoundLine && !hasBound {
		t.out.body.Metrics[m].HasTimestamp = t.out.body.Metrics[m].HasTimestamp || hasTimestamp
		return nil // A line that is no part of the metric is dropped, as expfmt does.
	}
	t.notePrefix(m, fam)
	point.Bound = bound
	return t.addPartOf(m, fam, point, hasTimestamp)
}

// addPartOf adds a line to the metric with the index m.
func (t *textParser) addPartOf(m int32, fam *parsedFamily, point Point, hasTimestamp bool) error {
	if err := t.checkPart(fam, point.Value); err != nil {
		return err
	}
	if whole := math.Trunc(point.Value); fam.Type == metric.Summary && t.role == metric.CountLine && whole != point.Value {
		point = Point{Value: whole, Token: t.scratch.token(whole)}
	}
	if hasTimestamp {
		t.out.body.Metrics[m].HasTimestamp = true
	}
	t.out.link(m, part{Point: point, role: t.role, next: -1})
	return nil
}

// notePrefix remembers that the line just scanned is a bucket or quantile of fam whose bound is its last label, so that the
// next lines, which differ from it behind that label only, need not be scanned again.
func (t *textParser) notePrefix(m int32, fam *parsedFamily) {
	if t.role == metric.BoundLine && string(t.lastLabel) == fam.Type.BoundLabel() && t.src[t.start] != '{' {
		t.prefix, t.prefixFamily, t.prefixMetric = t.src[t.start:t.lastValue], t.current, m
	}
}

// sampleOfSameMetric scans a line that begins as the line of notePrefix did. It returns false if the line goes on in
// another way and has to be scanned as any other.
func (t *textParser) sampleOfSameMetric(i int) (next int, ok bool, err error) {
	src := t.src
	start := i + len(t.prefix)
	end := start
	for end < len(src) && classes[src[end]]&literalByte != 0 {
		end++
	}
	if end+1 >= len(src) || src[end] != '"' || src[end+1] != '}' {
		return 0, false, nil
	}
	bound, isNumber := parseFloat(src[start:end])
	i = t.skipBlanks(end + 2)
	if !isNumber || bound != bound || i == len(src) || end-start > t.out.maxLabelLength {
		return 0, false, nil
	}
	t.current, t.role = t.prefixFamily, metric.BoundLine
	point, i, err := t.number(i)
	if err != nil {
		return 0, true, err
	}
	point.Bound = bound
	hasTimestamp := src[i] != '\n'
	fam := &t.out.families[t.current]
	fam.last = t.prefixMetric
	if err := t.addPartOf(t.prefixMetric, fam, point, hasTimestamp); err != nil {
		return 0, true, err
	}
	if hasTimestamp {
		next, err = t.timestamp(i)
		return next, true, err
	}
	return i + 1, true, nil
}

// takeBound takes le or quantile out of the labels scanned last and returns its number. A bound that is not a number is
// none.
func (t *textParser) takeBound(fam *parsedFamily) (bound float64, ok bool, err error) {
	name := fam.Type.BoundLabel()
	for i := len(t.out.body.Labels) - 1; i >= int(t.firstLabel); i-- {
		l := t.out.body.Labels[i]
		if string(l.Name) != name {
			continue
		}
		f, ok := parseFloat(l.Value)
		if !ok {
			return 0, false, t.malformed(fmt.Sprintf("expected float as value for '%s' label, got %q", name, l.Value))
		}
		t.out.body.Labels = slices.Delete(t.out.body.Labels, i, i+1)
		return f, f == f, nil
	}
	return 0, false, nil
}

// checkPart refuses counts that no histogram or summary can have.
func (t *textParser) checkPart(fam *parsedFamily, value float64) error {
	if fam.Type == metric.Summary {
		if t.role == metric.CountLine && !(value >= 0 && value < 1<<64) {
			return t.malformed(fmt.Sprintf("invalid count for summary %q", fam.Name))
		}
		return nil
	}
	if value >= 0 || t.role == metric.SumLine || value != value {
		return nil
	}
	if t.role == metric.CountLine {
		return t.malformed(fmt.Sprintf("negative count for histogram %q", fam.Name))
	}
	return t.malformed(fmt.Sprintf("negative bucket population for histogram %q", fam.Name))
}
