package series

import (
	"iter"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"github.com/prometheus/common/model"

	"pushrelay/internal/exposition"
	"pushrelay/internal/fields"
	"pushrelay/internal/grouping"
)

// A Set is one set of series of one metric family: everything about them except their values and the values of the grouping labels, for
// which it has holes. It is made by a [Table], which holds equal sets once.
//
// Where groups have label values of their own there are as many sets as families of groups, so a set is kept small: of the encoding it has
// what its heading does not say.
type Set struct {
	// Static after construction.
	*heading        // replaced by an equal one until the set enters a table
	rest     string // the encoding from the values of the first metric on
	sum      [1]uint64
	more     *more  // nil for a single metric without a defect
	lines    uint32 // exposition lines: what the limits call series
	// Guarded by the lock of the table's owner, as is entered.
	refs atomic.Int32 // parts that use it; also read without the lock

	legacy  bool // every name can be written without quotes
	mixed   bool // not all metrics have the labels of the first
	entered bool // is in the table, or was and must not come back

	renditions atomic.Pointer[rendition] // prepared pieces of output, made when first asked for if several parts use it
}

// More is what only sets of several metrics have, and those with a defect.
type more struct {
	sums   []uint64 // one sum of label hashes per metric (see Hasher), sorted
	defect *defect
}

// A defect is what is wrong with a set by itself.
type defect struct {
	metric int    // the series that shows it, or -1 for the whole family
	text   string // what follows the description of the series
}

// CollectedBefore is what clients know as the word for a series that is there twice.
const CollectedBefore = "was collected before with the same name and label values"

// Lines returns how many exposition lines the series have together.
func (k *Set) Lines() int { return int(k.lines) }

// Metrics returns how many metrics there are: a histogram is one.
func (k *Set) Metrics() int { return int(k.metrics) }

// derive finds out what there is to know of a set that has only its encoding. It uses the memory of scratch, and returns it.
func (k *Set) derive(h Hasher, r *reader, scratch []uint64) []uint64 {
	k.legacy = k.heading.legacy
	sums := scratch[:0]
	for r.reset(k); r.next(); {
		k.surveyLabels(r)
		sums = append(sums, k.survey(r, h))
		k.lines += uint32(k.typ.Lines(len(r.bounds)))
	}
	if k.metrics == 1 {
		k.sum[0] = sums[0]
		return sums
	}
	slices.Sort(sums)
	k.addMore().sums = sums
	for i := 1; i < len(sums) && k.defect() == nil; i++ {
		if sums[i] == sums[i-1] {
			k.findRepeated()
		}
	}
	return sums
}

// survey notes what is to be known of the current metric's label values and returns the sum of their hashes.
func (k *Set) survey(r *reader, h Hasher) (sum uint64) {
	for i, l := range r.labels {
		value := r.values[i]
		if l.hole >= 0 || value == "" {
			continue
		}
		sum += h.Pair(l.name, value)
		if !utf8.ValidString(value) {
			k.note(r.metric, "has a label named "+strconv.Quote(exposition.Shown(l.name))+" whose value is not utf8")
		}
	}
	return sum
}

// surveyLabels does for the label names of further metrics what the heading does for those of the first.
func (k *Set) surveyLabels(r *reader) {
	if r.metric == 0 || r.repeated {
		return
	}
	k.mixed = true
	legacy, fault := k.judgeLabels(r.labels)
	k.legacy = k.legacy && legacy
	if fault != "" {
		k.note(r.metric, fault)
	}
}

func (k *Set) addMore() *more {
	if k.more == nil {
		k.more = &more{sums: k.sum[:]}
	}
	return k.more
}

// Sums returns one sum of label hashes per metric, sorted. They are not to be changed. Equal sums mean "probably the same labels".
func (k *Set) Sums() []uint64 {
	if k.more == nil {
		return k.sum[:]
	}
	return k.more.sums
}

// ContainsSum says whether a metric has that sum.
func (k *Set) ContainsSum(sum uint64) bool {
	_, ok := slices.BinarySearch(k.Sums(), sum)
	return ok
}

func (k *Set) defect() *defect {
	if k.faulty {
		return k.heading.defect()
	}
	if k.more == nil {
		return nil
	}
	return k.more.defect
}

// note notes a defect; the first one stays.
func (k *Set) note(metric int, text string) {
	if k.defect() == nil {
		k.addMore().defect = &defect{metric: metric, text: text}
	}
}

// findRepeated looks for two series that are equal when empty labels are left out (S7). It is asked only when two sums are equal, which
// nearly always means that there are such series.
func (k *Set) findRepeated() {
	seen := make(map[string]struct{}, k.metrics)
	var id []byte
	for r := k.read(); r.next(); {
		id = r.appendLabels(id[:0], grouping.Key{})
		if _, ok := seen[string(id)]; ok {
			k.note(r.metric, CollectedBefore)
			return
		}
		seen[string(id)] = struct{}{}
	}
}

// Fault returns why the series can never be exposed, for people; empty if they can. Behind what says that one is there twice goes inVain, which is
// that of [Encoder.InVain] or nothing.
func (k *Set) Fault(inVain string) string {
	d := k.defect()
	if d == nil {
		return ""
	}
	if d.text != CollectedBefore {
		inVain = ""
	}
	return k.Describe(d.metric) + d.text + inVain
}

// Describe returns the beginning of an error about one of the metrics, with its labels as they were pushed and a blank at its end; -1 stands for
// none of them.
func (k *Set) Describe(metric int) string {
	text := "collected metric " + strconv.Quote(exposition.Shown(k.Name())) + " "
	for r := k.read(); metric >= 0 && r.next(); {
		if r.metric == metric {
			return text + exposition.Shown(string(r.appendShown(nil))) + " "
		}
	}
	return text
}

// Labelled yields the metrics that have a pushed label of that name whose value is not empty, each with the value.
func (k *Set) Labelled(name string) iter.Seq2[int, string] {
	return func(yield func(int, string) bool) {
		if !k.mixed && !strings.Contains(k.text, name) {
			return
		}
		for r := k.read(); r.next(); {
			if value := r.literal(name); value != "" && !yield(r.metric, value) {
				return
			}
		}
	}
}

// LabelValues yields, for each metric, the values of its pushed labels of these names, empty for those that it does not have. The slice is
// the same each time.
func (k *Set) LabelValues(names []string) iter.Seq[[]string] {
	return func(yield func([]string) bool) {
		values := make([]string, len(names))
		for r := k.read(); r.next(); {
			for i, name := range names {
				values[i] = r.literal(name)
			}
			if !yield(values) {
				return
			}
		}
	}
}

// Shared returns a metric of the set that is, in the group of that key, the same series as one of the other set in its group. It takes time
// proportional to both.
func (k *Set) Shared(key grouping.Key, other *Set, otherKey grouping.Key) (metric int, ok bool) {
	theirs := make(map[string]struct{}, other.metrics)
	var id []byte
	for r := other.read(); r.next(); {
		id = r.appendLabels(id[:0], otherKey)
		theirs[string(id)] = struct{}{}
	}
	for r := k.read(); r.next(); {
		id = r.appendLabels(id[:0], key)
		if _, ok := theirs[string(id)]; ok {
			return r.metric, true
		}
	}
	return 0, false
}

// AppendEncoding appends the encoding.
func (k *Set) AppendEncoding(dst []byte) []byte {
	return append(append(dst, k.text...), k.rest...)
}

// Size is the length of the encoding.
func (k *Set) Size() int { return len(k.text) + len(k.rest) }

// Key is what tells sets of one heading apart.
func (k *Set) Key() string { return k.rest }

// Equal says whether two sets are of the same series.
func (k *Set) Equal(other *Set) bool { return k.text == other.text && k.rest == other.rest }

// HasValuesOnly says whether values of the set are numbers and nothing else: no created timestamps, nothing that only protobuf can say.
func (k *Set) HasValuesOnly() bool { return k.flags&(hasCreated|hasExtra) == 0 }

// Touch reads a byte from where the processor will have to read when the set is rendered.
func (k *Set) Touch() byte {
	if k.rest == "" {
		return 0
	}
	return k.rest[0]
}

// appendLabels appends all labels of the current metric in a group that are not empty, in a form that tells different series apart.
func (r *reader) appendLabels(dst []byte, key grouping.Key) []byte {
	for i, l := range r.labels {
		value := r.values[i]
		if l.hole >= 0 {
			value, _ = key.Get(l.name)
		}
		if value != "" {
			dst = fields.AppendText(dst, l.name)
			dst = fields.AppendText(dst, value)
		}
	}
	return dst
}

// appendShown appends the pushed labels of the current metric in braces, for people. An instance without a value is left out, since hardly anybody
// pushes one: every metric without an instance gets it.
func (r *reader) appendShown(dst []byte) []byte {
	dst = append(dst, '{')
	first := len(dst)
	for i, l := range r.labels {
		if l.hole >= 0 || l.name == model.InstanceLabel && r.values[i] == "" {
			continue
		}
		if len(dst) > first {
			dst = append(dst, ',')
		}
		dst = append(exposition.AppendLabelName(dst, l.name), '=', '"')
		dst = append(exposition.AppendEscapedLabelValue(dst, r.values[i]), '"')
	}
	return append(dst, '}')
}
