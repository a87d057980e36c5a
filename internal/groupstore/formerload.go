package groupstore

import (
	"fmt"

	"pushrelay/internal/change"
	"pushrelay/internal/grouping"
	"pushrelay/internal/series"
)

// addFormer takes the next record of a cut as it was written before format 3.
func (l *Loader) addFormer(record []byte) error {
	kind, r, err := openRecord(record)
	if err != nil {
		return err
	}
	if !l.begun && kind != cutRecord && !l.lossy {
		return errNoHead
	}
	switch kind {
	case cutRecord:
		position := r.Uvarint()
		if r.Bad || len(r.Rest) > 0 {
			return errRecord
		}
		return l.begin(position)
	case setRecord:
		return l.addSet(r.Rest)
	case groupRecord:
		return l.addFormerGroup(r)
	case tombstoneRecord:
		return l.addTombstone(r)
	case traceRecord:
		return l.addFormerTrace(r)
	case answerRecord:
		return l.addFormerAnswer(r)
	case sourceRecord:
		return l.addFormerSource(r)
	default:
		return fmt.Errorf("records of kind %d are not understood", kind)
	}
}

func (l *Loader) addSet(encoding []byte) error {
	k, err := l.s.sets.Decode(encoding)
	if err != nil {
		return err
	}
	k = l.s.sets.Adopt(k)
	if l.adrift {
		l.drifting = append(l.drifting, k)
		return nil
	}
	l.sets = append(l.sets, k)
	return nil
}

func (l *Loader) addFormerGroup(r *recordReader) error {
	if err := l.numberDrifting(*r); err != nil {
		return err
	}
	lg, err := l.decodeFormerGroup(r)
	if err != nil {
		return err
	}
	return l.enter(&lg)
}

// addTombstone takes what is left of a group, as format 1 had it.
func (l *Loader) addTombstone(r *recordReader) error {
	key, err := grouping.FromCanonical(string(r.Text()))
	if err != nil {
		return err
	}
	marks := decodeMarks(r)
	if r.Bad || len(r.Rest) > 0 || key.IsZero() || len(marks) == 0 {
		return errRecord
	}
	if l.s.groups.byKey[key.Canonical()] != nil {
		return fmt.Errorf("group %v is there twice", key)
	}
	l.s.commit(&Effect{Operation: change.Mark, Key: key, marks: l.s.origins.adoptMarks(marks)}, nil)
	return nil
}

// addFormerSource takes how far a source was decided.
func (l *Loader) addFormerSource(r *recordReader) error {
	d := decided{name: string(r.Text()), sequence: r.Uvarint()}
	copy(d.digest[:], r.Bytes(len(d.digest)))
	if r.Bad || len(r.Rest) > 0 {
		return errRecord
	}
	return l.enterSource(d)
}

// The ways in which a trace was kept.
const (
	traceFresh = iota
	tracePassed
)

// addFormerTrace takes what is left of a mark. Those that are passed came in the order in which they were.
func (l *Loader) addFormerTrace(r *recordReader) error {
	t := tracedMark{source: string(r.Text()), keyedTrace: keyedTrace{traceKey(r.Fixed()), trace{sequence: r.Uvarint(), digest: r.Fixed(), stamp: r.Uvarint()}}}
	passed := r.Byte()
	if r.Bad || len(r.Rest) > 0 || t.source == "" || t.sequence == 0 || passed > tracePassed {
		return errRecord
	}
	if passed == tracePassed {
		t.passed = l.s.origins.passes + 1
	}
	return l.enterTrace(t)
}

// addFormerAnswer takes an answer of a cut.
func (l *Loader) addFormerAnswer(r *recordReader) error {
	canonical := string(r.Text())
	a := decodeAnswer(r)
	if r.Bad || a == nil || len(r.Rest) > 0 {
		return errRecord
	}
	l.s.answers.add(keyedAnswer{canonical, uint64(len(l.s.answers.oldest)) + 1, a}) // each change has one at most, so that these are positions of the past
	return nil
}

// decodeFormerGroup reads a group as the change that makes it.
func (l *Loader) decodeFormerGroup(r *recordReader) (loadedGroup, error) {
	var lg loadedGroup
	c := &lg.effect
	c.Operation = change.Replace
	canonical := r.Text()
	lg.version, lg.born = r.Uvarint(), r.Uvarint()
	c.PushedAt, c.FailedAt = r.Varint(), r.Varint()
	c.Reason = string(r.Text())
	c.marks = l.s.origins.adoptMarks(decodeMarks(r))
	c.hidden = string(r.Text())
	c.life, c.broken = decodeLife(r)
	var err error
	if c.Key, err = grouping.FromCanonical(string(canonical)); err != nil {
		return lg, err
	}
	if r.Bad {
		return lg, errRecord
	}
	if err := l.place(&lg); err != nil {
		return lg, err
	}
	labels := c.Key.Labels()
	var sizes []int
	var skip []bool
	for range r.Count(leastPart + 1) {
		number, pushed, size := r.Uvarint(), c.PushedAt+r.Varint(), r.Uvarint()
		h, hidden := decodeHiding(r)
		unknown := number >= uint64(len(l.sets)) || l.sets[number] == nil
		if r.Bad || unknown && !l.lossy || size > uint64(len(r.Rest)) {
			return lg, errRecord
		}
		sizes, skip = append(sizes, int(size)), append(skip, unknown)
		if unknown {
			lg.lost++
			continue
		}
		k := l.s.sets.Intern(l.sets[number]) // it may be equal to one that has come since
		l.sets[number] = k
		if !k.HasHoles(labels) {
			return lg, errHoles
		}
		if n := len(c.parts); n > 0 && c.parts[n-1].set.Name() >= k.Name() {
			return lg, errRecord
		}
		p := part{set: k, pushed: pushed}
		if hidden {
			h.family, p.hidden = k.Name(), h.h
			lg.hidings = append(lg.hidings, h)
		}
		c.parts = append(c.parts, p)
		c.lines += k.Lines()
	}
	if r.Bad || c.hidden != "" && len(lg.hidings) != len(c.parts) {
		return lg, errRecord
	}
	values := r.Rest
	if lg.lost > 0 {
		if values, sizes, err = keptValues(values, sizes, skip); err != nil {
			return lg, err
		}
	}
	return lg, c.decodeValues(values, sizes)
}

// The ways in which a part of a group record was kept.
const (
	partExposed = iota
	partHidden
)

func decodeHiding(r *recordReader) (h loadedHiding, hidden bool) {
	switch r.Byte() {
	case partExposed:
		return h, false
	case partHidden:
		h.order = r.Uvarint()
		h.h = &hiding{reason: string(r.Text()), name: string(r.Text())}
		h.by = string(r.Text())
		return h, true
	default:
		r.Fail()
		return h, false
	}
}

// Of former records sets were numbered by their place in the cut, so that behind a gap their numbers are not known at first; but each was written just
// before the first group that had it, and that group names the numbers.

// numberDrifting gives the sets that were read since a gap their numbers, of which the group that follows them has the highest.
func (l *Loader) numberDrifting(group recordReader) error {
	if len(l.drifting) == 0 {
		return nil
	}
	highest, some := highestSet(&group)
	first := highest + 1 - uint64(len(l.drifting))
	if !some || highest+1 < uint64(len(l.drifting)) || first < uint64(len(l.sets)) || first-uint64(len(l.sets)) > maxAdrift {
		return errRecord
	}
	l.sets = append(l.sets, make([]*series.Set, first-uint64(len(l.sets)))...)
	l.sets = append(l.sets, l.drifting...)
	l.drifting, l.adrift = nil, false
	return nil
}

// highestSet returns the highest number of a set that a group record names; false if it has none.
func highestSet(r *recordReader) (highest uint64, some bool) {
	r.Text()
	r.Uvarint()
	r.Uvarint()
	r.Varint()
	r.Varint()
	r.Text()
	decodeMarks(r)
	r.Text()
	decodeLife(r)
	for range r.Count(leastPart + 1) {
		highest, some = max(highest, r.Uvarint()), true
		r.Varint()
		r.Uvarint()
		decodeHiding(r)
	}
	return highest, some && !r.Bad
}

// keptValues returns the values of the parts that are kept, in order.
func keptValues(values []byte, sizes []int, skip []bool) ([]byte, []int, error) {
	var rest []byte
	var of []int
	for i, size := range sizes {
		if size > len(values) {
			return nil, nil, errRecord
		}
		if !skip[i] {
			rest, of = append(rest, values[:size]...), append(of, size)
		}
		values = values[size:]
	}
	if len(values) > 0 {
		return nil, nil, errRecord
	}
	return rest, of, nil
}
