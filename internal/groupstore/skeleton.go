package groupstore

import (
	"encoding/binary"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"github.com/prometheus/common/model"

	"pushrelay/internal/exposition"
)

// A skeleton is one set of series of one metric family: everything about them except their values and the values of the
// grouping labels. Equal skeletons are one object, shared by all groups.
//
// Its neutral form is the encoding, which is also its key in the table of skeletons; everything else is derived from it,
// so that a log or a snapshot can carry the encoding alone (S19).
type skeleton struct {
	// Static after construction.
	encoding string
	name     string
	help     string
	unit     string
	holes    []string // the names of the grouping labels, sorted, also those with an empty value
	literals []string // the names of pushed labels that are not empty in some series, sorted
	sums     []uint64 // one sum of label hashes per metric (see hasher), sorted
	defect   *defect  // why the family can never be exposed, or nil
	metrics  int
	lines    int // exposition lines: what the limits call series
	start    int // where in the encoding the metrics begin
	typ      exposition.Type
	flags    byte
	legacy   bool // every name can be written without quotes

	renditions atomic.Pointer[rendition] // prepared pieces of output, made when first asked for

	// Guarded by Store.mu.
	refs   int     // parts that use it
	family *family // set when the skeleton enters the table, and never again: views read it without the lock
}

// The flags of an encoding.
const (
	hasHelp = 1 << iota
	hasUnit
	hasCreated // each metric's values are preceded by its created timestamp
	hasExtra   // each metric's values are preceded by what only protobuf can say
)

// The flags of a metric within an encoding.
const (
	sameLayout = 1 << iota // label names and holes are those of the metric before
	sameBounds             // bucket bounds or quantiles are those of the metric before
)

// A defect is a fault that a set of series has by itself.
type defect struct {
	metric int    // the series that shows it, or -1 for the whole family
	text   string // what follows the description of the series
}

// newSkeleton derives a skeleton from its encoding. Hashes are those of the given hasher.
func newSkeleton(encoding string, h hasher) *skeleton {
	k := &skeleton{encoding: encoding, flags: encoding[0], typ: exposition.Type(encoding[1])}
	rest := encoding[2:]
	k.name, rest = cutText(rest)
	if k.flags&hasHelp != 0 {
		k.help, rest = cutText(rest)
	}
	if k.flags&hasUnit != 0 {
		k.unit, rest = cutText(rest)
	}
	var n uint64
	n, rest = cutUvarint(rest)
	k.holes = make([]string, n)
	for i := range k.holes {
		k.holes[i], rest = cutText(rest)
	}
	n, rest = cutUvarint(rest)
	k.metrics = int(n)
	k.start = len(encoding) - len(rest)
	k.survey(h)
	return k
}

// survey walks the series once for everything that is derived from them.
func (k *skeleton) survey(h hasher) {
	k.legacy = exposition.IsLegacyMetricName(k.name)
	k.defect = k.nameDefect()
	k.sums = make([]uint64, 0, k.metrics)
	for r := k.read(); r.next(); {
		if !r.repeated {
			k.surveyLayout(r)
		}
		sum := uint64(0)
		for i, l := range r.labels {
			value := r.values[i]
			if l.hole >= 0 || value == "" {
				continue
			}
			sum += h.pair(l.name, value)
			k.noteLiteral(l.name)
			if !utf8.ValidString(value) {
				k.faulty(r.metric, "has a label named "+strconv.Quote(brief(l.name, shownBytes))+" whose value is not utf8")
			}
		}
		k.sums = append(k.sums, sum)
		k.lines += k.linesOf(len(r.bounds))
	}
	slices.Sort(k.sums)
	for i := 1; i < len(k.sums) && k.defect == nil; i++ {
		if k.sums[i] == k.sums[i-1] {
			k.findRepeated()
		}
	}
}

func (k *skeleton) nameDefect() *defect {
	switch {
	case k.name == "":
		return &defect{metric: -1, text: "has no name"}
	case !soundName(k.name):
		return &defect{metric: -1, text: "has a name that cannot be exposed"}
	case strings.HasPrefix(k.name, reservedPrefix):
		return &defect{metric: -1, text: "has a reserved name: " + reservedPrefix + "* are the relay's own metrics"}
	}
	return nil
}

func (k *skeleton) surveyLayout(r *reader) {
	for _, l := range r.labels {
		if !exposition.IsLegacyLabelName(l.name) {
			k.legacy = false
		}
		switch {
		case !soundName(l.name), strings.HasPrefix(l.name, model.ReservedLabelPrefix):
			k.faulty(r.metric, "has a label with an invalid name: "+brief(l.name, shownBytes))
		case k.typ == exposition.Summary && l.name == model.QuantileLabel,
			k.bucketed() && l.name == model.BucketLabel:
			k.faulty(r.metric, "must not have an explicit "+strconv.Quote(l.name)+" label")
		}
	}
}

// soundName says whether a name can be written in every format. A NUL is valid UTF-8, but Prometheus' text parser stops
// there and loses the whole scrape.
func soundName(name string) bool {
	return name != "" && utf8.ValidString(name) && strings.IndexByte(name, 0) < 0
}

// faulty notes a defect; the first one stays.
func (k *skeleton) faulty(metric int, text string) {
	if k.defect == nil {
		k.defect = &defect{metric: metric, text: text}
	}
}

func (k *skeleton) noteLiteral(name string) {
	if i, ok := slices.BinarySearch(k.literals, name); !ok {
		k.literals = slices.Insert(k.literals, i, name)
	}
}

// findRepeated looks for two series that are equal when empty labels are left out (S7). It is asked only when two hashes
// are equal, which nearly always means that there are such series.
func (k *skeleton) findRepeated() {
	seen := make(map[string]struct{}, k.metrics)
	var id []byte
	for r := k.read(); r.next(); {
		id = r.appendLiterals(id[:0])
		if _, ok := seen[string(id)]; ok {
			k.faulty(r.metric, collectedBefore)
			return
		}
		seen[string(id)] = struct{}{}
	}
}

// bucketed says whether the family's series are buckets, a sum and a count.
func (k *skeleton) bucketed() bool {
	return k.typ == exposition.Histogram || k.typ == exposition.GaugeHistogram
}

// simple says whether a metric of the family is one line.
func (k *skeleton) simple() bool { return !k.bucketed() && k.typ != exposition.Summary }

// linesOf returns the exposition lines of a metric with that many buckets or quantiles.
func (k *skeleton) linesOf(bounds int) int {
	if k.simple() {
		return 1
	}
	return bounds + 2
}

// contains says whether some metric has that sum of label hashes. It means "probably": see sharedSeries.
func (k *skeleton) contains(sum uint64) bool {
	_, ok := slices.BinarySearch(k.sums, sum)
	return ok
}

// A reader walks the metrics of a skeleton.
type reader struct {
	k    *skeleton
	rest string

	// The current metric.
	metric   int
	repeated bool // labels are those of the metric before
	labels   []labelSlot
	values   []string // of the labels, in their order; empty for holes
	bounds   []float64
}

// A labelSlot is one label of a metric: a pushed one, or the hole for a grouping label.
type labelSlot struct {
	name string
	hole int // index of the grouping label, or -1
}

// read returns a reader that stands before the first metric.
func (k *skeleton) read() *reader { return &reader{k: k, rest: k.encoding[k.start:], metric: -1} }

// next moves to the next metric and says whether there is one.
func (r *reader) next() bool {
	if r.metric+1 >= r.k.metrics {
		return false
	}
	r.metric++
	flags := r.rest[0]
	r.rest = r.rest[1:]
	r.repeated = flags&sameLayout != 0
	if !r.repeated {
		r.readLayout()
	}
	for i := range r.labels {
		if r.labels[i].hole < 0 {
			r.values[i], r.rest = cutText(r.rest)
		}
	}
	if !r.k.simple() && flags&sameBounds == 0 {
		r.readBounds()
	}
	return true
}

func (r *reader) readLayout() {
	var n, ref uint64
	n, r.rest = cutUvarint(r.rest)
	r.labels = r.labels[:0]
	for range n {
		ref, r.rest = cutUvarint(r.rest)
		if ref > 0 {
			r.labels = append(r.labels, labelSlot{name: r.k.holes[ref-1], hole: int(ref) - 1})
			continue
		}
		var name string
		name, r.rest = cutText(r.rest)
		r.labels = append(r.labels, labelSlot{name: name, hole: -1})
	}
	r.values = append(r.values[:0], make([]string, n)...)
}

func (r *reader) readBounds() {
	var n uint64
	n, r.rest = cutUvarint(r.rest)
	r.bounds = r.bounds[:0]
	for range n {
		bits := binary.LittleEndian.Uint64([]byte(r.rest[:8]))
		r.bounds = append(r.bounds, math.Float64frombits(bits))
		r.rest = r.rest[8:]
	}
}

// appendLiterals appends the pushed labels of the current metric that are not empty, in a form that tells different sets
// apart.
func (r *reader) appendLiterals(dst []byte) []byte {
	for i, l := range r.labels {
		if l.hole < 0 && r.values[i] != "" {
			dst = appendText(dst, l.name)
			dst = appendText(dst, r.values[i])
		}
	}
	return dst
}

func appendText[T ~string | ~[]byte](dst []byte, text T) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(text)))
	return append(dst, text...)
}

func cutText(s string) (text, rest string) {
	n, s := cutUvarint(s)
	return s[:n], s[n:]
}

func cutUvarint(s string) (v uint64, rest string) {
	for shift := 0; ; shift += 7 {
		b := s[0]
		s = s[1:]
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v, s
		}
	}
}
