package tunnel

import (
	"fmt"
	"io"
	"sync"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	relayv1 "pushrelay/internal/gen/relay/v1"
)

// Codec is gRPC's codec for protobuf, with a short way for the bytes of scraped bodies, which are nearly all that travels:
// an agent sends each as a [*Chunk], and a relay receives into a [*Part]. What is on the wire stays the message
// DeliverScrapeRequest, byte for byte; but neither end copies bodies from one buffer into the next, or makes garbage of
// them. Every other message is coded as ever. The zero value is ready, and safe for concurrent use.
type Codec struct{}

var _ encoding.CodecV2 = Codec{}

// Name returns the name of gRPC's own codec, since what travels is the same.
func (Codec) Name() string { return proto.Name }

// Marshal encodes a message, or takes over a chunk's buffer.
func (Codec) Marshal(v any) (mem.BufferSlice, error) {
	if c, ok := v.(*Chunk); ok {
		return c.release(), nil
	}
	return encoding.GetCodecV2(proto.Name).Marshal(v)
}

// Unmarshal decodes a message.
func (Codec) Unmarshal(data mem.BufferSlice, v any) error {
	part, ok := v.(*Part)
	if !ok {
		return decode(data, v)
	}
	part.Close()
	if n := bodyPrefix(data); n > 0 {
		part.body = data.Reader()
		if _, err := part.body.Discard(n); err != nil {
			return fmt.Errorf("decoding a chunk: %w", err)
		}
		return nil
	}
	part.Message = new(relayv1.DeliverScrapeRequest)
	return decode(data, part.Message)
}

// bodyField is the number of DeliverScrapeRequest.body. The test of the codec compares it with the generated code.
const bodyField protowire.Number = 3

// bodyPrefix returns how many bytes come before the body in a message that holds a body and nothing else; 0 for any other.
func bodyPrefix(data mem.BufferSlice) int {
	var begin [16]byte // more than a tag and a length take
	n := data.CopyTo(begin[:])
	field, kind, tagBytes := protowire.ConsumeTag(begin[:n])
	if tagBytes < 0 || field != bodyField || kind != protowire.BytesType {
		return 0
	}
	size, sizeBytes := protowire.ConsumeVarint(begin[tagBytes:n])
	if sizeBytes < 0 || size != uint64(data.Len()-tagBytes-sizeBytes) {
		return 0
	}
	return tagBytes + sizeBytes
}

// Part is a part of an answer as a relay receives it: some of the body, or another message.
type Part struct {
	// Message is the message, nil for some of the body.
	Message *relayv1.DeliverScrapeRequest

	body *mem.Reader // nil for a message
}

// Remaining returns how many bytes of the body are left to be read.
func (p *Part) Remaining() int {
	if p.body == nil {
		return 0
	}
	return p.body.Remaining()
}

// Read reads some of the body; io.EOF follows the last byte of this part.
func (p *Part) Read(b []byte) (int, error) {
	if p.body == nil {
		return 0, io.EOF
	}
	return p.body.Read(b)
}

// Close gives the memory of the part back, for gRPC to use again. Nothing is left to be read then. Closing again does
// nothing.
func (p *Part) Close() {
	if p.body != nil {
		p.body.Close() //nolint:errcheck // It returns nil.
	}
	p.body, p.Message = nil, nil
}

// Chunk is some of a body as an agent sends it. It holds memory until it was sent or dropped.
type Chunk struct {
	buffer *[]byte
	filled int
}

// NewChunk returns an empty chunk.
func NewChunk() *Chunk { return &Chunk{buffer: chunks.Get(BodyChunkBytes)} }

// Room returns where the bytes go: [BodyChunkBytes] of them at most.
func (c *Chunk) Room() []byte { return *c.buffer }

// Fill says how many bytes are in.
func (c *Chunk) Fill(n int) { c.filled = n }

// Drop gives up a chunk that is not sent. After it was sent there is nothing left to drop.
func (c *Chunk) Drop() {
	if c.buffer != nil {
		chunks.Put(c.buffer)
		c.buffer = nil
	}
}

// release returns the chunk as it travels. The buffer goes back to its pool when gRPC is done with it.
func (c *Chunk) release() mem.BufferSlice {
	prefix := protowire.AppendVarint(protowire.AppendTag(make([]byte, 0, 8), bodyField, protowire.BytesType), uint64(c.filled))
	if c.filled < BodyChunkBytes/8 {
		// gRPC bounds what waits to be sent by its bytes: a body that trickles would pin a whole buffer for each few of them.
		small := append(prefix, (*c.buffer)[:c.filled]...)
		c.Drop()
		return mem.BufferSlice{mem.SliceBuffer(small)}
	}
	*c.buffer = (*c.buffer)[:c.filled]
	out := mem.BufferSlice{mem.SliceBuffer(prefix), mem.NewBuffer(c.buffer, chunks)}
	c.buffer = nil
	return out
}

// chunks are the buffers of chunks. gRPC's own pools clear a buffer before each use, for all that may be read of it.
var chunks = &chunkPool{}

// chunkPool is a mem.BufferPool for the one size.
type chunkPool struct{ pool sync.Pool }

// Get returns a buffer of [BodyChunkBytes], which is the only length that is asked for.
func (p *chunkPool) Get(length int) *[]byte {
	if b, ok := p.pool.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, length)
	return &b
}

// Put takes a buffer back.
func (p *chunkPool) Put(b *[]byte) {
	*b = (*b)[:cap(*b)]
	p.pool.Put(b)
}
