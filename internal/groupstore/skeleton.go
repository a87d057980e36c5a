package groupstore

import (
	"slices"
	"strconv"
	"sync/atomic"
	"unicode/utf8"
)

// A skeleton is one set of series of one metric family: everything about them except their values and the values of the
// grouping labels. Equal skeletons are one object, shared by all groups.
//
// Its neutral form is the encoding, of which it keeps what its heading does not say; everything else is derived from it,
// so that a log or a snapshot can carry the encoding alone (S19). Where groups have label values of their own there are as
// many skeletons as parts, so a skeleton is kept small.
type skeleton struct {
	// Static after construction.
	*heading        // replaced by an equal one until the skeleton enters the table
	rest     string // the encoding from the values of the first metric on
	sum      [1]uint64
	more     *more  // nil for a single metric without a defect
	lines    uint32 // exposition lines: what the limits call series
	legacy   bool   // every name can be written without quotes
	mixed    bool   // not all metrics have the labels of the first

	entered bool         // is in the table, or was and must not come back; guarded by Store.mu
	refs    atomic.Int32 // parts that use it; changed under Store.mu

	renditions atomic.Pointer[rendition] // prepared pieces of output, made when first asked for if several parts use it
}

// More is what only skeletons of several metrics have, and those with a defect.
type more struct {
	sums   []uint64 // one sum of label hashes per metric (see hasher), sorted
	defect *defect
}

// newSkeleton derives a skeleton from the two pieces of its encoding. Hashes are those of the given hasher.
func newSkeleton(head *heading, rest string, h hasher) *skeleton {
	k := &skeleton{heading: head, rest: rest, legacy: head.legacy}
	sums := k.sum[:0]
	if k.metrics > 1 {
		sums = make([]uint64, 0, k.metrics)
	}
	for r := k.read(); r.next(); {
		k.surveyLayout(r)
		sums = append(sums, k.survey(r, h))
		k.lines += uint32(k.typ.Lines(len(r.bounds)))
	}
	if k.metrics == 1 {
		return k
	}
	slices.Sort(sums)
	k.addMore().sums = sums
	for i := 1; i < len(sums) && k.fault() == nil; i++ {
		if sums[i] == sums[i-1] {
			k.findRepeated()
		}
	}
	return k
}

// survey notes what is to be known of the current metric's label values and returns the sum of their hashes.
func (k *skeleton) survey(r *reader, h hasher) (sum uint64) {
	for i, l := range r.labels {
		value := r.values[i]
		if l.hole >= 0 || value == "" {
			continue
		}
		sum += h.pair(l.name, value)
		if !utf8.ValidString(value) {
			k.note(r.metric, "has a label named "+strconv.Quote(brief(l.name, shownBytes))+" whose value is not utf8")
		}
	}
	return sum
}

// surveyLayout does for the labels of further metrics what the heading knows of those of the first.
func (k *skeleton) surveyLayout(r *reader) {
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

func (k *skeleton) addMore() *more {
	if k.more == nil {
		k.more = &more{sums: k.sum[:]}
	}
	return k.more
}

// sums returns one sum of label hashes per metric, sorted.
func (k *skeleton) sums() []uint64 {
	if k.more == nil {
		return k.sum[:]
	}
	return k.more.sums
}

// fault returns why the family can never be exposed, or nil.
func (k *skeleton) fault() *defect {
	if k.faulty {
		return k.defect()
	}
	if k.more == nil {
		return nil
	}
	return k.more.defect
}

// note notes a defect; the first one stays.
func (k *skeleton) note(metric int, text string) {
	if k.fault() == nil {
		k.addMore().defect = &defect{metric: metric, text: text}
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
			k.note(r.metric, collectedBefore)
			return
		}
		seen[string(id)] = struct{}{}
	}
}

// appendEncoding appends the whole encoding.
func (k *skeleton) appendEncoding(dst []byte) []byte {
	return append(append(dst, k.text...), k.rest...)
}

// size is the length of the whole encoding.
func (k *skeleton) size() int { return len(k.text) + len(k.rest) }

// key is what tells skeletons of one heading apart.
func (k *skeleton) key() string { return k.rest }

// equal says whether two skeletons are of the same series.
func (k *skeleton) equal(other *skeleton) bool { return k.text == other.text && k.rest == other.rest }

// contains says whether some metric has that sum of label hashes. It means "probably": see sharedSeries.
func (k *skeleton) contains(sum uint64) bool {
	_, ok := slices.BinarySearch(k.sums(), sum)
	return ok
}
