package exposition

import (
	"bytes"
	"cmp"
	"math"
	"slices"

	"pushrelay/internal/metric"
)

// joinLines makes the points of all histograms and summaries out of their lines.
func (b *builder) joinLines() {
	for m := range b.series {
		b.joinParts(int32(m))
	}
}

// finish puts what was scanned in order and returns it. Every metric has its points by then.
func (b *builder) finish() (*Body, error) {
	if len(b.body.Points) > b.maxSeries {
		return nil, b.seriesError()
	}
	if b.contradictions.Any() {
		return nil, &InconsistentError{Msg: b.contradictions.String()}
	}
	b.groupMetrics()
	return &b.body, nil
}

// groupMetrics makes the metrics of each family contiguous and lists the families that have any.
func (b *builder) groupMetrics() {
	next := int32(0)
	for i := range b.families {
		fam := &b.families[i]
		if fam.count == 0 {
			continue
		}
		fam.Metrics = Range{Start: fam.end - fam.count, End: fam.end}
		if b.interleaved {
			fam.Metrics = Range{Start: next, End: next}
			next += fam.count
		}
	}
	if b.interleaved {
		b.spare = slices.Grow(b.spare[:0], int(next))[:next]
		for m, s := range b.series {
			if s.family < 0 {
				continue // of a family that was replaced
			}
			fam := &b.families[s.family]
			b.spare[fam.Metrics.End] = b.body.Metrics[m]
			fam.Metrics.End++
		}
		b.spare, b.body.Metrics = b.body.Metrics, b.spare
	}
	for i := range b.families {
		if b.families[i].count > 0 {
			b.body.Families = append(b.body.Families, b.families[i].Family)
		}
	}
}

// joinParts makes the points of a histogram or summary out of its lines: buckets or quantiles by their bounds, then sum and
// count, with those that are missing. It does nothing for a metric whose points are there already.
func (b *builder) joinParts(m int32) {
	fam := &b.families[b.series[m].family].Family
	if fam.Type.Simple() {
		return
	}
	zero := Point{Token: zeroToken}
	sum, count := zero, zero
	var roles [metric.CountLine + 1]bool
	start := len(b.body.Points)
	for at := b.series[m].first; at >= 0; at = b.parts[at].next {
		part := &b.parts[at]
		if part.role == metric.BoundLine {
			b.body.Points = append(b.body.Points, part.Point)
			continue
		}
		if roles[part.role] {
			b.duplicatePart(m, part.role)
		}
		roles[part.role] = true
		if part.role == metric.SumLine {
			sum = part.Point
		} else {
			count = part.Point
		}
	}
	if !boundsRise(b.body.Points[start:]) {
		b.sortBounds(m, start)
	}
	b.endPoints(m, start, sum, count)
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
func (b *builder) sortBounds(m int32, start int) {
	points := b.body.Points[start:]
	slices.SortStableFunc(points, func(x, y Point) int { return cmp.Compare(x.Bound, y.Bound) })
	for i := 1; i < len(points); i++ {
		if points[i-1].Bound == points[i].Bound {
			b.duplicateBound(m, points[i].Bound)
		}
	}
}

// endPoints adds sum and count, and before them the +Inf bucket that a histogram lacks, to the points of a metric, which are
// those from start on.
func (b *builder) endPoints(m int32, start int, sum, count Point) {
	fam := &b.families[b.series[m].family].Family
	n := len(b.body.Points)
	sum.Bound, count.Bound = 0, 0
	if fam.Type.Bucketed() && (n == start || !math.IsInf(b.body.Points[n-1].Bound, +1)) {
		b.body.Points = append(b.body.Points, Point{Bound: math.Inf(+1), Value: count.Value, Token: count.Token})
	}
	b.body.Points = append(b.body.Points, sum, count)
	b.body.Metrics[m].Points = Range{Start: int32(start), End: int32(len(b.body.Points))}
}

// duplicateBound notes down that a metric has a bucket or a quantile twice.
func (b *builder) duplicateBound(m int32, bound float64) {
	fam := &b.families[b.series[m].family].Family
	labels := b.body.Metrics[m].Labels
	shown := append(slices.Clone(b.body.Labels[labels.Start:labels.End]), Label{Name: []byte(fam.Type.BoundLabel()), Value: AppendFloat(nil, bound)})
	b.contradiction([]byte(string(fam.Name)+fam.Type.Suffix(metric.BoundLine)), shown, collectedBefore)
}

func (b *builder) duplicatePart(m int32, r metric.Role) {
	fam := &b.families[b.series[m].family].Family
	labels := b.body.Metrics[m].Labels
	b.contradiction([]byte(string(fam.Name)+fam.Type.Suffix(r)), b.body.Labels[labels.Start:labels.End],
		collectedBefore)
}

// collectedBefore is what clients know as the word for a series that is there twice.
const collectedBefore = "was collected before with the same name and label values"

// zeroToken is the token of values that were left out. It is never written to.
var zeroToken = bytes.Clone([]byte("0"))
