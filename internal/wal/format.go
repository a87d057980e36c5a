package wal

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

const (
	segmentMagic  = "relaylog"
	snapshotMagic = "relaysnp"
	formatVersion = 1

	preambleBytes    = 16 // magic, version and checksum: the same in every version
	headerBytes      = 48
	batchHeaderBytes = 40
	lengthBytes      = 4 // before each payload

	// maxNumber is above all numbers of batches. A file that claims to be near the end of all numbers is damaged, so that
	// counting on never overflows.
	maxNumber = 1 << 62
)

// needsSnapshot in a header's flags says that changes before the segment may be in the snapshot of the same number only,
// because they could not be written (S20): without that snapshot, the segment continues nothing.
const needsSnapshot uint32 = 1

// managed in a header's flags says that the log has a manifest, and a segment the fill of its salt. Releases before it know
// neither, and ignore the flag.
const managed uint32 = 2

// salvaged in a snapshot's flags says that a repair made it of another one, of which parts were lost: gaps stand for them.
const salvaged uint32 = 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// header is what a segment or a snapshot begins with.
type header struct {
	magic string
	id    uint64
	first uint64 // the number of the first batch
	salt  uint64
	flags uint32
}

// newHeader makes a header with a salt of its own.
func newHeader(magic string, id, first uint64, flags uint32) header {
	var random [8]byte
	rand.Read(random[:])
	random[0] |= 1 // never zero: zeros are what a segment is filled with
	return header{magic: magic, id: id, first: first, salt: binary.LittleEndian.Uint64(random[:]), flags: flags}
}

// encode returns the header's bytes.
func (h header) encode() []byte {
	b := make([]byte, 0, headerBytes)
	b = append(b, h.magic...)
	b = binary.LittleEndian.AppendUint32(b, formatVersion)
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	b = binary.LittleEndian.AppendUint64(b, h.id)
	b = binary.LittleEndian.AppendUint64(b, h.first)
	b = binary.LittleEndian.AppendUint64(b, h.salt)
	b = binary.LittleEndian.AppendUint32(b, h.flags)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// decodePreamble returns the version of the format, and false if the bytes are no preamble of such a file.
func decodePreamble(b []byte, magic string) (version uint32, ok bool) {
	if len(b) < preambleBytes || string(b[:8]) != magic ||
		crc32.Checksum(b[:12], castagnoli) != binary.LittleEndian.Uint32(b[12:]) {
		return 0, false
	}
	return binary.LittleEndian.Uint32(b[8:]), true
}

// decodeHeader reads a header after its preamble was found good; false if the rest is not.
func decodeHeader(b []byte, magic string) (header, bool) {
	if len(b) < headerBytes || crc32.Checksum(b[:44], castagnoli) != binary.LittleEndian.Uint32(b[44:]) {
		return header{}, false
	}
	h := header{
		magic: magic,
		id:    binary.LittleEndian.Uint64(b[16:]),
		first: binary.LittleEndian.Uint64(b[24:]),
		salt:  binary.LittleEndian.Uint64(b[32:]),
		flags: binary.LittleEndian.Uint32(b[40:]),
	}
	return h, h.salt != 0 && h.first < maxNumber
}

// batchKind says what a batch's body is. Zero is none of them.
type batchKind uint32

const (
	// payloads is the ordinary one.
	payloads batchKind = iota + 1
	// ending closes a snapshot, which is whole only with it. Its body: how many payloads and bytes of payloads there are,
	// and the number of the first batch that the snapshot does not contain, 8 bytes each.
	ending
	// gap stands for batches that were lost for good and given up by a repair: from its own number to that in its body.
	gap
)

// batch is one that was read. Its body belongs to the reader, until its next call.
type batch struct {
	offset int64
	number uint64
	kind   batchKind
	count  int
	body   []byte
}

// size is that of the whole batch in the file.
func (b batch) size() int64 { return batchHeaderBytes + int64(len(b.body)) }

// end is where the batch ends in the file.
func (b batch) end() int64 { return b.offset + b.size() }

// through is the highest number that the batch stands for.
func (b batch) through() uint64 {
	if b.kind == gap {
		return binary.LittleEndian.Uint64(b.body)
	}
	return b.number
}

// seal fills in the header of a batch, whose body follows the place for it in buf.
func (h header) seal(buf []byte, number uint64, kind batchKind, count int) {
	binary.LittleEndian.PutUint64(buf, h.salt)
	binary.LittleEndian.PutUint64(buf[8:], h.id)
	binary.LittleEndian.PutUint64(buf[16:], number)
	binary.LittleEndian.PutUint32(buf[24:], uint32(kind))
	binary.LittleEndian.PutUint32(buf[28:], uint32(count))
	binary.LittleEndian.PutUint32(buf[32:], uint32(len(buf)-batchHeaderBytes))
	binary.LittleEndian.PutUint32(buf[36:], h.checksum(buf))
}

// checksum is that of a whole batch. The salt seeds it, so that equal bytes have another one in every file.
func (h header) checksum(raw []byte) uint32 {
	seed := crc32.Update(uint32(h.salt), castagnoli, raw[:36])
	return crc32.Update(seed, castagnoli, raw[batchHeaderBytes:])
}

// bodyLength is what the header of a batch says.
func bodyLength(raw []byte) int64 { return int64(binary.LittleEndian.Uint32(raw[32:])) }

// batchNumber is what the header of a batch says.
func batchNumber(raw []byte) uint64 { return binary.LittleEndian.Uint64(raw[16:]) }

// decodeBatch reads a batch whose bytes are all there, or says what is wrong with them.
func (h header) decodeBatch(raw []byte) (b batch, fault string) {
	if h.checksum(raw) != binary.LittleEndian.Uint32(raw[36:]) {
		return batch{}, "the checksum of a batch is wrong"
	}
	b = batch{
		number: binary.LittleEndian.Uint64(raw[16:]),
		kind:   batchKind(binary.LittleEndian.Uint32(raw[24:])),
		count:  int(binary.LittleEndian.Uint32(raw[28:])),
		body:   raw[batchHeaderBytes:],
	}
	switch b.kind {
	case payloads:
		if !wellFormed(b) {
			return batch{}, "the payloads of a batch do not add up"
		}
	case ending:
		if len(b.body) != 24 || decodeEnd(b.body).next >= maxNumber {
			return batch{}, "the end of a snapshot has no meaning"
		}
	case gap:
		if len(b.body) != 8 || b.through() < b.number {
			return batch{}, "a gap has no meaning"
		}
	default:
		return batch{}, fmt.Sprintf("a batch is of the unknown kind %d", b.kind)
	}
	if b.number >= maxNumber || b.through() >= maxNumber {
		return batch{}, "the number of a batch is impossible"
	}
	return b, ""
}

// wellFormed reports whether the body consists of as many payloads as the batch says.
func wellFormed(b batch) bool {
	rest := b.body
	for range b.count {
		if len(rest) < lengthBytes || int64(binary.LittleEndian.Uint32(rest)) > int64(len(rest)-lengthBytes) {
			return false
		}
		rest = rest[lengthBytes+binary.LittleEndian.Uint32(rest):]
	}
	return len(rest) == 0
}

// each calls f with every payload of an ordinary batch. The payload must not be kept.
func (b batch) each(f func(payload []byte) error) error {
	for rest := b.body; len(rest) > 0; {
		end := lengthBytes + int(binary.LittleEndian.Uint32(rest))
		if err := f(rest[lengthBytes:end:end]); err != nil {
			return err
		}
		rest = rest[end:]
	}
	return nil
}

// appendPayload adds a payload to the body of a batch.
func appendPayload(buf, payload []byte) []byte {
	buf = binary.LittleEndian.AppendUint32(buf, uint32(len(payload)))
	return append(buf, payload...)
}

// emptyBatch is a buffer with the place for a batch's header.
func emptyBatch(buf []byte) []byte { return append(buf[:0], make([]byte, batchHeaderBytes)...) }
