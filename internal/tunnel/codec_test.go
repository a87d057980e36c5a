package tunnel_test

import (
	"bytes"
	"io"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/tunnel"
)

// bodyMessage is what a chunk is on the wire.
func bodyMessage(body []byte) *relayv1.DeliverScrapeRequest {
	return &relayv1.DeliverScrapeRequest{Part: &relayv1.DeliverScrapeRequest_Body{Body: body}}
}

// filledChunk returns a chunk that holds n bytes.
func filledChunk(n int) (*tunnel.Chunk, []byte) {
	chunk := tunnel.NewChunk()
	body := chunk.Room()[:n]
	for i := range body {
		body[i] = byte(i * 7)
	}
	chunk.Fill(n)
	return chunk, bytes.Clone(body)
}

// TestChunkIsTheMessage: a relay of another release reads chunks with the generated code.
func TestChunkIsTheMessage(t *testing.T) {
	for _, n := range []int{1, 127, 128, tunnel.BodyChunkBytes/8 - 1, tunnel.BodyChunkBytes / 8, tunnel.BodyChunkBytes} {
		chunk, body := filledChunk(n)
		encoded, err := tunnel.Codec{}.Marshal(chunk)
		if err != nil {
			t.Fatal(err)
		}
		got := new(relayv1.DeliverScrapeRequest)
		if err := proto.Unmarshal(encoded.Materialize(), got); err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		if diff := cmp.Diff(bodyMessage(body), got, protocmp.Transform()); diff != "" {
			t.Errorf("a chunk of %d bytes is another message (-want +got):\n%s", n, diff)
		}
		encoded.Free()
		chunk.Drop() // what was sent is not there twice
	}
}

// TestPartIsTheMessage: a relay reads what the generated code of an agent of another release wrote, however gRPC has cut
// it up.
func TestPartIsTheMessage(t *testing.T) {
	body := bytes.Repeat([]byte("metric 1\n"), 500)
	end := &relayv1.DeliverScrapeRequest{Part: &relayv1.DeliverScrapeRequest_End{End: &relayv1.ScrapeEnd{BodyBytes: 7}}}
	encode := func(m proto.Message) []byte {
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	tests := []struct {
		name    string
		wire    []byte
		body    []byte
		message *relayv1.DeliverScrapeRequest
	}{
		{name: "body", wire: encode(bodyMessage(body)), body: body},
		{name: "empty body", wire: encode(bodyMessage(nil))},
		{name: "another part", wire: encode(end), message: end},
		{name: "nothing", message: &relayv1.DeliverScrapeRequest{}},
		// What comes last counts, and only the generated code knows that.
		{name: "body, then another part", wire: append(encode(bodyMessage(body)), encode(end)...), message: end},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, cut := range []int{1, 2, 3, 100, 1 << 20} {
				var data mem.BufferSlice
				for rest := tt.wire; len(rest) > 0; {
					n := min(cut, len(rest))
					data = append(data, mem.SliceBuffer(rest[:n]))
					rest = rest[n:]
				}
				var part tunnel.Part
				if err := (tunnel.Codec{}).Unmarshal(data, &part); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tt.message, part.Message, protocmp.Transform()); diff != "" {
					t.Errorf("in pieces of %d: message (-want +got):\n%s", cut, diff)
				}
				if part.Remaining() != len(tt.body) {
					t.Errorf("in pieces of %d: Remaining() = %d, want %d", cut, part.Remaining(), len(tt.body))
				}
				got, err := io.ReadAll(&part)
				if err != nil || !bytes.Equal(got, tt.body) {
					t.Errorf("in pieces of %d: body has %d bytes and error %v, want %d and none", cut, len(got), err, len(tt.body))
				}
				part.Close()
			}
		})
	}
}

// TestPartRefuses: what is no message is an error, and no body.
func TestPartRefuses(t *testing.T) {
	for _, wire := range [][]byte{{0x1a}, {0x1a, 0x05, 'x'}, {0x1a, 0xff}, {0xff, 0xff}} {
		var part tunnel.Part
		if err := (tunnel.Codec{}).Unmarshal(mem.BufferSlice{mem.SliceBuffer(wire)}, &part); err == nil {
			t.Errorf("Unmarshal(%x) is a part with %d bytes of body, want an error", wire, part.Remaining())
		}
	}
}

// carry takes a chunk from an agent's codec to a relay's.
func carry(tb testing.TB, chunk *tunnel.Chunk, part *tunnel.Part) {
	tb.Helper()
	encoded, err := tunnel.Codec{}.Marshal(chunk)
	if err != nil {
		tb.Fatal(err)
	}
	if err := (tunnel.Codec{}).Unmarshal(encoded, part); err != nil {
		tb.Fatal(err)
	}
	encoded.Free()
}

// TestChunksAreReused: a body costs no memory of its own, whatever its size.
func TestChunksAreReused(t *testing.T) {
	const rounds = 1000
	var before, after runtime.MemStats
	var part tunnel.Part
	runtime.ReadMemStats(&before)
	for range rounds {
		chunk := tunnel.NewChunk()
		chunk.Fill(tunnel.BodyChunkBytes)
		carry(t, chunk, &part)
		if part.Remaining() != tunnel.BodyChunkBytes {
			t.Fatalf("Remaining() = %d, want %d", part.Remaining(), tunnel.BodyChunkBytes)
		}
		part.Close()
	}
	runtime.ReadMemStats(&after)
	// The race detector makes sync.Pool forget a quarter of what it is given.
	if each := (after.TotalAlloc - before.TotalAlloc) / rounds; each > tunnel.BodyChunkBytes/2 {
		t.Errorf("a chunk costs %d bytes, want its buffer to be used again", each)
	}
}

// BenchmarkBody compares the short way of a body with that of every other message.
func BenchmarkBody(b *testing.B) {
	read := make([]byte, tunnel.BodyChunkBytes)
	b.Run("chunk", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(tunnel.BodyChunkBytes)
		var part tunnel.Part
		for b.Loop() {
			chunk := tunnel.NewChunk()
			chunk.Fill(tunnel.BodyChunkBytes)
			carry(b, chunk, &part)
			part.Read(read)
			part.Close()
		}
	})
	b.Run("message", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(tunnel.BodyChunkBytes)
		for b.Loop() {
			encoded, err := tunnel.Codec{}.Marshal(bodyMessage(read))
			if err != nil {
				b.Fatal(err)
			}
			got := new(relayv1.DeliverScrapeRequest)
			if err := (tunnel.Codec{}).Unmarshal(encoded, got); err != nil {
				b.Fatal(err)
			}
			copy(read, got.GetBody())
			encoded.Free()
		}
	})
}
