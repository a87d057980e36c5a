package spool

import "google.golang.org/protobuf/encoding/protowire"

// Changes and verdicts, of which a journal consists but for a few payloads, are written and read by hand: each push writes some, and a start reads all
// of them. Tests hold that against the generated code.

func appendUint(b []byte, field protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
}

func appendBytes[T ~string | ~[]byte](b []byte, field protowire.Number, v T) []byte {
	if len(v) == 0 {
		return b
	}
	return append(protowire.AppendVarint(protowire.AppendTag(b, field, protowire.BytesType), uint64(len(v))), v...)
}

// eachField reads a message whose known fields are numbered up to last, each of which is for number or for text; these report whether it is. It returns
// the fields that are not known. A known one that is not written as usual is refused.
func eachField(b []byte, last protowire.Number, number func(protowire.Number, uint64) bool, text func(protowire.Number, []byte) bool) (later string, err error) {
	var unknown []byte
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return "", errRecord
		}
		value, known := b[n:], false
		switch kind {
		case protowire.VarintType:
			var v uint64
			v, n = protowire.ConsumeVarint(value)
			known = n >= 0 && number(field, v)
		case protowire.BytesType:
			var raw []byte
			raw, n = protowire.ConsumeBytes(value)
			known = n >= 0 && text(field, raw)
		default:
			n = protowire.ConsumeFieldValue(field, kind, value)
		}
		if n < 0 || !known && field <= last {
			return "", errRecord
		}
		rest := value[n:]
		if !known {
			unknown = append(unknown, b[:len(b)-len(rest)]...)
		}
		b = rest
	}
	return string(unknown), nil
}
