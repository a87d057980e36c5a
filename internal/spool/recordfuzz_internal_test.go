package spool

import (
	"bytes"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"pushrelay/internal/change"
	storagev1 "pushrelay/internal/gen/storage/v1"
	"pushrelay/internal/grouping"
	"pushrelay/internal/history"
	"pushrelay/internal/lifetime"
)

// later is a field that a later release may have added to any message.
const later = "\xa2\x06\x05later"

// FuzzRecords looks for a payload of the journal that is another one once it is written again: read and written, what it says stays.
func FuzzRecords(f *testing.F) {
	for _, payload := range sampleRecords(f) {
		f.Add(payload)
		f.Add(append(payload, later...))
	}
	f.Add([]byte("c\x08\x30\x10\x01\x1a\x05job\xff0")) // pushed at the epoch, which is left out
	f.Fuzz(func(t *testing.T, payload []byte) {
		once := rewrite(payload)
		if once == nil {
			return
		}
		if twice := rewrite(once); !bytes.Equal(once, twice) {
			t.Errorf("%q is written as %q, and that as %q", payload, once, twice)
		}
		if storagev1.SpoolPayloadKind(payload[0]) == changePayload {
			if want := asGenerated(t, payload[1:]); !bytes.Equal(once[1:], want) {
				t.Errorf("a change %x is written by hand as\n%x, and by the generated code as\n%x", payload[1:], once[1:], want)
			}
		}
		if storagev1.SpoolPayloadKind(payload[0]) == verdictPayload {
			if want := verdictAsGenerated(t, payload[1:]); !bytes.Equal(once[1:], want) {
				t.Errorf("a verdict %x is written by hand as\n%x, and by the generated code as\n%x", payload[1:], once[1:], want)
			}
		}
	})
}

// asGenerated returns a change that decodeChange takes as the generated code reads and writes it. What the release does with values is done to them.
func asGenerated(t *testing.T, encoded []byte) []byte {
	t.Helper()
	m := &storagev1.SpoolChange{}
	if err := proto.Unmarshal(encoded, m); err != nil {
		t.Fatalf("%x is read, and is no message: %v", encoded, err)
	}
	life, err := lifetime.Restore(lifetime.Texts{TTL: string(m.GetTtl()), Every: string(m.GetEvery()), Schedule: string(m.GetSchedule()), Grace: string(m.GetGrace())})
	if err != nil {
		t.Fatal(err)
	}
	texts := life.Texts()
	m.Ttl, m.Every, m.Schedule, m.Grace = []byte(texts.TTL), []byte(texts.Every), []byte(texts.Schedule), []byte(texts.Grace)
	m.Failed = []byte(change.FailedText(string(m.GetFailed())))
	digest := change.Digest{}
	copy(digest[:], m.GetDigest())
	m.Digest = digest[:]
	if encoded, err = (proto.MarshalOptions{Deterministic: true}).Marshal(m); err != nil {
		t.Fatal(err)
	}
	return encoded
}

// verdictAsGenerated is asGenerated of a verdict that decodeVerdict takes.
func verdictAsGenerated(t *testing.T, encoded []byte) []byte {
	t.Helper()
	m := &storagev1.SpoolVerdict{}
	if err := proto.Unmarshal(encoded, m); err != nil {
		t.Fatalf("%x is read, and is no message: %v", encoded, err)
	}
	m.Slot = min(m.Slot, maxRelays)
	point := history.Point{Position: m.GetPosition()}
	copy(point.Epoch[:], m.GetEpoch())
	m.Epoch, m.Position = pointFields(&point)
	encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

// TestLivesThatCannotBe: what cannot be read of a group's life or of gauges is refused, and a reason of a failure is no longer than it may be.
func TestLivesThatCannotBe(t *testing.T) {
	key, err := grouping.New(grouping.Label{Name: "job", Value: "j"})
	if err != nil {
		t.Fatal(err)
	}
	record := appendChange(nil, &entry{sequence: 3, operation: change.Merge, group: &group{key: key}}, 1, 0)[1:]
	with := func(fields *storagev1.SpoolChange) []byte {
		encoded, err := proto.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		return append(bytes.Clone(record), encoded...)
	}
	for name, wrong := range map[string]*storagev1.SpoolChange{
		"ttl":                   {Ttl: []byte("tomorrow")},
		"every beside schedule": {Every: []byte("1h"), Schedule: []byte("0 0 * * *")},
		"schedule":              {Schedule: []byte(strings.Repeat("1,", 1<<10) + "1 * * * *")},
		"grace":                 {Grace: []byte("1000y")},
		"operation":             {Operation: 8},
		"far operation":         {Operation: 1<<8 + 1},
		"negative operation":    {Operation: -1},
		"format":                {Format: 2},
		"gauges":                {Gauges: 4},
		"many gauges":           {Gauges: 1 << 30},
		"made of newer changes": {From: 4},
	} {
		if c, _, _, err := decodeChange(with(wrong)); err == nil {
			t.Errorf("%s is read as %+v", name, c)
		}
	}
	c, _, _, err := decodeChange(with(&storagev1.SpoolChange{Failed: []byte(strings.Repeat("x\n", 1<<20))}))
	if err != nil || len(c.failed) > change.MaxFailedBytes || strings.Contains(c.failed, "\n") {
		t.Errorf("a long reason is read as %.100q, %v", c.failed, err)
	}
}

// rewrite reads a payload and writes what it says; nil for one that is refused.
func rewrite(payload []byte) []byte {
	if len(payload) == 0 {
		return nil
	}
	b := payload[1:]
	switch storagev1.SpoolPayloadKind(payload[0]) {
	case changePayload:
		c, key, undecided, err := decodeChange(b)
		if err != nil {
			return nil
		}
		c.group = &group{key: key}
		return appendChange(nil, c, undecided, c.sent)
	case verdictPayload:
		if v, err := decodeVerdict(b); err == nil {
			return appendVerdict(nil, v)
		}
	case cursorPayload:
		if cur, a, err := decodeCursor(b); err == nil {
			return cursorRecord(cur, a)
		}
	case droppedPayload:
		if slot, err := decodeDropped(b); err == nil {
			return droppedRecord(slot)
		}
	case attachPayload:
		if slot, err := decodeAttach(b); err == nil {
			return attachRecord(slot)
		}
	case journalPayload:
		if id, last, n, err := decodeJournal(b); err == nil {
			return journalRecord(id, last, n)
		}
	case writerPayload:
		if w, err := decodeWriter(b); err == nil {
			return w.payload()
		}
	case settingsPayload:
		if address, st, err := decodeSettings(b); err == nil {
			return settingsRecord(address, st)
		}
	case forgottenPayload:
		if address, err := decodeForgotten(b); err == nil {
			return forgottenRecord(address)
		}
	}
	return nil
}
