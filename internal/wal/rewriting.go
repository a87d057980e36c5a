package wal

import (
	"encoding/binary"
	"errors"
)

// rewriting is a file that a repair makes. After an error its methods do nothing.
type rewriting struct {
	file   File
	head   header
	offset int64
	buf    []byte
	err    error
}

// batch writes one.
func (w *rewriting) batch(number uint64, kind batchKind, count int, body []byte) {
	w.buf = append(emptyBatch(w.buf), body...)
	w.head.seal(w.buf, number, kind, count)
	w.write(w.buf)
}

// gap writes that batches are missing.
func (w *rewriting) gap(first, last uint64) {
	w.batch(first, gap, 0, binary.LittleEndian.AppendUint64(nil, last))
}

// begin writes the header of a file that was written behind the place for it.
func (w *rewriting) begin() {
	if w.err == nil {
		_, w.err = w.file.WriteAt(w.head.encode(), 0)
	}
}

// ending writes the end of a snapshot.
func (w *rewriting) ending(number uint64, end snapshotEnd) {
	w.buf = append(w.buf[:0], encodeEnd(end)...)
	w.head.seal(w.buf, number, ending, 0)
	w.write(w.buf)
}

func (w *rewriting) write(b []byte) {
	if w.err != nil {
		return
	}
	_, w.err = w.file.WriteAt(b, w.offset)
	w.offset += int64(len(b))
}

// end syncs and closes the file, and returns the first error.
func (w *rewriting) end() error {
	if w.err == nil {
		w.err = w.file.Sync()
	}
	return errors.Join(w.err, w.file.Close())
}
