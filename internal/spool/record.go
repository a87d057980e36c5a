package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"pushrelay/internal/addup"
	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
	"pushrelay/internal/history"
	"pushrelay/internal/lifetime"
	"pushrelay/internal/metric"
)

// Each payload of the journal begins with one byte that says what it is; fields follow in the wire format of protobuf. A
// payload or field that is not known was written by a later version, and is refused: nothing of the journal may be lost.
const (
	changePayload  = 'c' // a change that was accepted
	verdictPayload = 'v' // what a relay decided
	cursorPayload  = 'r' // a relay
	droppedPayload = 'x' // a relay that is no more
	attachPayload  = 'a' // a session began: what waited may have been sent since
	journalPayload = 'j' // the journal has an id, and what is in it new numbers
	writerPayload  = 'f' // which release writes, and in which format
	// What a relay said of itself, and that it is forgotten.
	settingsPayload  = 's'
	forgottenPayload = 'o'
)

// decision is what a verdict payload says.
type decision uint64

const (
	appliedDecision decision = 1 + iota
	rejectedDecision
	withdrawnDecision // the pusher was told that a relay rejected it: nobody gets it any more
)

// A cursor payload says whether the relay has seen changes before.
type acquaintance uint64

const (
	knownCursor acquaintance = iota
	newCursor                // all that the journal holds by then is to be sent to it
)

var errRecord = errors.New("a payload of the journal makes no sense")

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

// appendChange appends the payload of a change that some relays have still to decide; to are those that may have it, now or
// soon, because there is a session with them. One with a from takes the place of the change of the same number, and of those that were added up
// in it.
func appendChange(b []byte, c *entry, undecided, to relays) []byte {
	b = append(b, changePayload)
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
	applied := uint64(0)
	if c.applied {
		applied = 1
	}
	b = appendUint(b, 13, applied)
	life := c.life.Texts()
	b = appendBytes(b, 14, life.TTL)
	b = appendBytes(b, 15, life.Every)
	b = appendBytes(b, 16, life.Schedule)
	b = appendBytes(b, 17, life.Grace)
	b = appendBytes(b, 18, c.failed)
	b = appendUint(b, 19, uint64(c.gauges))
	b = appendUint(b, 20, uint64(c.anew))
	return appendUint(b, 21, c.from)
}

// verdict is what a relay decided of a change.
type verdict struct {
	slot     int
	sequence uint64
	decision decision
	point    history.Point // what it tells of the store's history; zero for nothing new
}

func appendVerdict(b []byte, v verdict) []byte {
	b = append(b, verdictPayload)
	b = appendUint(b, 1, uint64(v.slot))
	b = appendUint(b, 2, v.sequence)
	b = appendUint(b, 3, uint64(v.decision))
	return appendPoint(b, 4, v.point)
}

// appendPoint appends a point as two fields; none for the zero point.
func appendPoint(b []byte, field protowire.Number, p history.Point) []byte {
	if p == (history.Point{}) {
		return b
	}
	return appendUint(appendBytes(b, field, p.Epoch[:]), field+1, p.Position)
}

func cursorRecord(cur *cursor, a acquaintance) []byte {
	b := []byte{cursorPayload}
	b = appendUint(b, 1, uint64(cur.slot))
	if cur.id != (StoreID{}) {
		b = appendBytes(b, 2, cur.id[:])
	}
	for _, address := range cur.addresses {
		b = appendBytes(b, 3, address)
	}
	b = appendUint(b, 4, cur.highest)
	b = appendBytes(b, 5, cur.digest[:])
	for _, w := range cur.withdrawn {
		b = appendBytes(b, 7, append(binary.LittleEndian.AppendUint64(nil, w.Sequence), w.Digest[:]...))
	}
	b = appendPoint(b, 8, cur.confirmed)
	return appendUint(b, 6, uint64(a))
}

func appendDropped(b []byte, slot int) []byte {
	return appendUint(append(b, droppedPayload), 1, uint64(slot))
}

func appendAttach(b []byte, slot int) []byte {
	return appendUint(append(b, attachPayload), 1, uint64(slot))
}

// numbering are the old and new sequence of each change, in the order of the old ones.
type numbering [][2]uint64

func appendJournal(b []byte, id JournalID, last uint64, n numbering) []byte {
	b = append(b, journalPayload)
	b = appendBytes(b, 1, id[:])
	b = appendUint(b, 2, last)
	var pairs []byte
	for _, p := range n {
		pairs = protowire.AppendVarint(protowire.AppendVarint(pairs, p[0]), p[1])
	}
	return appendBytes(b, 3, pairs)
}

// appendSettings appends the payload of what a relay said of itself.
func appendSettings(b []byte, address string, st settings) []byte {
	b = appendBytes(append(b, settingsPayload), 1, address)
	b = appendBytes(b, 2, st.agentLabel)
	b = appendUint(b, 3, uint64(st.names))
	for _, name := range slices.Sorted(maps.Keys(st.own)) {
		b = appendBytes(b, 4, append([]byte{byte(st.own[name])}, name...))
	}
	return b
}

func appendForgotten(b []byte, address string) []byte {
	return appendBytes(append(b, forgottenPayload), 1, address)
}

// eachField calls f with every field of a payload, its value as a number or as bytes, which alias the payload.
func eachField(b []byte, f func(field protowire.Number, v uint64, raw []byte) error) error {
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errRecord
		}
		b = b[n:]
		var v uint64
		var raw []byte
		switch kind {
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			raw, n = protowire.ConsumeBytes(b)
		default:
			n = -1
		}
		if n < 0 {
			return errRecord
		}
		b = b[n:]
		if err := f(field, v, raw); err != nil {
			return err
		}
	}
	return nil
}

func unknownField(field protowire.Number) error {
	return fmt.Errorf("field %d of a payload of the journal is not known: it was written by a later version", field)
}

// decodeChange reads a change, without its group, and the relays that have still to decide it.
func decodeChange(b []byte) (c *entry, key grouping.Key, undecided relays, err error) {
	c = &entry{}
	var life lifetime.Texts
	err = eachField(b, func(field protowire.Number, v uint64, raw []byte) (err error) {
		switch field {
		case 1:
			c.sequence = v
		case 2:
			c.operation = change.Operation(v)
		case 3:
			key, err = grouping.FromCanonical(string(raw))
		case 4:
			c.format = exposition.Format(v)
		case 5:
			c.pushedAt = time.Unix(0, protowire.DecodeZigZag(v))
		case 6:
			copy(c.digest[:], raw)
		case 7:
			c.owner = string(raw)
		case 8:
			c.families = make([]uint64, 0, len(raw)/8)
			for ; len(raw) >= 8; raw = raw[8:] {
				c.families = append(c.families, binary.LittleEndian.Uint64(raw))
			}
		case 9:
			c.body = append([]byte(nil), raw...)
		case 10:
			c.bodyBytes = int(v)
		case 11:
			undecided = relays(v)
		case 12:
			c.sent = relays(v)
		case 13:
			c.applied = v != 0
		case 14:
			life.TTL = string(raw)
		case 15:
			life.Every = string(raw)
		case 16:
			life.Schedule = string(raw)
		case 17:
			life.Grace = string(raw)
		case 18:
			c.failed = change.FailedText(string(raw))
		case 19:
			c.gauges = addup.Gauges(min(v, math.MaxUint8))
		case 20:
			c.anew = relays(v)
		case 21:
			c.from = v
		default:
			err = unknownField(field)
		}
		return err
	})
	if err == nil {
		c.life, err = lifetime.Restore(life)
	}
	switch {
	case err != nil:
		return nil, grouping.Key{}, 0, err
	case key.IsZero() || c.sequence == 0 || c.from > c.sequence || !c.operation.IsPush() || !c.gauges.IsKnown():
		return nil, grouping.Key{}, 0, errRecord
	}
	return c, key, undecided, nil
}

// decodeNumbers reads a payload whose fields are numbers.
func decodeNumbers(b []byte, fields ...*uint64) error {
	return eachField(b, func(field protowire.Number, v uint64, _ []byte) error {
		if int(field) > len(fields) {
			return unknownField(field)
		}
		*fields[field-1] = v
		return nil
	})
}

func decodeVerdict(b []byte) (v verdict, err error) {
	err = eachField(b, func(field protowire.Number, n uint64, raw []byte) error {
		switch field {
		case 1:
			v.slot = int(min(n, maxRelays))
		case 2:
			v.sequence = n
		case 3:
			v.decision = decision(n)
		case 4:
			copy(v.point.Epoch[:], raw)
		case 5:
			v.point.Position = n
		default:
			return unknownField(field)
		}
		return nil
	})
	return v, err
}

func decodeCursor(b []byte) (cur *cursor, a acquaintance, err error) {
	cur = &cursor{held: map[*group]*time.Timer{}}
	err = eachField(b, func(field protowire.Number, v uint64, raw []byte) error {
		switch field {
		case 1:
			cur.slot = int(min(v, maxRelays))
		case 2:
			copy(cur.id[:], raw)
		case 3:
			cur.addresses = append(cur.addresses, string(raw))
		case 4:
			cur.highest = v
		case 5:
			copy(cur.digest[:], raw)
		case 6:
			a = acquaintance(v)
		case 7:
			w := Decided{}
			if len(raw) != 8+len(w.Digest) {
				return errRecord
			}
			w.Sequence = binary.LittleEndian.Uint64(raw)
			copy(w.Digest[:], raw[8:])
			cur.withdrawn = append(cur.withdrawn, w)
		case 8:
			copy(cur.confirmed.Epoch[:], raw)
		case 9:
			cur.confirmed.Position = v
		default:
			return unknownField(field)
		}
		return nil
	})
	if err == nil && cur.slot >= maxRelays {
		err = errRecord
	}
	return cur, a, err
}

func decodeSettings(b []byte) (address string, st settings, err error) {
	err = eachField(b, func(field protowire.Number, v uint64, raw []byte) error {
		switch field {
		case 1:
			address = string(raw)
		case 2:
			st.agentLabel = string(raw)
		case 3:
			if v > uint64(metric.UTF8Names) {
				return errRecord
			}
			st.names = metric.NameScheme(v)
		case 4:
			if len(raw) == 0 || !metric.Type(raw[0]).Known() {
				return errRecord
			}
			if st.own == nil {
				st.own = map[string]metric.Type{}
			}
			st.own[string(raw[1:])] = metric.Type(raw[0])
		default:
			return unknownField(field)
		}
		return nil
	})
	return address, st, err
}

func decodeForgotten(b []byte) (address string, err error) {
	err = eachField(b, func(field protowire.Number, _ uint64, raw []byte) error {
		if field != 1 {
			return unknownField(field)
		}
		address = string(raw)
		return nil
	})
	return address, err
}

func decodeJournal(b []byte) (id JournalID, last uint64, n numbering, err error) {
	err = eachField(b, func(field protowire.Number, v uint64, raw []byte) error {
		switch field {
		case 1:
			copy(id[:], raw)
		case 2:
			last = v
		case 3:
			for len(raw) > 0 {
				from, a := protowire.ConsumeVarint(raw)
				if a < 0 {
					return errRecord
				}
				to, b := protowire.ConsumeVarint(raw[a:])
				if b < 0 {
					return errRecord
				}
				n = append(n, [2]uint64{from, to})
				raw = raw[a+b:]
			}
		default:
			return unknownField(field)
		}
		return nil
	})
	return id, last, n, err
}
