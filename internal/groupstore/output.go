package groupstore

import "io"

// chunkBytes is how much output is collected before it is written. It is what compressors like, and all that a scrape
// holds.
const chunkBytes = 64 << 10

// An output collects bytes and writes them in chunks. After an error it goes on without writing.
type output struct {
	w   io.Writer
	buf []byte
	err error
}

func newOutput(w io.Writer) *output {
	return &output{w: w, buf: make([]byte, 0, chunkBytes+chunkBytes/4)}
}

// spill writes what is collected if it is a chunk.
func (o *output) spill() {
	if len(o.buf) >= chunkBytes {
		o.flush()
	}
}

func (o *output) flush() {
	if o.err == nil && len(o.buf) > 0 {
		_, o.err = o.w.Write(o.buf)
	}
	o.buf = o.buf[:0]
}
