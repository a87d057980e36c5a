package spool

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/addup"
	"pushrelay/internal/change"
	"pushrelay/internal/grouping"
	"pushrelay/internal/history"
	"pushrelay/internal/lifetime"
)

// FuzzRecords looks for a payload of the journal that is another one once it is written again: read and written, what it says stays.
func FuzzRecords(f *testing.F) {
	key, err := grouping.New(grouping.Label{Name: "job", Value: "j"})
	if err != nil {
		f.Fatal(err)
	}
	c := &entry{sequence: 3, operation: change.Replace, group: &group{key: key}, body: []byte("x"), bodyBytes: 1, families: []uint64{1, 2}, pushedAt: time.Unix(1, 2), owner: "o", applied: true}
	f.Add(appendChange(nil, c, 5, 4))
	said := &entry{
		sequence: 4, operation: change.Merge, group: &group{key: key}, failed: "exit status 2",
		life: lifetime.Declaration{TTL: lifetime.Period(time.Hour), Schedule: "TZ=Europe/Berlin 15 3 * * *", Grace: lifetime.None},
	}
	f.Add(appendChange(nil, said, 1, 0))
	said.life = lifetime.Declaration{TTL: lifetime.ByRule, Every: lifetime.Period(time.Millisecond)}
	f.Add(appendChange(nil, said, 1, 0))
	f.Add(appendChange(nil, &entry{sequence: 5, from: 3, operation: change.Add, gauges: addup.Sum, anew: 2, group: &group{key: key}}, 3, 2))
	f.Add(appendChange(nil, &entry{sequence: 6, operation: change.MergeSeries, group: &group{key: key}}, 1, 0))
	f.Add(appendVerdict(nil, verdict{slot: 1, sequence: 7, decision: rejectedDecision, point: history.Point{Epoch: history.EpochID{1}, Position: 9}}))
	f.Add(cursorRecord(&cursor{slot: 2, id: StoreID{1}, addresses: []string{"a:1", "b:2"}, highest: 8, withdrawn: []Decided{{Sequence: 9}}}, newCursor))
	f.Add(appendDropped(nil, 1))
	f.Add(appendAttach(nil, 2))
	f.Add(appendJournal([]byte{}, JournalID{1}, 9, numbering{{1, 2}, {3, 4}}))
	f.Add(writer{format: format, release: "v1"}.payload())
	f.Fuzz(func(t *testing.T, payload []byte) {
		once := rewrite(payload)
		if once == nil {
			return
		}
		if twice := rewrite(once); !bytes.Equal(once, twice) {
			t.Errorf("%q is written as %q, and that as %q", payload, once, twice)
		}
	})
}

// TestLivesThatCannotBe: what cannot be read of a group's life or of gauges is refused, and a reason of a failure is no longer than it may be.
func TestLivesThatCannotBe(t *testing.T) {
	key, err := grouping.New(grouping.Label{Name: "job", Value: "j"})
	if err != nil {
		t.Fatal(err)
	}
	record := appendChange(nil, &entry{sequence: 3, operation: change.Merge, group: &group{key: key}}, 1, 0)[1:]
	for name, wrong := range map[string][]byte{
		"ttl":                   appendBytes(nil, 14, "tomorrow"),
		"every beside schedule": appendBytes(appendBytes(nil, 15, "1h"), 16, "0 0 * * *"),
		"schedule":              appendBytes(nil, 16, strings.Repeat("1,", 1<<10)+"1 * * * *"),
		"grace":                 appendBytes(nil, 17, "1000y"),
		"gauges":                appendUint(nil, 19, 4),
		"many gauges":           appendUint(nil, 19, 1<<40),
		"made of newer changes": appendUint(nil, 21, 4),
	} {
		if c, _, _, err := decodeChange(append(bytes.Clone(record), wrong...)); err == nil {
			t.Errorf("%s is read as %+v", name, c)
		}
	}
	c, _, _, err := decodeChange(appendBytes(record, 18, strings.Repeat("x\n", 1<<20)))
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
	switch payload[0] {
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
	case droppedPayload, attachPayload:
		var slot uint64
		if decodeNumbers(b, &slot) == nil {
			return appendUint(payload[:1:1], 1, slot)
		}
	case journalPayload:
		if id, last, n, err := decodeJournal(b); err == nil {
			return appendJournal(payload[:0:0], id, last, n)
		}
	case writerPayload:
		if w, err := decodeWriter(b); err == nil {
			return w.payload()
		}
	}
	return nil
}
