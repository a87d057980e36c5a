package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"
)

// windowBytes is how much of a file is read at once.
const windowBytes = 1 << 20

// reader reads the batches of one file. Errors of the disk are never taken for damage: what could not be read may be sound.
type reader struct {
	file File
	path string
	size int64
	head header

	offset int64 // of the next batch
	blank  blank
	fill   int64 // how far it is filled ahead at a time; 0 if that is not known
	full   int64 // how far it was filled by the batches that were read, and least without the last one of them
	least  int64
	window []byte
	start  int64             // where the window is in the file
	read   func(bytes int64) // told what was read from the disk
}

// A fault is a place where a batch should be and is not.
type fault struct {
	offset int64
	reason string
}

// Error returns what is wrong.
func (f *fault) Error() string { return fmt.Sprintf("at offset %d: %s", f.offset, f.reason) }

// openReader opens a segment or a snapshot. A header that is no header is a [*DamagedError], together with a reader that
// can only be closed or salvaged from.
func openReader(fsys FS, path, magic string, id uint64) (*reader, error) {
	f, err := fsys.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening: %w", err)
	}
	r := &reader{file: f, path: path, head: header{magic: magic, id: id}, offset: headerBytes, read: func(int64) {}}
	r.filled(pattern{}, 0)
	if r.size, err = f.Size(); err != nil {
		return r, fmt.Errorf("reading %q: %w", path, err)
	}
	raw, err := r.peek(0, min(headerBytes, r.size))
	if err != nil {
		return r, err
	}
	version, ok := decodePreamble(raw, magic)
	if ok && version != formatVersion {
		return r, &VersionError{File: path, Version: version, Known: formatVersion}
	}
	head, whole := decodeHeader(raw, magic)
	if !ok || !whole {
		return r, &DamagedError{File: path, Reason: "the header of the file is wrong"}
	}
	if head.id != id {
		return r, &DamagedError{File: path, Reason: fmt.Sprintf("the header is that of file %d", head.id)}
	}
	r.head = head
	r.filled(head.pattern(), 0)
	return r, nil
}

// filled says what the file was filled with ahead of its batches, and how far at a time.
func (r *reader) filled(p pattern, fill int64) {
	r.fill, r.full, r.least = fill, headerBytes+fill, headerBytes+fill
	r.blank = newBlank(p, r.least)
}

// observe has read called with what was read so far, and then with every read.
func (r *reader) observe(read func(bytes int64)) {
	r.read = read
	read(int64(len(r.window)))
}

// close closes the file; also that of a nil reader.
func (r *reader) close() {
	if r != nil {
		r.file.Close() //nolint:errcheck // Nothing was written.
	}
}

// peek returns n bytes of the file, until the next call. They must be within the file.
func (r *reader) peek(offset, n int64) ([]byte, error) {
	if from := offset - r.start; from >= 0 && from+n <= int64(len(r.window)) {
		return r.window[from : from+n], nil
	}
	size := min(max(n, windowBytes), r.size-offset)
	if int64(cap(r.window)) < size {
		r.window = make([]byte, size)
	}
	r.window, r.start = r.window[:size], offset
	got, err := r.file.ReadAt(r.window, offset)
	if int64(got) < size {
		r.window = r.window[:0]
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("reading %q at offset %d: %w", r.path, offset, err)
	}
	r.read(size)
	return r.window[:n], nil
}

// at reads the batch at an offset. What is no batch is a [*fault].
func (r *reader) at(offset int64) (batch, error) {
	if r.size-offset < batchHeaderBytes {
		return batch{}, &fault{offset, "the file ends within a batch"}
	}
	raw, err := r.peek(offset, batchHeaderBytes)
	if err != nil {
		return batch{}, err
	}
	if binary.LittleEndian.Uint64(raw) != r.head.salt || binary.LittleEndian.Uint64(raw[8:]) != r.head.id {
		return batch{}, &fault{offset, "there is no batch where one should begin"}
	}
	size := batchHeaderBytes + bodyLength(raw)
	if size > r.size-offset {
		return batch{}, &fault{offset, "the file ends within a batch"}
	}
	if raw, err = r.peek(offset, size); err != nil {
		return batch{}, err
	}
	b, wrong := r.head.decodeBatch(raw)
	if wrong != "" {
		return batch{}, &fault{offset, wrong}
	}
	b.offset = offset
	return b, nil
}

// next reads the next batch. Where nothing was written any more it is io.EOF.
func (r *reader) next() (batch, error) {
	b, err := r.at(r.offset)
	if err == nil {
		r.offset, r.least, r.blank.full = b.end(), r.full, r.full
		if b.end() > r.full {
			r.full = b.end() + r.fill
		}
		return b, nil
	}
	if _, ok := errors.AsType[*fault](err); !ok {
		return batch{}, err
	}
	end, restErr := r.restEnd(r.offset)
	switch {
	case restErr != nil:
		return batch{}, restErr
	case end == r.offset:
		return batch{}, io.EOF
	default:
		return batch{}, err
	}
}

// restEnd returns where the last byte ends that is at or behind the offset and was written; the offset itself if none was.
func (r *reader) restEnd(offset int64) (int64, error) {
	end := offset
	for at := offset; at < r.size; {
		chunk, err := r.peek(at, min(windowBytes, r.size-at))
		if err != nil {
			return 0, err
		}
		if written := r.blank.written(at, chunk); written > 0 {
			end = at + int64(written)
		}
		at += int64(len(chunk))
	}
	return end, nil
}

// resync returns the first sound batch that begins at the offset or behind it; io.EOF if there is none. Only a batch of this
// very file has its salt, whatever the payloads contain.
func (r *reader) resync(offset int64) (batch, error) {
	marker := binary.LittleEndian.AppendUint64(nil, r.head.salt)
	for at := offset; r.size-at >= batchHeaderBytes; {
		chunk, err := r.peek(at, min(windowBytes, r.size-at))
		if err != nil {
			return batch{}, err
		}
		found := bytes.Index(chunk, marker)
		if found < 0 {
			at += int64(len(chunk) - len(marker) + 1)
			continue
		}
		at += int64(found)
		b, err := r.at(at)
		if _, ok := errors.AsType[*fault](err); !ok {
			return b, err
		}
		at++
	}
	return batch{}, io.EOF
}

// salvage makes the batches of a file readable whose header is lost, with the salt by which the manifest names it, or that
// stands where the first batch begins; that place is out of reach for payloads. It is false, and no batch will be found,
// unless the salt proves right.
func (r *reader) salvage(n *named) (bool, error) {
	r.head = newHeader(r.head.magic, r.head.id, 0, 0)
	unknown := r.head
	if n != nil {
		r.head.salt, r.head.first = n.Salt, n.First
		if n.Managed {
			r.head.flags = managed
		}
		r.filled(r.head.pattern(), n.Fill)
		return true, nil
	}
	if r.size < headerBytes+batchHeaderBytes {
		return false, nil
	}
	raw, err := r.peek(headerBytes, batchHeaderBytes)
	if err != nil {
		return false, err
	}
	r.head.salt = binary.LittleEndian.Uint64(raw)
	if r.head.salt != 0 {
		_, err = r.resync(headerBytes)
		if err == nil || !errors.Is(err, io.EOF) {
			return err == nil, err
		}
	}
	r.head = unknown
	return false, nil
}

// damaged is the error for a place in the file.
func (r *reader) damaged(offset int64, reason string) *DamagedError {
	return &DamagedError{File: r.path, Offset: offset, Reason: reason}
}

// name is the file's without its directory.
func (r *reader) name() string { return filepath.Base(r.path) }
