package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	storagev1 "pushrelay/internal/gen/storage/v1"
	"pushrelay/internal/history"
	"pushrelay/internal/metric"
)

// Each payload of the journal begins with one byte that says what it is, a storagev1.SpoolPayloadKind; the message of that kind follows. What says how
// something is (changes, cursors, settings) keeps fields that are not known. What says that something happened is refused with such, as is an unknown
// kind: a later version wrote it, and nothing of the journal may be lost.
const (
	changePayload  = storagev1.SpoolPayloadKind_SPOOL_PAYLOAD_KIND_CHANGE
	verdictPayload = storagev1.SpoolPayloadKind_SPOOL_PAYLOAD_KIND_VERDICT
	cursorPayload  = storagev1.SpoolPayloadKind_SPOOL_PAYLOAD_KIND_CURSOR
	droppedPayload = storagev1.SpoolPayloadKind_SPOOL_PAYLOAD_KIND_DROPPED
	// A session began: what waited may have been sent since.
	attachPayload = storagev1.SpoolPayloadKind_SPOOL_PAYLOAD_KIND_ATTACH
	// The journal has an id, and what is in it new numbers.
	journalPayload = storagev1.SpoolPayloadKind_SPOOL_PAYLOAD_KIND_JOURNAL
	writerPayload  = storagev1.SpoolPayloadKind_SPOOL_PAYLOAD_KIND_WRITER
	// What a relay said of itself, and that it is forgotten.
	settingsPayload  = storagev1.SpoolPayloadKind_SPOOL_PAYLOAD_KIND_SETTINGS
	forgottenPayload = storagev1.SpoolPayloadKind_SPOOL_PAYLOAD_KIND_FORGOTTEN
)

// decision is what a verdict payload says.
type decision = storagev1.SpoolDecision

const (
	appliedDecision   = storagev1.SpoolDecision_SPOOL_DECISION_APPLIED
	rejectedDecision  = storagev1.SpoolDecision_SPOOL_DECISION_REJECTED
	withdrawnDecision = storagev1.SpoolDecision_SPOOL_DECISION_WITHDRAWN // the pusher was told that a relay rejected it: nobody gets it any more
)

// A cursor payload says whether the relay has seen changes before.
type acquaintance int

const (
	knownCursor acquaintance = iota
	newCursor                // all that the journal holds by then is to be sent to it
)

var errRecord = errors.New("a payload of the journal makes no sense")

// payloadOf returns the payload of a message.
func payloadOf(kind storagev1.SpoolPayloadKind, m proto.Message) []byte {
	payload, err := proto.MarshalOptions{Deterministic: true}.MarshalAppend([]byte{byte(kind)}, m)
	if err != nil {
		panic(err) // the messages have neither required fields nor texts that have to be UTF-8
	}
	return payload
}

// read reads a message, and returns the fields of it that are not known.
func read(b []byte, m proto.Message) (later string, err error) {
	if err := proto.Unmarshal(b, m); err != nil {
		return "", errRecord
	}
	unknown := m.ProtoReflect().GetUnknown()
	for b := []byte(unknown); len(b) > 0; {
		field, _, n := protowire.ConsumeField(b)
		if n < 0 || m.ProtoReflect().Descriptor().Fields().ByNumber(field) != nil {
			return "", errRecord // a known field of another type
		}
		b = b[n:]
	}
	return string(unknown), nil
}

// readWhole reads a message of which all has to be known.
func readWhole(b []byte, m proto.Message) error {
	later, err := read(b, m)
	if err == nil && later != "" {
		err = unknownField(later)
	}
	return err
}

// unknownField refuses the first of the fields that are not known.
func unknownField(later string) error {
	field, _, _ := protowire.ConsumeField([]byte(later))
	return fmt.Errorf("field %d of a payload of the journal is not known: it was written by a later version", field)
}

// withLater puts fields back that are not known.
func withLater[M proto.Message](m M, later string) M {
	if later != "" {
		m.ProtoReflect().SetUnknown([]byte(later))
	}
	return m
}

// slotOf returns a slot as it was written; one that is none stays none.
func slotOf(slot uint64) int { return int(min(slot, maxRelays)) }

// verdict is what a relay decided of a change.
type verdict struct {
	slot     int
	sequence uint64
	decision decision
	point    history.Point // what it tells of the store's history; zero for nothing new
}

// lastVerdictField is the highest number of a field of a verdict.
const lastVerdictField = 5

func appendVerdict(b []byte, v verdict) []byte {
	b = append(b, byte(verdictPayload))
	b = appendUint(b, 1, uint64(v.slot))
	b = appendUint(b, 2, v.sequence)
	b = appendUint(b, 3, uint64(v.decision))
	epoch, position := pointFields(&v.point)
	return appendUint(appendBytes(b, 4, epoch), 5, position)
}

func decodeVerdict(b []byte) (v verdict, err error) {
	later, err := eachField(b, lastVerdictField, v.number, v.text)
	switch {
	case err != nil:
		return v, err
	case later != "":
		return v, unknownField(later)
	case v.decision == 0:
		return v, errRecord
	}
	return v, nil
}

// number takes a field that is a number, and reports whether there is such a one.
func (v *verdict) number(field protowire.Number, n uint64) bool {
	switch field {
	case 1:
		v.slot = slotOf(n)
	case 2:
		v.sequence = n
	case 3:
		v.decision = decision(n)
		return n <= uint64(withdrawnDecision)
	case 5:
		v.point.Position = n
	default:
		return false
	}
	return true
}

// text takes a field that has a length, and reports whether there is such a one.
func (v *verdict) text(field protowire.Number, text []byte) bool {
	if field != 4 {
		return false
	}
	v.point.Epoch = history.EpochID{}
	copy(v.point.Epoch[:], text)
	return true
}

// pointFields returns a point as two fields; none for the zero point.
func pointFields(p *history.Point) (epoch []byte, position uint64) {
	if *p == (history.Point{}) {
		return nil, 0
	}
	return p.Epoch[:], p.Position
}

func cursorRecord(cur *cursor, a acquaintance) []byte {
	m := &storagev1.SpoolCursor{Slot: uint64(cur.slot), Highest: cur.highest, Digest: cur.digest[:], New: a == newCursor}
	if cur.id != (StoreID{}) {
		m.Store = cur.id[:]
	}
	for _, address := range cur.addresses {
		m.Addresses = append(m.Addresses, []byte(address))
	}
	for _, w := range cur.withdrawn {
		m.Withdrawn = append(m.Withdrawn, append(binary.LittleEndian.AppendUint64(nil, w.Sequence), w.Digest[:]...))
	}
	m.Epoch, m.Position = pointFields(&cur.confirmed)
	return payloadOf(cursorPayload, withLater(m, cur.later))
}

func decodeCursor(b []byte) (cur *cursor, a acquaintance, err error) {
	m := &storagev1.SpoolCursor{}
	later, err := read(b, m)
	if err != nil {
		return nil, a, err
	}
	cur = &cursor{slot: slotOf(m.GetSlot()), highest: m.GetHighest(), later: later, held: map[*group]*time.Timer{}}
	cur.confirmed.Position = m.GetPosition()
	copy(cur.confirmed.Epoch[:], m.GetEpoch())
	copy(cur.id[:], m.GetStore())
	copy(cur.digest[:], m.GetDigest())
	for _, address := range m.GetAddresses() {
		cur.addresses = append(cur.addresses, string(address))
	}
	for _, raw := range m.GetWithdrawn() {
		w := Decided{}
		if len(raw) != 8+len(w.Digest) {
			return nil, a, errRecord
		}
		w.Sequence = binary.LittleEndian.Uint64(raw)
		copy(w.Digest[:], raw[8:])
		cur.withdrawn = append(cur.withdrawn, w)
	}
	if m.GetNew() {
		a = newCursor
	}
	if cur.slot >= maxRelays {
		err = errRecord
	}
	return cur, a, err
}

func droppedRecord(slot int) []byte {
	return payloadOf(droppedPayload, &storagev1.SpoolDropped{Slot: uint64(slot)})
}

func decodeDropped(b []byte) (slot int, err error) {
	m := &storagev1.SpoolDropped{}
	err = readWhole(b, m)
	return slotOf(m.GetSlot()), err
}

func attachRecord(slot int) []byte {
	return payloadOf(attachPayload, &storagev1.SpoolAttach{Slot: uint64(slot)})
}

func decodeAttach(b []byte) (slot int, err error) {
	m := &storagev1.SpoolAttach{}
	err = readWhole(b, m)
	return slotOf(m.GetSlot()), err
}

// numbering are the old and new sequence of each change, in the order of the old ones.
type numbering [][2]uint64

func journalRecord(id JournalID, last uint64, n numbering) []byte {
	m := &storagev1.SpoolJournal{Id: id[:], Last: last, Numbers: make([]uint64, 0, 2*len(n))}
	for _, p := range n {
		m.Numbers = append(m.Numbers, p[0], p[1])
	}
	return payloadOf(journalPayload, m)
}

func decodeJournal(b []byte) (id JournalID, last uint64, n numbering, err error) {
	m := &storagev1.SpoolJournal{}
	if err := readWhole(b, m); err != nil {
		return id, 0, nil, err
	}
	if len(m.GetNumbers())%2 != 0 {
		return id, 0, nil, errRecord
	}
	copy(id[:], m.GetId())
	for pair := range slices.Chunk(m.GetNumbers(), 2) {
		n = append(n, [2]uint64(pair))
	}
	return id, m.GetLast(), n, nil
}

// settingsRecord is of what a relay said of itself.
func settingsRecord(address string, st settings) []byte {
	m := &storagev1.SpoolSettings{Address: []byte(address), AgentLabel: []byte(st.agentLabel), Names: storagev1.SpoolNames(st.names)}
	for _, name := range slices.Sorted(maps.Keys(st.own)) {
		m.Own = append(m.Own, append([]byte{byte(st.own[name])}, name...))
	}
	return payloadOf(settingsPayload, withLater(m, st.later))
}

func decodeSettings(b []byte) (address string, st settings, err error) {
	m := &storagev1.SpoolSettings{}
	later, err := read(b, m)
	if err != nil {
		return "", st, err
	}
	if n := m.GetNames(); n < 0 || n > storagev1.SpoolNames(metric.UTF8Names) {
		return "", st, errRecord
	}
	st = settings{agentLabel: string(m.GetAgentLabel()), names: metric.NameScheme(m.GetNames()), later: later}
	for _, raw := range m.GetOwn() {
		if len(raw) == 0 || !metric.Type(raw[0]).Known() {
			return "", st, errRecord
		}
		if st.own == nil {
			st.own = map[string]metric.Type{}
		}
		st.own[string(raw[1:])] = metric.Type(raw[0])
	}
	return string(m.GetAddress()), st, nil
}

func forgottenRecord(address string) []byte {
	return payloadOf(forgottenPayload, &storagev1.SpoolForgotten{Address: []byte(address)})
}

func decodeForgotten(b []byte) (address string, err error) {
	m := &storagev1.SpoolForgotten{}
	err = readWhole(b, m)
	return string(m.GetAddress()), err
}
