package exposition

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"math"
	"slices"

	"pushrelay/internal/metric"
)

// addPart adds a line of a histogram or summary to its metric, which the other lines with the same labels make up with it.
func (p *Parser) addPart(fam *parsedFamily, point Point, hasTimestamp bool) error {
	bound, hasBound, err := p.takeBound(fam)
	if err != nil {
		return err
	}
	labels := Range{Start: p.text.labels, End: int32(len(p.body.Labels))}
	m, err := p.metricOfPart(fam, labels)
	if err != nil {
		return err
	}
	if p.text.role == metric.BoundLine && !hasBound {
		p.body.Metrics[m].HasTimestamp = p.body.Metrics[m].HasTimestamp || hasTimestamp
		return nil // A line that is no part of the metric is dropped, as expfmt does.
	}
	p.notePrefix(m, fam)
	point.Bound = bound
	return p.addPartOf(m, fam, point, hasTimestamp)
}

// addPartOf adds a line to the metric with the index m.
func (p *Parser) addPartOf(m int32, fam *parsedFamily, point Point, hasTimestamp bool) error {
	if err := p.checkPart(fam, point.Value); err != nil {
		return err
	}
	if whole := math.Trunc(point.Value); fam.Type == metric.Summary && p.text.role == metric.CountLine && whole != point.Value {
		point = Point{Value: whole, Token: p.token(whole)}
	}
	if hasTimestamp {
		p.body.Metrics[m].HasTimestamp = true
	}
	p.link(m, part{Point: point, role: p.text.role, next: -1})
	return nil
}

// notePrefix remembers that the line just scanned is a bucket or quantile of fam whose bound is its last label, so that the
// next lines, which differ from it behind that label only, need not be scanned again.
func (p *Parser) notePrefix(m int32, fam *parsedFamily) {
	t := &p.text
	if t.role == metric.BoundLine && string(t.lastLabel) == fam.Type.BoundLabel() && p.src[t.start] != '{' {
		t.prefix, t.prefixFamily, t.prefixMetric = p.src[t.start:t.lastValue], t.current, m
	}
}

// sampleOfSameMetric scans a line that begins as the line of notePrefix did. It returns false if the line goes on in
// another way and has to be scanned as any other.
func (p *Parser) sampleOfSameMetric(i int) (next int, ok bool, err error) {
	src := p.src
	start := i + len(p.text.prefix)
	end := start
	for end < len(src) && classes[src[end]]&literalByte != 0 {
		end++
	}
	if end+1 >= len(src) || src[end] != '"' || src[end+1] != '}' {
		return 0, false, nil
	}
	bound, isNumber := parseFloat(src[start:end])
	i = p.skipBlanks(end + 2)
	if !isNumber || bound != bound || i == len(src) || end-start > p.maxLabelLength {
		return 0, false, nil
	}
	p.text.current, p.text.role = p.text.prefixFamily, metric.BoundLine
	point, i, err := p.number(i)
	if err != nil {
		return 0, true, err
	}
	point.Bound = bound
	hasTimestamp := src[i] != '\n'
	fam := &p.families[p.text.current]
	fam.last = p.text.prefixMetric
	if err := p.addPartOf(p.text.prefixMetric, fam, point, hasTimestamp); err != nil {
		return 0, true, err
	}
	if hasTimestamp {
		next, err = p.timestamp(i)
		return next, true, err
	}
	return i + 1, true, nil
}

// link appends a part to the list of its metric.
func (p *Parser) link(m int32, part part) {
	at := int32(len(p.parts))
	p.parts = append(p.parts, part)
	s := &p.series[m]
	if s.first < 0 {
		s.first = at
	} else {
		p.parts[s.last].next = at
	}
	s.last = at
}

// takeBound takes le or quantile out of the labels scanned last and returns its number. A bound that is not a number is
// none.
func (p *Parser) takeBound(fam *parsedFamily) (bound float64, ok bool, err error) {
	name := fam.Type.BoundLabel()
	for i := len(p.body.Labels) - 1; i >= int(p.text.labels); i-- {
		l := p.body.Labels[i]
		if string(l.Name) != name {
			continue
		}
		f, ok := parseFloat(l.Value)
		if !ok {
			return 0, false, p.malformed(fmt.Sprintf("expected float as value for '%s' label, got %q", name, l.Value))
		}
		p.body.Labels = slices.Delete(p.body.Labels, i, i+1)
		return f, f == f, nil
	}
	return 0, false, nil
}

// checkPart refuses counts that no histogram or summary can have.
func (p *Parser) checkPart(fam *parsedFamily, value float64) error {
	if fam.Type == metric.Summary {
		if p.text.role == metric.CountLine && !(value >= 0 && value < 1<<64) {
			return p.malformed(fmt.Sprintf("invalid count for summary %q", fam.Name))
		}
		return nil
	}
	if value >= 0 || p.text.role == metric.SumLine || value != value {
		return nil
	}
	if p.text.role == metric.CountLine {
		return p.malformed(fmt.Sprintf("negative count for histogram %q", fam.Name))
	}
	return p.malformed(fmt.Sprintf("negative bucket population for histogram %q", fam.Name))
}

// metricOfPart returns the metric of the family with the labels in r, which are the last of the body's. If there is one
// already, they are taken off again.
func (p *Parser) metricOfPart(fam *parsedFamily, r Range) (int32, error) {
	if fam.count > 0 && p.sameLabels(fam.last, r) {
		p.dropLabels(r)
		return fam.last, nil
	}
	hash := p.hashLabels(r)
	f := p.text.current
	m, ok := p.bySeries.find(hash, func(m int32) bool { return p.series[m].family == f && p.sameLabels(m, r) })
	if ok {
		p.dropLabels(r)
		fam.last = m
		return m, nil
	}
	if err := p.checkLabels(fam.Name, r); err != nil {
		return 0, err
	}
	m = p.addMetric(f, Metric{Labels: r})
	p.bySeries.add(hash, m)
	return m, nil
}

func (p *Parser) dropLabels(r Range) {
	clear(p.body.Labels[r.Start:r.End]) // So that nothing beyond the slice keeps a body alive.
	p.body.Labels = p.body.Labels[:r.Start]
}

func (p *Parser) sameLabels(m int32, r Range) bool {
	a := p.body.Metrics[m].Labels
	if a.Len() != r.Len() {
		return false
	}
	for i := range int32(r.Len()) {
		x, y := &p.body.Labels[a.Start+i], &p.body.Labels[r.Start+i]
		if !bytes.Equal(x.Value, y.Value) || !bytes.Equal(x.Name, y.Name) {
			return false
		}
	}
	return true
}

// hashLabels hashes the current family and the labels in r.
func (p *Parser) hashLabels(r Range) uint64 {
	const odd = 0x9E3779B97F4A7C15
	h := uint64(p.text.current) * odd
	for _, l := range p.body.Labels[r.Start:r.End] {
		h = (h ^ maphash.Bytes(p.seed, l.Name)) * odd
		h = (h ^ maphash.Bytes(p.seed, l.Value)) * odd
		h ^= h >> 32
	}
	return h
}
