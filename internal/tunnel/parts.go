package tunnel

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// maxParts bounds the messages and elements of lists in one message: decoded, each takes up to 200 bytes, and on the wire an empty one
// takes two. A full part of a target set has 13,401.
const maxParts = 16 << 10

// decode decodes a message, unless that would take much more memory than it has bytes. A smaller one cannot have that many parts.
func decode(data mem.BufferSlice, v any) error {
	codec := encoding.GetCodecV2(proto.Name)
	message, ok := v.(protoreflect.ProtoMessage)
	if !ok || data.Len() < 2*maxParts {
		return codec.Unmarshal(data, v)
	}
	whole := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer whole.Free()
	if countParts(whole.ReadOnlyData(), message.ProtoReflect().Descriptor(), maxParts) < 0 {
		return fmt.Errorf("decoding a message of %d bytes: it has more than %d parts", whole.Len(), maxParts)
	}
	return codec.Unmarshal(mem.BufferSlice{whole}, v)
}

// countParts returns what is left of room, less than 0 if it does not suffice. What is malformed ends the count: decoding says so.
func countParts(b []byte, message protoreflect.MessageDescriptor, room int) int {
	for len(b) > 0 && room >= 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return room
		}
		b = b[n:]
		if n = protowire.ConsumeFieldValue(number, kind, b); n < 0 {
			return room
		}
		value := b[:n]
		b = b[n:]
		field := message.Fields().ByNumber(number)
		if field == nil || field.Message() == nil && !field.IsList() {
			continue
		}
		room--
		if field.Message() != nil && kind == protowire.BytesType {
			content, _ := protowire.ConsumeBytes(value)
			room = countParts(content, field.Message(), room)
		}
	}
	return room
}
