package wal

import (
	"bytes"
	"encoding/binary"
)

// A pattern is what a segment is filled with ahead of its batches: eight bytes that repeat, made from its salt. So bytes that
// were never written are told from bytes that were lost: nobody who writes payloads can make them, and neither can a disk
// that loses sectors. Segments of releases before it are filled with zeros, which is the zero value.
type pattern [wordBytes]byte

const (
	wordBytes = 8
	// fillChunk is how much of a fill is written at once, and blankChunk how much of a file is compared with one.
	fillChunk  = 64 << 10
	blankChunk = 4 << 10
)

// pattern returns what the file is filled with.
func (h header) pattern() (p pattern) {
	if h.flags&managed != 0 {
		binary.LittleEndian.PutUint64(p[:], ^h.salt)
	}
	return p
}

// at returns the byte that belongs at an offset of the file.
func (p pattern) at(offset int64) byte { return p[offset%wordBytes] }

// bytes returns n of them, from an offset on.
func (p pattern) bytes(offset int64, n int) []byte {
	whole := bytes.Repeat(p[:], n/wordBytes+2)
	return whole[offset%wordBytes:][:n]
}

// parts returns as many bytes from an offset on, in parts that share their memory.
func (p pattern) parts(offset, n int64) [][]byte {
	chunk := p.bytes(offset, int(min(n, fillChunk)))
	var parts [][]byte
	for ; n > 0; n -= int64(len(parts[len(parts)-1])) {
		parts = append(parts, chunk[:min(n, fillChunk)])
	}
	return parts
}

// A blank knows which bytes of a segment were never written: up to full, what it is filled with; behind that, zeros, which is
// what a file system shows of a file that was to grow when the power failed.
type blank struct {
	pattern pattern
	block   []byte // what blankChunk bytes from an offset that is a multiple of wordBytes look like, and some more
	full    int64
}

func newBlank(p pattern, full int64) blank {
	return blank{pattern: p, block: p.bytes(0, blankChunk+wordBytes), full: full}
}

// byteAt says whether the byte at the offset may be one that was never written.
func (b *blank) byteAt(offset int64, c byte) bool {
	return c == b.pattern.at(offset) || c == 0 && offset >= b.full
}

// all says whether none of the bytes was written.
func (b *blank) all(offset int64, chunk []byte) bool {
	for len(chunk) > 0 {
		n := min(len(chunk), blankChunk)
		if !bytes.Equal(chunk[:n], b.block[offset%wordBytes:][:n]) {
			for i, c := range chunk[:n] {
				if !b.byteAt(offset+int64(i), c) {
					return false
				}
			}
		}
		chunk, offset = chunk[n:], offset+int64(n)
	}
	return true
}

// written returns the length of the chunk without what was never written at its end.
func (b *blank) written(offset int64, chunk []byte) int {
	end := len(chunk)
	for end > 0 {
		from := max(0, end-blankChunk)
		if !b.all(offset+int64(from), chunk[from:end]) {
			break
		}
		end = from
	}
	for end > 0 && b.byteAt(offset+int64(end)-1, chunk[end-1]) {
		end--
	}
	return end
}

// word says whether a whole word of the file, aligned and within the chunk, was never written.
func (b *blank) word(offset int64, chunk []byte) bool {
	first := int((wordBytes - offset%wordBytes) % wordBytes)
	for i := first; i+wordBytes <= len(chunk); i += wordBytes {
		at := offset + int64(i)
		if [wordBytes]byte(chunk[i:]) == b.pattern || at >= b.full && [wordBytes]byte(chunk[i:]) == [wordBytes]byte{} {
			return true
		}
	}
	return false
}
