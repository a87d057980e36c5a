package spool

import (
	"encoding/binary"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"pushrelay/internal/addup"
	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
	"pushrelay/internal/lifetime"
)

// lastChangeField is the highest number of a field of a change that this release knows.
const lastChangeField = 21

// appendChange appends the payload of a change that some relays have still to decide; to are those that may have it, now or
// soon, because there is a session with them. One with a from takes the place of the change of the same number, and of those that were added up
// in it.
func appendChange(b []byte, c *entry, undecided, to relays) []byte {
	b = append(b, byte(changePayload))
	b = appendUint(b, 1, c.sequence)
	b = appendUint(b, 2, uint64(c.operation))
	b = appendBytes(b, 3, c.group.key.Canonical())
	b = appendUint(b, 4, uint64(c.format))
	b = appendUint(b, 5, protowire.EncodeZigZag(c.pushedAt.UnixNano()))
	b = appendBytes(b, 6, c.digest[:])
	b = appendBytes(b, 7, c.owner)
	if n := 8 * len(c.families); n > 0 {
		b = protowire.AppendVarint(protowire.AppendTag(b, 8, protowire.BytesType), uint64(n))
	}
	for _, f := range c.families {
		b = binary.LittleEndian.AppendUint64(b, f)
	}
	b = appendBytes(b, 9, c.body)
	b = appendUint(b, 10, uint64(c.bodyBytes))
	b = appendUint(b, 11, uint64(undecided))
	b = appendUint(b, 12, uint64(to))
	b = appendUint(b, 13, protowire.EncodeBool(c.applied))
	life := c.life.Texts()
	b = appendBytes(b, 14, life.TTL)
	b = appendBytes(b, 15, life.Every)
	b = appendBytes(b, 16, life.Schedule)
	b = appendBytes(b, 17, life.Grace)
	b = appendBytes(b, 18, c.failed)
	b = appendUint(b, 19, uint64(c.gauges))
	b = appendUint(b, 20, uint64(c.anew))
	b = appendUint(b, 21, c.from)
	return append(b, c.later...)
}

// A changeRecord is a change as it is read.
type changeRecord struct {
	*entry

	key       string
	undecided relays
	life      lifetime.Texts
	unknown   bool // a number says something that is not known
}

// decodeChange reads a change, without its group, and the relays that have still to decide it. A known field that is not written as usual is refused.
func decodeChange(b []byte) (c *entry, key grouping.Key, undecided relays, err error) {
	c = &entry{pushedAt: time.Unix(0, 0)}
	r := changeRecord{entry: c}
	later, err := eachField(b, lastChangeField, r.number, r.text)
	if err != nil {
		return nil, key, 0, err
	}
	c.later, c.failed = later, change.FailedText(c.failed)
	if c.life, err = lifetime.Restore(r.life); err != nil {
		return nil, key, 0, err
	}
	if key, err = grouping.FromCanonical(r.key); err != nil {
		return nil, key, 0, err
	}
	if r.unknown || key.IsZero() || c.sequence == 0 || c.from > c.sequence || !c.operation.IsPush() || !c.gauges.IsKnown() {
		return nil, grouping.Key{}, 0, errRecord
	}
	return c, key, r.undecided, nil
}

// number takes a field that is a number, and reports whether there is such a one.
func (r *changeRecord) number(field protowire.Number, v uint64) bool {
	switch field {
	case 1:
		r.sequence = v
	case 2:
		r.operation = change.Operation(r.upTo(uint64(change.Add), v))
	case 4:
		r.format = exposition.Format(r.upTo(uint64(exposition.ProtobufDelimited), v))
	case 5:
		r.pushedAt = time.Unix(0, protowire.DecodeZigZag(v))
	case 10:
		r.bodyBytes = int(v)
	case 11:
		r.undecided = relays(v)
	case 12:
		r.sent = relays(v)
	case 13:
		r.applied = protowire.DecodeBool(v)
	case 19:
		r.gauges = addup.Gauges(r.upTo(uint64(addup.Max), v))
	case 20:
		r.anew = relays(v)
	case 21:
		r.from = v
	default:
		return false
	}
	return true
}

// upTo returns a number of a list that ends there.
func (r *changeRecord) upTo(last, v uint64) uint64 {
	r.unknown = r.unknown || v > last
	return min(v, last)
}

// text takes a field that has a length, and reports whether there is such a one.
func (r *changeRecord) text(field protowire.Number, text []byte) bool {
	switch field {
	case 3:
		r.key = string(text)
	case 6:
		r.digest = change.Digest{}
		copy(r.digest[:], text)
	case 7:
		r.owner = string(text)
	case 8:
		if len(text)%8 != 0 || r.families != nil {
			return false
		}
		r.families = make([]uint64, 0, len(text)/8)
		for ; len(text) > 0; text = text[8:] {
			r.families = append(r.families, binary.LittleEndian.Uint64(text))
		}
	case 9:
		r.body = append([]byte(nil), text...)
	case 14:
		r.life.TTL = string(text)
	case 15:
		r.life.Every = string(text)
	case 16:
		r.life.Schedule = string(text)
	case 17:
		r.life.Grace = string(text)
	case 18:
		r.failed = string(text)
	default:
		return false
	}
	return true
}
