package wal

import (
	"encoding/binary"
	"fmt"
)

// unfinished reports whether it is proven that the batch at the offset, which is none, was never written to its end, so that
// nobody was told that it is durable: bytes that belong to it were never written. What was written once and is damaged looks
// otherwise, as nothing but this package makes the pattern of the fill; but its header may be what is damaged, so that
// the extent of the batch counts only as far as header and payloads agree on it.
func (r *reader) unfinished(offset int64, number uint64) (bool, error) {
	sure := int64(batchHeaderBytes + wordBytes) // No batch is shorter, but by a few bytes that cannot be the pattern by chance.
	if r.blank.pattern == (pattern{}) {
		sure = 16 // Only its salt and its number are no zeros.
	}
	if never, err := r.neverWritten(offset, offset+sure); never || err != nil {
		return never, err
	}
	if r.size-offset < batchHeaderBytes {
		return true, nil // A file that was cut is shorter than it was filled, and is refused before.
	}
	count, end, ok, err := r.claim(offset, number)
	if !ok || err != nil {
		return false, err
	}
	found := false
	at := offset + batchHeaderBytes
	for range count {
		if at+lengthBytes > end {
			return false, nil
		}
		word := at - at%wordBytes
		if never, err := r.neverWritten(word, word+wordBytes); never || err != nil {
			return never, err
		}
		if never, err := r.neverWritten(word+wordBytes, word+2*wordBytes); err != nil || never && word+wordBytes < at+lengthBytes {
			return never, err
		}
		if at+lengthBytes > r.size {
			return true, nil
		}
		raw, err := r.peek(at, lengthBytes)
		if err != nil {
			return false, err
		}
		next := at + lengthBytes + int64(binary.LittleEndian.Uint32(raw))
		if next > end { // A part of the length may be what was there before.
			return r.neverWritten(word+wordBytes, min(word+2*wordBytes, end))
		}
		never, err := r.neverWritten(at+lengthBytes, next)
		if err != nil {
			return false, err
		}
		found = found || never
		at = next
	}
	return found && at == end, nil
}

// claim returns what the header of a batch says, if that can be: how many payloads it has and where it ends.
func (r *reader) claim(offset int64, number uint64) (count int, end int64, ok bool, err error) {
	if r.size-offset < batchHeaderBytes {
		return 0, 0, false, nil
	}
	raw, err := r.peek(offset, batchHeaderBytes)
	if err != nil {
		return 0, 0, false, err
	}
	length := bodyLength(raw)
	count = int(binary.LittleEndian.Uint32(raw[28:]))
	ok = binary.LittleEndian.Uint64(raw) == r.head.salt && binary.LittleEndian.Uint64(raw[8:]) == r.head.id &&
		binary.LittleEndian.Uint64(raw[16:]) == number && batchKind(binary.LittleEndian.Uint32(raw[24:])) == payloads &&
		int64(count)*lengthBytes <= length
	return count, offset + batchHeaderBytes + length, ok, nil
}

// neverWritten reports whether a whole word between the offsets was never written, or the file ends before them.
func (r *reader) neverWritten(from, to int64) (bool, error) {
	for from < to {
		if from+wordBytes > r.size {
			return to > r.size, nil
		}
		n := min(windowBytes, to-from, r.size-from)
		chunk, err := r.peek(from, n)
		if err != nil {
			return false, err
		}
		if r.blank.word(from, chunk) {
			return true, nil
		}
		if n < windowBytes {
			return to > r.size, nil
		}
		from += n - n%wordBytes
	}
	return false, nil
}

// tooShort says that a file was cut off: no crash takes from it what was on the disk before anything in it counted.
func (r *reader) tooShort(least int64) *DamagedError {
	return r.damaged(r.size, fmt.Sprintf("the file ends here, and had at least %d bytes", least))
}

// filledAhead reports whether all that the segment was filled with ahead is there, from the offset on.
func (r *reader) filledAhead(offset int64) (bool, error) {
	if r.size < r.full {
		return false, nil
	}
	strict := newBlank(r.blank.pattern, r.full)
	for offset < r.full {
		chunk, err := r.peek(offset, min(windowBytes, r.full-offset))
		if err != nil {
			return false, err
		}
		if !strict.all(offset, chunk) {
			return false, nil
		}
		offset += int64(len(chunk))
	}
	return true, nil
}
