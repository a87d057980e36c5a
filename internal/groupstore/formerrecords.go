package groupstore

import (
	"fmt"
	"slices"
	"time"

	"pushrelay/internal/change"
	"pushrelay/internal/datadir"
	"pushrelay/internal/fields"
	"pushrelay/internal/grouping"
	"pushrelay/internal/lifetime"
	"pushrelay/internal/series"
)

// Records as they were before format 3, which are read and never written: each begins with the version of its format and its kind.

// The versions of the format. Each record was written in the lowest that had all that is in it.
const (
	timelessFormat = 1 // marks had no times
	plainFormat    = 2
	lifeFormat     = 3 // what was declared of a group's life, and why its job failed

	newestFormat = lifeFormat
)

// The kinds of records.
const (
	changeRecord    = 1 + iota // one change
	cutRecord                  // begins a cut: the position that it was made at
	setRecord                  // one set of series of a cut; parts refer to them by their number in the cut
	groupRecord                // one group of a cut
	tombstoneRecord            // in format 1: what is left of a group that is not in the cut
	sourceRecord               // how far a source of marks was decided
	traceRecord                // what is left of a mark in a group that is not there
	answerRecord               // what was answered to a push with a key
)

// A recordReader reads one record.
type recordReader struct {
	fields.Reader

	format byte // of the record
}

// openRecord checks the beginning of a record.
func openRecord(b []byte) (kind byte, c *recordReader, err error) {
	c = &recordReader{Reader: *fields.NewReader(b)}
	c.format = c.Byte()
	kind = c.Byte()
	if !c.Bad && c.format > newestFormat {
		return 0, nil, &datadir.NewerError{What: "a record of the store", Format: uint64(c.format), Known: newestFormat}
	}
	if c.Bad || c.format < timelessFormat {
		return 0, nil, errRecord
	}
	return kind, c, nil
}

// decodeFormerEffect reads the record of a change, and keeps nothing of b. Sets that are not in the table are as
// [series.Table.Decode] returns them until the change is applied.
func decodeFormerEffect(b []byte, sets *series.Table) (position uint64, c Effect, err error) {
	kind, r, err := openRecord(b)
	if err != nil {
		return 0, Effect{}, fmt.Errorf("decoding a change: %w", err)
	}
	if kind != changeRecord {
		return 0, Effect{}, fmt.Errorf("decoding a change: the record is of kind %d", kind)
	}
	c.Operation = change.Operation(r.Byte())
	position = r.Uvarint()
	if tenant := r.Text(); len(tenant) > 0 {
		return 0, Effect{}, fmt.Errorf("decoding the change at position %d: it belongs to tenant %q", position, tenant)
	}
	canonical := r.Text()
	c.Seen, c.PushedAt, c.FailedAt = r.Uvarint(), r.Varint(), r.Varint()
	c.Reason = string(r.Text())
	c.marks = decodeMarks(r)
	c.hidden = string(r.Text())
	if c.life, c.broken = decodeLife(r); r.format >= lifeFormat {
		c.answer = decodeAnswer(r)
	}
	if r.Bad {
		return 0, Effect{}, fmt.Errorf("decoding a change: %w", errRecord)
	}
	if c.Key, err = grouping.FromCanonical(string(canonical)); err != nil {
		return 0, Effect{}, fmt.Errorf("decoding a change: %w", err)
	}
	if err := c.decodeParts(r, sets); err != nil {
		return 0, Effect{}, fmt.Errorf("decoding a change of group %v: %w", c.Key, err)
	}
	if err := c.sound(); err != nil {
		return 0, Effect{}, fmt.Errorf("decoding a change of group %v: %w", c.Key, err)
	}
	return position, c, nil
}

// What a mark says of its push.
const (
	formerTaken = iota
	formerRejected
)

// leastMark is the size of the smallest mark in a record.
const leastMark = 2 + 1 + 16 + 1

// decodeMarks reads marks, with stand-ins for their sources.
func decodeMarks(r *recordReader) []mark {
	n := r.Count(leastMark)
	if n > maxMarks {
		r.Fail()
	}
	var marks []mark
	for range n {
		m := mark{source: &source{name: string(r.Text())}, sequence: r.Uvarint()}
		copy(m.digest[:], r.Bytes(len(m.digest)))
		switch r.Byte() {
		case formerTaken:
		case formerRejected:
			m.rejected = true
		default:
			r.Fail()
		}
		again := slices.ContainsFunc(marks, func(other mark) bool { return other.source.name == m.source.name })
		if r.format > timelessFormat {
			m.at = r.Varint()
		}
		if r.Bad || m.source.name == "" || m.sequence == 0 || again {
			r.Fail()
			return nil
		}
		marks = append(marks, m)
	}
	return marks
}

func decodeLife(r *recordReader) (life lifetime.Declaration, broken string) {
	if r.format < lifeFormat {
		return life, ""
	}
	t := lifetime.Texts{TTL: string(r.Text()), Every: string(r.Text()), Schedule: string(r.Text()), Grace: string(r.Text())}
	broken = string(r.Text())
	life, err := lifetime.Restore(t)
	if err != nil || !life.IsKept() || len(broken) > change.MaxFailedBytes {
		r.Fail()
	}
	return life, broken
}

// leastPart is the size of the smallest part in a record.
const leastPart = 3

// decodeParts reads the parts of a change. All their values are cut from one string.
func (c *Effect) decodeParts(r *recordReader, sets *series.Table) error {
	labels := c.Key.Labels()
	sizes := []int{}
	for range r.Count(leastPart) {
		encoding := r.Text()
		pushed := c.PushedAt + r.Varint()
		size := r.Uvarint()
		if r.Bad || size > uint64(len(r.Rest)) {
			return errRecord
		}
		k, err := sets.Decode(encoding)
		if err != nil {
			return err
		}
		if !k.HasHoles(labels) {
			return errHoles
		}
		if n := len(c.parts); n > 0 && c.parts[n-1].set.Name() >= k.Name() {
			return errRecord
		}
		c.parts = append(c.parts, part{set: k, pushed: pushed})
		c.lines += k.Lines()
		sizes = append(sizes, int(size))
	}
	if r.Bad {
		return errRecord
	}
	return c.decodeValues(r.Rest, sizes)
}

// decodeValues cuts the values of the parts, which are all that is left of the record.
func (c *Effect) decodeValues(rest []byte, sizes []int) error {
	c.valueSize = len(rest)
	values := string(rest)
	for i, size := range sizes {
		if size > len(rest) {
			return errRecord
		}
		if !c.parts[i].set.Fits(rest[:size]) {
			return errValues
		}
		c.parts[i].values, values, rest = values[:size], values[size:], rest[size:]
	}
	if len(rest) > 0 {
		return errRecord
	}
	return nil
}

// decodeAnswer reads an answer, nil for none.
func decodeAnswer(r *recordReader) *answer {
	switch r.Byte() {
	case 0:
		return nil
	case 1:
	default:
		r.Fail()
		return nil
	}
	number := r.Byte()
	a := &answer{}
	copy(a.key[:], r.Bytes(len(a.key)))
	copy(a.digest[:], r.Bytes(len(a.digest)))
	a.at, a.detail = r.Varint(), string(r.Text())
	if r.Bad || int(number) >= len(answerKinds) {
		r.Fail()
		return nil
	}
	a.kind = answerKinds[number]
	return a
}

// formerChangeTime returns when what a change's record tells of happened, the zero time if it does not say.
func formerChangeTime(record []byte) time.Time {
	kind, r, err := openRecord(record)
	if err != nil || kind != changeRecord {
		return time.Time{}
	}
	r.Byte()
	r.Uvarint()
	r.Text()
	r.Text()
	r.Uvarint()
	at := max(r.Varint(), r.Varint())
	if r.Bad {
		return time.Time{}
	}
	return changeTime(at)
}
