package exposition

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"math"

	"pushrelay/internal/metric"
)

// builder makes a [Body] of what is found in one, in whichever format: it knows the families by their names and the metrics
// by their labels, applies the limits, and notes down contradictions. It keeps its memory from one body to the next. The
// zero value must be reset first; then families and metrics are added, and finish ends it.
type builder struct {
	names                                metric.NameScheme
	maxSeries, maxLabels, maxLabelLength int // of the limits; math.MaxInt for none

	// body is what has been found so far. Whoever scans appends labels and points itself.
	body Body

	seed     maphash.Seed
	seeded   bool
	families []parsedFamily // all families that were named, those without metrics, too
	byName   table          // of families
	series   []series       // one per body.Metrics
	bySeries table          // of the metrics of histograms and summaries in text, by family and labels
	parts    []part         // the lines of histograms and summaries, until finish puts them in order
	spare    []Metric

	// interleaved says that the metrics of some family are not contiguous yet.
	interleaved bool
	// contradictions are returned only if the body has no other fault, which goes first.
	contradictions Faults
}

// parsedFamily is a family while its body is parsed.
type parsedFamily struct {
	Family
	// typed says that the type cannot change any more: a TYPE line or a sample was there.
	typed bool
	// count is the number of its metrics; end is the index after the one that was added last, last the index of the one
	// that was met last. Both are meaningful only if count > 0.
	count, end, last int32
}

// series is what the builder notes down about one metric.
type series struct {
	family int32 // -1 if the family was replaced
	// first and last are the ends of its list of parts, -1 if it has none.
	first, last int32
}

// part is one line of a histogram or summary.
type part struct {
	Point
	role metric.Role
	next int32 // of the same metric, -1 at the end
}

func (b *builder) reset(o Options) {
	if !b.seeded {
		b.seed, b.seeded = maphash.MakeSeed(), true
	}
	b.names = o.Names
	b.maxSeries, b.maxLabels, b.maxLabelLength = limitOf(o.Limits.MaxSeries), limitOf(o.Limits.MaxLabels), limitOf(o.Limits.MaxLabelLength)
	b.body.Families = reuse(b.body.Families)
	b.body.Metrics = reuse(b.body.Metrics)
	b.body.Labels = reuse(b.body.Labels)
	b.body.Points = reuse(b.body.Points)
	b.families = reuse(b.families)
	b.series = reuse(b.series)
	b.parts = reuse(b.parts)
	b.spare = reuse(b.spare)
	b.byName.reset()
	b.bySeries.reset()
	b.interleaved, b.contradictions = false, Faults{}
}

// limitOf makes a limit of an option, in which 0 is none.
func limitOf(limit int) int {
	if limit == 0 {
		return math.MaxInt
	}
	return limit
}

// reuse empties a slice and lets go of what its elements pointed to.
func reuse[T any](s []T) []T {
	if cap(s) > maxKept {
		return nil
	}
	clear(s)
	return s[:0]
}

// contradiction notes down a part of an [InconsistentError].
func (b *builder) contradiction(name []byte, labels []Label, what string) {
	if b.contradictions.full() {
		b.contradictions.Add("")
		return
	}
	shown := Shown(string(appendLabels(nil, labels)))
	b.contradictions.Add(fmt.Sprintf("collected metric %q {%s} %s", Shown(string(name)), shown, what))
}

func (b *builder) seriesError() error { return &LimitError{Limit: SeriesLimit, Max: b.maxSeries} }

// lengthError says that a name or label of a metric is longer than MaxLabelLength.
func (b *builder) lengthError(metric []byte) error {
	limit := b.maxLabelLength
	return &LimitError{Limit: LabelLengthLimit, Max: limit, Metric: Clip(string(metric), limit)}
}

func (b *builder) labelsError(metric []byte) error {
	return &LimitError{Limit: LabelsLimit, Max: b.maxLabels, Metric: string(metric)}
}

// findFamily returns the index of the family of that name.
func (b *builder) findFamily(name []byte) (int32, bool) {
	return b.byName.find(maphash.Bytes(b.seed, name), func(i int32) bool { return bytes.Equal(b.families[i].Name, name) })
}

// addFamily adds a family, which must not be there yet.
func (b *builder) addFamily(name []byte) (int32, error) {
	i := int32(len(b.families))
	if int(i) >= b.maxSeries {
		return 0, b.seriesError()
	}
	b.families = append(b.families, parsedFamily{Family: Family{Name: name}})
	b.byName.add(maphash.Bytes(b.seed, name), i)
	return i, nil
}

// replaceFamily puts a family in the place of an earlier one with the same name, whose metrics are forgotten.
func (b *builder) replaceFamily(f int32, head Family) {
	fam := &b.families[f]
	if fam.count > 0 {
		for m := fam.end - fam.count; m < fam.end; m++ {
			b.series[m].family = -1
		}
		b.interleaved = true
	}
	*fam = parsedFamily{Family: head}
}

// addMetric appends a metric to a family and returns its index.
func (b *builder) addMetric(f int32, m Metric) int32 {
	i := int32(len(b.body.Metrics))
	b.body.Metrics = append(b.body.Metrics, m)
	b.series = append(b.series, series{family: f, first: -1, last: -1})
	fam := &b.families[f]
	if fam.count > 0 && fam.end != i {
		b.interleaved = true
	}
	fam.count++
	fam.end, fam.last = i+1, i
	return i
}

// checkLabels applies what is left to check when the labels of a metric are known.
func (b *builder) checkLabels(metric []byte, r Range) error {
	if r.Len() > b.maxLabels {
		return b.labelsError(metric)
	}
	labels := b.body.Labels[r.Start:r.End]
	for _, l := range labels {
		if len(l.Name) >= 2 && l.Name[0] == '_' && l.Name[1] == '_' {
			b.contradiction(metric, labels, "has a label with an invalid name: "+Shown(string(l.Name)))
		}
	}
	return nil
}
