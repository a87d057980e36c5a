package groupstore

import (
	"io"
	"sync"
	"sync/atomic"

	"pushrelay/internal/series"
)

const (
	// chunksAhead is how many chunks are rendered before the first of them is written; with the one that is being written
	// they are all that a scrape holds.
	chunksAhead = 2
)

// An output collects bytes and writes them in chunks. From the second chunk on a goroutine writes, or compresses, one chunk
// while the next is rendered; finish waits for it. After an error it goes on without writing.
type output struct {
	w    io.Writer
	buf  []byte
	text series.Renderer

	failed atomic.Bool
	err    error // the first of w; the writer's until finish

	writer sync.WaitGroup
	full   chan []byte // nil until the first chunk is full
	free   chan []byte
}

func newOutput(w io.Writer) *output {
	return &output{w: w, buf: newChunk()}
}

func newChunk() []byte { return make([]byte, 0, series.ChunkBytes+series.ChunkBytes/4) }

// spill writes what is collected if it is a chunk.
func (o *output) spill() {
	if len(o.buf) >= series.ChunkBytes {
		o.flush()
	}
}

// spillFull writes what an append function has filled.
func (o *output) spillFull(buf []byte) []byte {
	o.buf = buf
	o.flush()
	return o.buf
}

// flush hands over what is collected and goes on with an empty buffer.
func (o *output) flush() {
	if o.full == nil {
		o.start()
	}
	o.full <- o.buf
	o.buf = <-o.free
}

func (o *output) start() {
	o.full, o.free = make(chan []byte, chunksAhead), make(chan []byte, chunksAhead)
	for range chunksAhead {
		o.free <- newChunk()
	}
	o.writer.Go(func() {
		for chunk := range o.full {
			o.write(chunk)
			o.free <- chunk[:0]
		}
	})
}

func (o *output) write(chunk []byte) {
	if o.err != nil || len(chunk) == 0 {
		return
	}
	if _, o.err = o.w.Write(chunk); o.err != nil {
		o.failed.Store(true)
	}
}

// finish writes what is left and returns the first error. The output must not be used afterwards.
func (o *output) finish() error {
	if o.full != nil {
		close(o.full)
		o.writer.Wait()
	}
	o.write(o.buf)
	return o.err
}
