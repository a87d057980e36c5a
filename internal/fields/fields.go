// Package fields reads records that were written field by field: numbers as varints, texts with their length before them.
//
// Whatever the bytes are, a [Reader] neither panics nor takes memory of their choosing: at the first field that does not fit it turns bad, and
// from then on it yields nothing.
package fields

import "encoding/binary"

// AppendText appends a text with its length before it.
func AppendText[T ~string | ~[]byte](dst []byte, text T) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(text)))
	return append(dst, text...)
}

// A Reader reads one record, from its beginning to its end.
type Reader struct {
	// Rest is what was not read yet.
	Rest []byte
	// Bad says that a field did not fit.
	Bad bool
}

// NewReader returns a reader of b, which it does not change.
func NewReader(b []byte) *Reader { return &Reader{Rest: b} }

// Fail turns the reader bad, for what the caller finds to be wrong with a field.
func (r *Reader) Fail() {
	r.Rest, r.Bad = nil, true
}

// Byte reads a byte.
func (r *Reader) Byte() byte {
	if len(r.Rest) == 0 {
		r.Fail()
		return 0
	}
	b := r.Rest[0]
	r.Rest = r.Rest[1:]
	return b
}

// Uvarint reads a number that is not negative.
func (r *Reader) Uvarint() uint64 {
	v, n := binary.Uvarint(r.Rest)
	if n <= 0 {
		r.Fail()
		return 0
	}
	r.Rest = r.Rest[n:]
	return v
}

// Varint reads a number.
func (r *Reader) Varint() int64 {
	v, n := binary.Varint(r.Rest)
	if n <= 0 {
		r.Fail()
		return 0
	}
	r.Rest = r.Rest[n:]
	return v
}

// Fixed reads a number of eight bytes, the highest first.
func (r *Reader) Fixed() uint64 {
	b := r.Bytes(8)
	if b == nil {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

// Count reads how many things follow, each of which takes at least that many bytes.
func (r *Reader) Count(least int) int {
	n := r.Uvarint()
	if n > uint64(len(r.Rest)/least) {
		r.Fail()
		return 0
	}
	return int(n)
}

// Bytes reads so many bytes. They alias the record.
func (r *Reader) Bytes(n int) []byte {
	if n < 0 || n > len(r.Rest) {
		r.Fail()
		return nil
	}
	b := r.Rest[:n:n]
	r.Rest = r.Rest[n:]
	return b
}

// Text reads what AppendText wrote. It aliases the record.
func (r *Reader) Text() []byte { return r.Bytes(r.Count(1)) }
