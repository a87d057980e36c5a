package exposition

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/snappy"
)

// ErrTooLarge says that a body is larger than allowed once its content encoding is removed.
var ErrTooLarge = errors.New("body is larger than allowed")

// copyBufferBytes is how much of a body is handed on at a time.
const copyBufferBytes = 32 << 10

// What is wrong with a snappy body, in the words that clients of a Pushgateway know.
var (
	errSnappyCorrupt     = errors.New("snappy: corrupt input")
	errSnappyUnsupported = errors.New("snappy: unsupported input")
)

// Readers are kept for the next body, because each holds tens of KiB. The pools hold no reference to a body.
var (
	gzipReaders   = sync.Pool{New: func() any { return new(gzip.Reader) }}
	snappyReaders = sync.Pool{New: func() any { return snappy.NewReader(nothing{}) }}
	copyBuffers   = sync.Pool{New: func() any { return new([copyBufferBytes]byte) }}
)

// Decode copies a pushed body from r to dst and removes the content encoding that its Content-Encoding header names: gzip,
// or snappy in the framed format, in any case. Any other encoding is ignored and the body copied as it is, as the
// Pushgateway does; an empty body is empty in any. If more than limit bytes come out, it stops with an error that is [ErrTooLarge]; 0 means no limit. Errors
// of r and dst are returned so that errors.As finds them.
func Decode(dst io.Writer, r io.Reader, encoding string, limit int64) error {
	switch strings.ToLower(encoding) {
	case "gzip":
		return decodeGzip(dst, r, limit)
	case "snappy":
		return decodeSnappy(dst, r, limit)
	default:
		return copyAtMost(dst, r, limit)
	}
}

func decodeGzip(dst io.Writer, r io.Reader, limit int64) error {
	zr := gzipReaders.Get().(*gzip.Reader)
	defer func() {
		zr.Reset(nothing{}) //nolint:errcheck // It only lets go of r.
		gzipReaders.Put(zr)
	}()
	if err := zr.Reset(r); err != nil {
		if errors.Is(err, io.EOF) {
			return nil // there is nothing at all, and nothing is what it decodes to
		}
		return err
	}
	return copyAtMost(dst, zr, limit)
}

func decodeSnappy(dst io.Writer, r io.Reader, limit int64) error {
	sr := snappyReaders.Get().(*snappy.Reader)
	defer func() {
		sr.Reset(nothing{})
		snappyReaders.Put(sr)
	}()
	sr.Reset(r)
	err := copyAtMost(dst, sr, limit)
	switch {
	case errors.Is(err, s2.ErrCorrupt), errors.Is(err, s2.ErrCRC), errors.Is(err, s2.ErrTooLarge):
		return errSnappyCorrupt
	case errors.Is(err, s2.ErrUnsupported):
		return errSnappyUnsupported
	}
	return err
}

func copyAtMost(dst io.Writer, r io.Reader, limit int64) error {
	if limit <= 0 || limit == math.MaxInt64 {
		limit = math.MaxInt64 - 1
	}
	buf := copyBuffers.Get().(*[copyBufferBytes]byte)
	defer copyBuffers.Put(buf)
	n, err := io.CopyBuffer(dst, io.LimitReader(r, limit+1), buf[:])
	if err != nil {
		return err
	}
	if n > limit {
		return fmt.Errorf("%w: more than %d bytes after decompression", ErrTooLarge, limit)
	}
	return nil
}

// nothing is the reader that pooled readers are left with.
type nothing struct{}

func (nothing) Read([]byte) (int, error) { return 0, io.EOF }
