package groupstore

import (
	"encoding/binary"

	"pushrelay/internal/fields"
	"pushrelay/internal/lifetime"
	"pushrelay/internal/series"
)

// What wrote the records before format 3, for tests that they are read as what they were.

// AppendFormerEffect appends the record of a change at its position. It refers to nothing else, so that it means the same
// wherever it is read.
func AppendFormerEffect(dst []byte, position uint64, c Effect) []byte {
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

// appendMarks writes marks. None are one zero byte.
func appendMarks(dst []byte, marks []mark) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(marks)))
	for _, m := range marks {
		dst = fields.AppendText(dst, m.source.name)
		dst = binary.AppendUvarint(dst, m.sequence)
		dst = append(dst, m.digest[:]...)
		if m.rejected {
			dst = append(dst, formerRejected)
		} else {
			dst = append(dst, formerTaken)
		}
		dst = binary.AppendVarint(dst, m.at)
	}
	return dst
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

// appendAnswer writes an answer, or that there is none.
func appendAnswer(dst []byte, a *answer) []byte {
	if a == nil {
		return append(dst, 0)
	}
	number := byte(0)
	for i, kind := range answerKinds {
		if kind == a.kind {
			number = byte(i)
		}
	}
	dst = append(append(append(dst, 1, number), a.key[:]...), a.digest[:]...)
	return fields.AppendText(binary.AppendVarint(dst, a.at), a.detail)
}

// FormerRecords returns the records of a cut.
func (c *Cut) FormerRecords() (all [][]byte) {
	w := formerCutWriter{numbers: make(map[*series.Set]uint64)}
	yield := func(record []byte) bool {
		all = append(all, append([]byte(nil), record...))
		return true
	}
	yield(w.head(c.position))
	for _, st := range c.states {
		if st != nil {
			w.group(st, yield)
		}
	}
	for i := range c.traces {
		yield(w.trace(&c.traces[i]))
	}
	for _, a := range c.answers {
		yield(w.answerOf(a))
	}
	for i := range c.sources {
		yield(w.source(&c.sources[i]))
	}
	return all
}

// A formerCutWriter writes records. Sets are numbered in the order in which they are first needed.
type formerCutWriter struct {
	numbers map[*series.Set]uint64
	buf     []byte
}

func (w *formerCutWriter) begin(kind byte) { w.buf = append(w.buf[:0], plainFormat, kind) }

func (w *formerCutWriter) head(position uint64) []byte {
	w.begin(cutRecord)
	w.buf = binary.AppendUvarint(w.buf, position)
	return w.buf
}

func (w *formerCutWriter) trace(t *tracedMark) []byte {
	w.begin(traceRecord)
	w.buf = fields.AppendText(w.buf, t.source)
	w.buf = binary.BigEndian.AppendUint64(w.buf, uint64(t.key))
	w.buf = binary.AppendUvarint(w.buf, t.sequence)
	w.buf = binary.BigEndian.AppendUint64(w.buf, t.digest)
	w.buf = binary.AppendUvarint(w.buf, t.stamp)
	if t.passed > 0 {
		return append(w.buf, tracePassed)
	}
	return append(w.buf, traceFresh)
}

func (w *formerCutWriter) source(d *decided) []byte {
	w.begin(sourceRecord)
	w.buf = fields.AppendText(w.buf, d.name)
	w.buf = binary.AppendUvarint(w.buf, d.sequence)
	w.buf = append(w.buf, d.digest[:]...)
	return w.buf
}

// group writes a group, and before it the sets that no group before it had.
func (w *formerCutWriter) group(st *state, yield func([]byte) bool) bool {
	for i := range st.parts {
		k := st.parts[i].set
		if _, ok := w.numbers[k]; ok {
			continue
		}
		w.numbers[k] = uint64(len(w.numbers))
		w.begin(setRecord)
		w.buf = k.AppendEncoding(w.buf)
		if !yield(w.buf) {
			return false
		}
	}
	noted := st.noted()
	life := st.declared()
	format := formatFor(life, noted.broken)
	w.buf = append(w.buf[:0], format, groupRecord)
	w.buf = fields.AppendText(w.buf, st.group.key.Canonical())
	w.buf = binary.AppendUvarint(w.buf, st.version)
	w.buf = binary.AppendUvarint(w.buf, st.group.born)
	w.buf = binary.AppendVarint(w.buf, st.pushed)
	w.buf = binary.AppendVarint(w.buf, noted.failed)
	w.buf = fields.AppendText(w.buf, noted.reason)
	w.buf = appendMarks(w.buf, noted.marks)
	w.buf = fields.AppendText(w.buf, noted.hidden)
	w.buf = appendLife(w.buf, format, life, noted.broken)
	w.buf = binary.AppendUvarint(w.buf, uint64(len(st.parts)))
	for i := range st.parts {
		w.part(&st.parts[i], st.pushed)
	}
	for i := range st.parts {
		w.buf = append(w.buf, st.parts[i].values...)
	}
	return yield(w.buf)
}

func (w *formerCutWriter) part(p *part, pushed int64) {
	w.buf = binary.AppendUvarint(w.buf, w.numbers[p.set])
	w.buf = binary.AppendVarint(w.buf, p.pushed-pushed)
	w.buf = binary.AppendUvarint(w.buf, uint64(len(p.values)))
	if p.hidden == nil {
		w.buf = append(w.buf, partExposed)
		return
	}
	w.buf = append(w.buf, partHidden)
	w.buf = binary.AppendUvarint(w.buf, p.hidden.order)
	w.buf = fields.AppendText(w.buf, p.hidden.reason)
	w.buf = fields.AppendText(w.buf, p.hidden.name)
	by := ""
	if p.hidden.by != nil {
		by = p.hidden.by.key.Canonical()
	}
	w.buf = fields.AppendText(w.buf, by)
}

// answerOf writes the record of an answer in a cut.
func (w *formerCutWriter) answerOf(a keyedAnswer) []byte {
	w.buf = append(w.buf[:0], lifeFormat, answerRecord)
	w.buf = fields.AppendText(w.buf, a.canonical)
	w.buf = appendAnswer(w.buf, a.answer)
	return w.buf
}
