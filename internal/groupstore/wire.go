package groupstore

import (
	"encoding/binary"
	"errors"
	"iter"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// Changes and groups are written and read by hand, since each push writes one and a start reads all of them: what they are made of is not copied into
// messages first. Tests hold that against the generated code. What another program may have written in another order, or in several pieces, the generated
// code puts right (normal).

// errUnusual means that a message is sound as far as it was read, and not written as the generated code would write it.
var errUnusual = errors.New("the message is written in an unusual way")

// Types of fields on the wire, as they stand in the lowest bits of a tag.
const (
	varintType  = uint64(protowire.VarintType)
	fixed64Type = uint64(protowire.Fixed64Type)
	bytesType   = uint64(protowire.BytesType)
)

// A wireField is one field of a message.
type wireField struct {
	tag   uint64 // number and type
	n     uint64 // of a number
	bytes []byte // of anything with a length
	raw   []byte // the field as it is written
}

// cutField cuts the first field off a message.
func cutField(b []byte) (f wireField, rest []byte, ok bool) {
	tag, n := binary.Uvarint(b)
	if n <= 0 || tag>>3 == 0 || tag>>3 > uint64(protowire.MaxValidNumber) {
		return f, nil, false
	}
	f.tag, rest = tag, b[n:]
	switch tag & 7 {
	case varintType:
		f.n, n = binary.Uvarint(rest)
		if n <= 0 {
			return f, nil, false
		}
		rest = rest[n:]
	case fixed64Type:
		if len(rest) < 8 {
			return f, nil, false
		}
		f.n, rest = binary.LittleEndian.Uint64(rest), rest[8:]
	case bytesType:
		size, n := binary.Uvarint(rest)
		if n <= 0 || size > uint64(len(rest)-n) {
			return f, nil, false
		}
		f.bytes, rest = rest[n:n+int(size)], rest[n+int(size):]
	default:
		n = protowire.ConsumeFieldValue(protowire.Number(tag>>3), protowire.Type(tag&7), rest)
		if n < 0 {
			return f, nil, false
		}
		rest = rest[n:]
	}
	f.raw = b[:len(b)-len(rest)]
	return f, rest, true
}

// fieldsOf yields the fields of a message with their tags, as far as it can be read.
func fieldsOf(b []byte) iter.Seq2[uint64, wireField] {
	return func(yield func(uint64, wireField) bool) {
		for len(b) > 0 {
			f, rest, ok := cutField(b)
			if !ok || !yield(f.tag, f) {
				return
			}
			b = rest
		}
	}
}

// later keeps a field that is none of the known ones, which have the numbers up to there.
func (f *wireField) later(known uint64, fields *[]byte) error {
	if f.tag>>3 <= known {
		return errUnusual
	}
	*fields = append(*fields, f.raw...)
	return nil
}

// once notes a field that is there once, unless it comes again.
func (f *wireField) once(into *[]byte) error {
	if *into != nil {
		return errUnusual
	}
	*into = f.bytes
	if *into == nil {
		*into = []byte{}
	}
	return nil
}

// normal returns a message as the generated code writes it.
func normal(b []byte, m proto.Message) ([]byte, error) {
	if err := proto.Unmarshal(b, m); err != nil {
		return nil, errRecord
	}
	return encodeMessage(m), nil
}

// readMessage reads a message, if necessary once it is written as usual.
func readMessage(b []byte, m proto.Message, read func([]byte) error) error {
	err := read(b)
	if !errors.Is(err, errUnusual) {
		return err
	}
	if b, err = normal(b, m); err != nil {
		return err
	}
	if err = read(b); errors.Is(err, errUnusual) {
		return errRecord // a known field has another type
	}
	return err
}

// The sizes of fields whose numbers are below 16, and what appends them. Such that are zero, or empty, are left out.

func sizeOfVarint(n uint64) int {
	if n == 0 {
		return 0
	}
	return 1 + protowire.SizeVarint(n)
}

func sizeOfFixed(n int64) int {
	if n == 0 {
		return 0
	}
	return 9
}

func sizeOfBytes(n int) int {
	if n == 0 {
		return 0
	}
	return sizeOfMessage(n)
}

// sizeOfMessage is of one that is there, whatever is in it.
func sizeOfMessage(n int) int { return 1 + protowire.SizeVarint(uint64(n)) + n }

func appendVarintField(dst []byte, number, n uint64) []byte {
	if n == 0 {
		return dst
	}
	return binary.AppendUvarint(append(dst, byte(number<<3|varintType)), n)
}

func appendFixedField(dst []byte, number uint64, n int64) []byte {
	if n == 0 {
		return dst
	}
	return binary.LittleEndian.AppendUint64(append(dst, byte(number<<3|fixed64Type)), uint64(n))
}

func appendBytesField[T ~string | ~[]byte](dst []byte, number uint64, text T) []byte {
	if len(text) == 0 {
		return dst
	}
	return append(appendLength(dst, number, len(text)), text...)
}

// appendLength begins a field of so many bytes.
func appendLength(dst []byte, number uint64, size int) []byte {
	return binary.AppendUvarint(append(dst, byte(number<<3|bytesType)), uint64(size))
}

// A column is a list of numbers in one field.
type column []byte

// len returns how many numbers there are.
func (c column) len() (n int) {
	for _, b := range c {
		if b < 0x80 {
			n++
		}
	}
	return n
}

// cut cuts as much off a text as the first number says, which it cuts off the column, or all of it for the last one, which has no number.
func (c *column) cut(text []byte, last bool) (first, rest []byte, err error) {
	if last {
		return text, nil, nil
	}
	size := c.next()
	if size > uint64(len(text)) {
		return nil, nil, errRecord
	}
	return text[:size], text[size:], nil
}

// next cuts the first number off. One that does not fit reads as the highest.
func (c *column) next() uint64 {
	n, size := binary.Uvarint(*c)
	if size <= 0 {
		*c = nil
		return 1<<64 - 1
	}
	*c = (*c)[size:]
	return n
}

// unknown is what is wrong with a field that is none of the known ones, in a message of which no unknown ones can be kept.
func (f *wireField) unknown(known uint64) error {
	if f.tag>>3 <= known {
		return errUnusual
	}
	return errUnknown
}
