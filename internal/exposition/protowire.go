package exposition

import (
	"google.golang.org/protobuf/encoding/protowire"
)

// wireField is one field of a protobuf message as it stands on the wire.
type wireField struct {
	number int32
	kind   protowire.Type
	bits   uint64 // of a varint, fixed32 or fixed64
	bytes  []byte // of a length-delimited field
}

// is says whether the field is the given one. A field that comes with another kind than its message declares is an unknown
// field by the rules of protobuf.
func (f *wireField) is(number int32, kind protowire.Type) bool {
	return f.number == number && f.kind == kind
}

// nextField takes the first field off a message that is not empty. It returns false if the message is malformed.
func nextField(msg []byte) (f wireField, rest []byte, ok bool) {
	tag, n := consumeVarint(msg)
	if n < 0 || tag>>3 < uint64(protowire.MinValidNumber) || tag>>3 > uint64(protowire.MaxValidNumber) {
		return f, nil, false
	}
	msg = msg[n:]
	f.number, f.kind = int32(tag>>3), protowire.Type(tag&7)
	switch f.kind {
	case protowire.VarintType:
		f.bits, n = consumeVarint(msg)
	case protowire.Fixed64Type:
		f.bits, n = protowire.ConsumeFixed64(msg)
	case protowire.BytesType:
		var size uint64
		size, n = consumeVarint(msg)
		if n < 0 || size > uint64(len(msg)-n) {
			return f, nil, false
		}
		end := n + int(size)
		f.bytes, n = msg[n:end:end], end
	default:
		n = protowire.ConsumeFieldValue(protowire.Number(f.number), f.kind, msg)
	}
	if n < 0 {
		return f, nil, false
	}
	return f, msg[n:], true
}

// consumeVarint is protowire.ConsumeVarint with a short way for one byte.
func consumeVarint(b []byte) (uint64, int) {
	if len(b) > 0 && b[0] < 0x80 {
		return uint64(b[0]), 1
	}
	return protowire.ConsumeVarint(b)
}
