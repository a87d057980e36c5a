package exposition

import (
	"bytes"
	"cmp"
	"math"
	"slices"

	"pushrelay/internal/metric"
)

// finish puts what was scanned in order and returns it.
func (p *Parser) finish() (*Body, error) {
	for m := range p.series {
		p.joinParts(int32(m))
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

// groupMetrics makes the metrics of each family contiguous and lists the families that have any.
func (p *Parser) groupMetrics() {
	next := int32(0)
	for i := range p.families {
		fam := &p.families[i]
		if fam.count == 0 {
			continue
		}
		fam.Metrics = Range{Start: fam.end - fam.count, End: fam.end}
		if p.interleaved {
			fam.Metrics = Range{Start: next, End: next}
			next += fam.count
		}
	}
	if p.interleaved {
		p.spare = slices.Grow(p.spare[:0], int(next))[:next]
		for m, s := range p.series {
			if s.family < 0 {
				continue // of a family that was replaced
			}
			fam := &p.families[s.family]
			p.spare[fam.Metrics.End] = p.body.Metrics[m]
			fam.Metrics.End++
		}
		p.spare, p.body.Metrics = p.body.Metrics, p.spare
	}
	for i := range p.families {
		if p.families[i].count > 0 {
			p.body.Families = append(p.body.Families, p.families[i].Family)
		}
	}
}

// joinParts makes the points of a histogram or summary out of its lines: buckets or quantiles by their bounds, then sum and
// count, with those that are missing. It does nothing for a metric whose points are there already.
func (p *Parser) joinParts(m int32) {
	fam := &p.families[p.series[m].family].Family
	if fam.Type.Simple() {
		return
	}
	zero := Point{Token: zeroToken}
	sum, count := zero, zero
	var roles [metric.CountLine + 1]bool
	start := len(p.body.Points)
	for at := p.series[m].first; at >= 0; at = p.parts[at].next {
		part := &p.parts[at]
		if part.role == metric.BoundLine {
			p.body.Points = append(p.body.Points, part.Point)
			continue
		}
		if roles[part.role] {
			p.duplicatePart(m, part.role)
		}
		roles[part.role] = true
		if part.role == metric.SumLine {
			sum = part.Point
		} else {
			count = part.Point
		}
	}
	if !boundsRise(p.body.Points[start:]) {
		p.sortBounds(m, start)
	}
	p.endPoints(m, start, sum, count)
}

// boundsRise says whether each bound is above the one before it.
func boundsRise(points []Point) bool {
	for i := 1; i < len(points); i++ {
		if points[i].Bound <= points[i-1].Bound {
			return false
		}
	}
	return true
}

// sortBounds sorts the buckets or quantiles of a metric, which are the points from start on.
func (p *Parser) sortBounds(m int32, start int) {
	points := p.body.Points[start:]
	slices.SortStableFunc(points, func(a, b Point) int { return cmp.Compare(a.Bound, b.Bound) })
	for i := 1; i < len(points); i++ {
		if points[i-1].Bound == points[i].Bound {
			p.duplicatePart(m, metric.BoundLine)
		}
	}
}

// endPoints adds sum and count, and before them the +Inf bucket that a histogram lacks, to the points of a metric, which are
// those from start on.
func (p *Parser) endPoints(m int32, start int, sum, count Point) {
	fam := &p.families[p.series[m].family].Family
	n := len(p.body.Points)
	sum.Bound, count.Bound = 0, 0
	if fam.Type.Bucketed() && (n == start || !math.IsInf(p.body.Points[n-1].Bound, +1)) {
		p.body.Points = append(p.body.Points, Point{Bound: math.Inf(+1), Value: count.Value, Token: count.Token})
	}
	p.body.Points = append(p.body.Points, sum, count)
	p.body.Metrics[m].Points = Range{Start: int32(start), End: int32(len(p.body.Points))}
}

func (p *Parser) duplicatePart(m int32, r metric.Role) {
	fam := &p.families[p.series[m].family].Family
	labels := p.body.Metrics[m].Labels
	p.contradiction([]byte(string(fam.Name)+fam.Type.Suffix(r)), p.body.Labels[labels.Start:labels.End],
		"was collected before with the same name and label values")
}

// zeroToken is the token of values that were left out. It is never written to.
var zeroToken = bytes.Clone([]byte("0"))
