package groupstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"pushrelay/internal/change"
	"pushrelay/internal/datadir"
	"pushrelay/internal/fields"
	"pushrelay/internal/grouping"
	"pushrelay/internal/lifetime"
	"pushrelay/internal/series"
)

// The records are how changes and whole stores are written: to a log, to a snapshot, to a backup. Each begins with the
// version of its format and its kind, and a record that is not understood is refused, never taken for another (S2).

// The versions of the format. Each record is written in the lowest that has all that is in it, so that an earlier release reads a store in
// which nothing is that it does not know.
const (
	timelessFormat = 1 // marks had no times; it is read, and never written
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

var (
	errRecord = errors.New("the record makes no sense")
	errHoles  = errors.New("a set of series has other grouping labels than its group")
	errValues = errors.New("values do not fit their series")
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

// AppendEffect appends the record of a change at its position. It refers to nothing else, so that it means the same
// wherever it is read.
func AppendEffect(dst []byte, position uint64, c Effect) []byte {
	format := formatFor(c.life, c.broken)
	if c.answer != nil {
		format = lifeFormat
	}
	dst = append(dst, format, changeRecord, byte(c.Operation))
	dst = binary.AppendUvarint(dst, position)
	dst = fields.AppendText(dst, "") // no tenant: whose store the group is in
	dst = fields.AppendText(dst, c.Key.Canonical())
	dst = binary.AppendUvarint(dst, c.Seen)
	dst = binary.AppendVarint(dst, c.PushedAt)
	dst = binary.AppendVarint(dst, c.FailedAt)
	dst = fields.AppendText(dst, c.Reason)
	dst = appendMarks(dst, c.marks)
	dst = fields.AppendText(dst, c.hidden)
	if format >= lifeFormat {
		dst = appendAnswer(appendLife(dst, format, c.life, c.broken), c.answer)
	}
	dst = binary.AppendUvarint(dst, uint64(len(c.parts)))
	for i := range c.parts {
		k := c.parts[i].set
		dst = k.AppendEncoding(binary.AppendUvarint(dst, uint64(k.Size())))
		dst = binary.AppendVarint(dst, c.parts[i].pushed-c.PushedAt)
		dst = binary.AppendUvarint(dst, uint64(len(c.parts[i].values)))
	}
	for i := range c.parts {
		dst = append(dst, c.parts[i].values...)
	}
	return dst
}

// Replay applies the record of a change that was logged; see Store.again. It keeps nothing of the record.
func (s *Store) Replay(record []byte) error { return s.replay(record, complete) }

// Mend is Replay for a log of which a part is lost: a change is applied to what the group has, even if that is not what it
// had when the change was decided, and positions may be missing. Every change carries whole families, so that what it
// leaves in the group was pushed to it.
func (s *Store) Mend(record []byte) error { return s.replay(record, lossy) }

func (s *Store) replay(record []byte, seq sequence) error {
	s.mu.RLock()
	position, c, err := decodeEffect(record, &s.sets)
	s.mu.RUnlock()
	if err != nil {
		return err
	}
	return s.again(position, c, seq)
}

// decodeEffect reads the record of a change, and keeps nothing of b. Sets that are not in the table are as
// [series.Table.Decode] returns them until the change is applied.
func decodeEffect(b []byte, sets *series.Table) (position uint64, c Effect, err error) {
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

// sound refuses a change that no store decides.
func (c *Effect) sound() error {
	switch c.Operation {
	case change.Replace, change.Merge:
	case change.Delete, change.Fail, change.Wipe, change.Mark, change.Forget:
		if len(c.parts) > 0 {
			return errRecord
		}
	default:
		return fmt.Errorf("%v is not understood", c.Operation)
	}
	if c.Key.IsZero() != (c.Operation == change.Wipe || c.Operation == change.Forget) {
		return errRecord
	}
	if c.Operation == change.Wipe && len(c.marks) > 0 || c.Operation == change.Forget && len(c.marks) != 1 {
		return errRecord
	}
	return nil
}

// appendMarks writes marks. None are one zero byte.
func appendMarks(dst []byte, marks []mark) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(marks)))
	for _, m := range marks {
		dst = fields.AppendText(dst, m.source.name)
		dst = binary.AppendUvarint(dst, m.sequence)
		dst = append(dst, m.digest[:]...)
		if m.rejected {
			dst = append(dst, markRejected)
		} else {
			dst = append(dst, markTaken)
		}
		dst = binary.AppendVarint(dst, m.at)
	}
	return dst
}

// What a mark says of its push.
const (
	markTaken = iota
	markRejected
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
		case markTaken:
		case markRejected:
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

// formatFor returns the format of a record with that life.
func formatFor(life lifetime.Declaration, broken string) byte {
	if life.IsZero() && broken == "" {
		return plainFormat
	}
	return lifeFormat
}

// appendLife writes what was declared of a group's life, as far as the format has it.
func appendLife(dst []byte, format byte, life lifetime.Declaration, broken string) []byte {
	if format < lifeFormat {
		return dst
	}
	t := life.Texts()
	for _, text := range [...]string{t.TTL, t.Every, t.Schedule, t.Grace, broken} {
		dst = fields.AppendText(dst, text)
	}
	return dst
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
