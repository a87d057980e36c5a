package exposition

import (
	"bytes"
	"hash/maphash"
)

// link appends a part to the list of its metric.
func (b *builder) link(m int32, part part) {
	at := int32(len(b.parts))
	b.parts = append(b.parts, part)
	s := &b.series[m]
	if s.first < 0 {
		s.first = at
	} else {
		b.parts[s.last].next = at
	}
	s.last = at
}

// metricOfPart returns the metric of a family with the labels in r, which are the last of the body's. If there is one
// already, they are taken off again.
func (b *builder) metricOfPart(f int32, r Range) (int32, error) {
	fam := &b.families[f]
	if fam.count > 0 && b.sameLabels(fam.last, r) {
		b.dropLabels(r)
		return fam.last, nil
	}
	hash := b.hashLabels(f, r)
	m, ok := b.bySeries.find(hash, func(m int32) bool { return b.series[m].family == f && b.sameLabels(m, r) })
	if ok {
		b.dropLabels(r)
		fam.last = m
		return m, nil
	}
	if err := b.checkLabels(fam.Name, r); err != nil {
		return 0, err
	}
	m = b.addMetric(f, Metric{Labels: r})
	b.bySeries.add(hash, m)
	return m, nil
}

func (b *builder) dropLabels(r Range) {
	clear(b.body.Labels[r.Start:r.End]) // So that nothing beyond the slice keeps a body alive.
	b.body.Labels = b.body.Labels[:r.Start]
}

func (b *builder) sameLabels(m int32, r Range) bool {
	a := b.body.Metrics[m].Labels
	if a.Len() != r.Len() {
		return false
	}
	for i := range int32(r.Len()) {
		x, y := &b.body.Labels[a.Start+i], &b.body.Labels[r.Start+i]
		if !bytes.Equal(x.Value, y.Value) || !bytes.Equal(x.Name, y.Name) {
			return false
		}
	}
	return true
}

// hashLabels hashes a family and the labels in r.
func (b *builder) hashLabels(f int32, r Range) uint64 {
	const odd = 0x9E3779B97F4A7C15
	h := uint64(f) * odd
	for _, l := range b.body.Labels[r.Start:r.End] {
		h = (h ^ maphash.Bytes(b.seed, l.Name)) * odd
		h = (h ^ maphash.Bytes(b.seed, l.Value)) * odd
		h ^= h >> 32
	}
	return h
}
