package wal

import (
	"encoding/binary"
	"hash/crc32"
)

// Reseal makes all checksums of a segment or a snapshot right, as far as lengths lead from one batch to the next. The salt
// of the header is put into the batches.
func Reseal(b []byte) {
	if len(b) < headerBytes {
		return
	}
	binary.LittleEndian.PutUint32(b[12:], crc32.Checksum(b[:12], castagnoli))
	binary.LittleEndian.PutUint32(b[44:], crc32.Checksum(b[:44], castagnoli))
	h := header{salt: binary.LittleEndian.Uint64(b[32:])}
	for rest := b[headerBytes:]; len(rest) >= batchHeaderBytes; {
		end := batchHeaderBytes + bodyLength(rest)
		if end > int64(len(rest)) {
			return
		}
		raw := rest[:end]
		binary.LittleEndian.PutUint64(raw, h.salt)
		copy(raw[8:16], b[16:24])
		binary.LittleEndian.PutUint32(raw[36:], h.checksum(raw))
		rest = rest[end:]
	}
}

// Unwrite makes a part of a segment what it was before anything was written there.
func Unwrite(segment []byte, from, to int) {
	h, ok := decodeHeader(segment, segmentMagic)
	if !ok {
		panic("no header")
	}
	copy(segment[from:to], h.pattern().bytes(int64(from), to-from))
}

// OpenFile opens a file as the log does.
func OpenFile(path string) (File, error) { return osFS{}.OpenWritable(path) }
