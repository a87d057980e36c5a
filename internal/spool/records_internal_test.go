package spool

import (
	"bytes"
	"encoding/hex"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"pushrelay/internal/addup"
	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	storagev1 "pushrelay/internal/gen/storage/v1"
	"pushrelay/internal/grouping"
	"pushrelay/internal/history"
	"pushrelay/internal/lifetime"
	"pushrelay/internal/metric"
)

// sampleRecords are a journal with payloads of each kind, with each field.
func sampleRecords(tb testing.TB) [][]byte {
	tb.Helper()
	groupOf := func(labels ...grouping.Label) *group {
		key, err := grouping.New(append([]grouping.Label{{Name: "job", Value: "j"}}, labels...)...)
		if err != nil {
			tb.Fatal(err)
		}
		return &group{key: key}
	}
	body := []byte("\x04\x0cm 1\n") // "m 1\n", compressed by S2
	at := time.Unix(1_790_000_000, 123_456_789)
	replace := &entry{
		sequence: 1, operation: change.Replace, group: groupOf(), body: body, bodyBytes: 4, families: []uint64{1, 1 << 63}, pushedAt: at, digest: change.Digest{1},
	}
	add := &entry{
		sequence: 301, from: 299, operation: change.Add, gauges: addup.Sum, group: groupOf(grouping.Label{Name: "instance", Value: "ü"}), format: exposition.ProtobufDelimited,
		body: body, bodyBytes: 4, families: []uint64{2}, pushedAt: at.Add(time.Second), digest: change.Digest{15: 2}, owner: "textfile", failed: "exit status 2", anew: 2, applied: true,
		life: lifetime.Declaration{TTL: lifetime.Period(time.Hour), Schedule: "TZ=Europe/Berlin 15 3 * * *", Grace: lifetime.None},
	}
	every := &entry{
		sequence: 302, operation: change.MergeSeries, group: add.group, body: body, bodyBytes: 4, families: []uint64{2}, pushedAt: at.Add(2 * time.Second), digest: change.Digest{3},
		life: lifetime.Declaration{TTL: lifetime.ByRule, Every: lifetime.Period(time.Millisecond)},
	}
	merge := &entry{
		sequence: 303, operation: change.Merge, group: add.group, body: body, bodyBytes: 4, families: []uint64{3}, pushedAt: time.Unix(0, -1), digest: change.Digest{4},
	}
	known := &cursor{
		slot: 0, id: StoreID{7}, addresses: []string{"a:1", "b:1"}, highest: 300, digest: change.Digest{1},
		withdrawn: []Decided{{Sequence: 301, Digest: change.Digest{8}}, {Sequence: 1 << 60}}, confirmed: history.Point{Epoch: history.EpochID{9}, Position: 10},
	}
	said := settings{agentLabel: "agent", names: metric.UTF8Names, own: map[string]metric.Type{"up": metric.Gauge, "relay_x_total": metric.Counter, "n": metric.Untyped}}
	return [][]byte{
		writer{format: format, release: "0.9"}.payload(),
		journalRecord(JournalID{1}, 0, nil),
		cursorRecord(&cursor{slot: 0, addresses: []string{"a:1"}}, newCursor),
		cursorRecord(&cursor{slot: 1, id: StoreID{15: 1}, addresses: []string{"c:1"}}, newCursor),
		cursorRecord(&cursor{slot: 2, id: StoreID{2}}, newCursor),
		droppedRecord(2),
		appendChange(nil, replace, 3, 1),
		attachRecord(0),
		attachRecord(1),
		appendVerdict(nil, verdict{slot: 0, sequence: 1, decision: appliedDecision, point: history.Point{Epoch: history.EpochID{9}, Position: 9}}),
		journalRecord(JournalID{2}, 300, numbering{{1, 300}, {2, 0}}),
		cursorRecord(known, knownCursor),
		appendChange(nil, add, 3, 2),
		appendChange(nil, every, 2, 0),
		appendChange(nil, merge, 1, 0),
		appendChange(nil, &entry{sequence: 304, operation: change.Delete, group: groupOf(grouping.Label{Name: "x", Value: ""}), pushedAt: at}, 3, 0),
		appendChange(nil, &entry{sequence: 305, operation: change.Fail, group: add.group, pushedAt: at.Add(time.Minute)}, 3, 0),
		appendVerdict(nil, verdict{slot: 1, sequence: 302, decision: rejectedDecision}),
		appendVerdict(nil, verdict{slot: 1, sequence: 304, decision: withdrawnDecision}),
		settingsRecord("a:1", said),
		settingsRecord("d:1", settings{}),
		forgottenRecord("d:1"),
	}
}

// formerRecords are the same as the release wrote them that had its encoding by hand: each a line of its kind, and what follows in hexadecimal.
func formerRecords(tb testing.TB) (all [][]byte) {
	tb.Helper()
	text, err := os.ReadFile("testdata/records.txt")
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		kind, fields, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		raw, err := hex.DecodeString(fields)
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, append([]byte(kind), raw...))
	}
	return all
}

// TestRecordsAreAsBefore: what is written is, byte for byte, what releases before the proto wrote, and what they wrote is read.
func TestRecordsAreAsBefore(t *testing.T) {
	former, now := formerRecords(t), sampleRecords(t)
	if len(former) != len(now) {
		t.Fatalf("there are %d former payloads of %d", len(former), len(now))
	}
	for i, want := range former {
		if !bytes.Equal(now[i], want) {
			t.Errorf("payload %d is written as\n%x, and was\n%x", i, now[i], want)
		}
		if got := rewrite(want); !bytes.Equal(got, want) {
			t.Errorf("payload %d is read and written as\n%x, and was\n%x", i, got, want)
		}
		generated := want[1:]
		switch storagev1.SpoolPayloadKind(want[0]) {
		case changePayload:
			generated = asGenerated(t, want[1:])
		case verdictPayload:
			generated = verdictAsGenerated(t, want[1:])
		}
		if !bytes.Equal(generated, want[1:]) {
			t.Errorf("payload %d is read and written by the generated code as\n%x, and was\n%x", i, generated, want[1:])
		}
	}
}

// TestNumbersAreThoseOfTheProto: what is written by its number in the program has the same one in the proto.
func TestNumbersAreThoseOfTheProto(t *testing.T) {
	for number, want := range map[storagev1.SpoolOperation]change.Operation{
		storagev1.SpoolOperation_SPOOL_OPERATION_REPLACE: change.Replace, storagev1.SpoolOperation_SPOOL_OPERATION_MERGE: change.Merge,
		storagev1.SpoolOperation_SPOOL_OPERATION_DELETE: change.Delete, storagev1.SpoolOperation_SPOOL_OPERATION_FAIL: change.Fail,
		storagev1.SpoolOperation_SPOOL_OPERATION_MERGE_SERIES: change.MergeSeries, storagev1.SpoolOperation_SPOOL_OPERATION_ADD: change.Add,
	} {
		if int(number) != int(want) {
			t.Errorf("%v has the number %d, and %v %d", number, number, want, want)
		}
	}
	for i := range 256 {
		_, known := storagev1.SpoolOperation_name[int32(i)]
		if want := change.Operation(i).IsPush(); (known && i != 0) != want {
			t.Errorf("%v is known to the proto: %v", change.Operation(i), known)
		}
		if _, known := storagev1.SpoolGauges_name[int32(i)]; known != addup.Gauges(i).IsKnown() {
			t.Errorf("%v is known to the proto: %v", addup.Gauges(i), known)
		}
	}
	for last, m := range map[protowire.Number]proto.Message{lastChangeField: &storagev1.SpoolChange{}, lastVerdictField: &storagev1.SpoolVerdict{}} {
		for i := range protowire.Number(100) {
			if known := m.ProtoReflect().Descriptor().Fields().ByNumber(i) != nil; known != (i > 0 && i <= last) {
				t.Errorf("field %d of %T is known to the proto: %v", i, m, known)
			}
		}
	}
	if n := storagev1.SpoolFormat_SPOOL_FORMAT_PROTOBUF_DELIMITED; int(n) != int(exposition.ProtobufDelimited) {
		t.Errorf("%v has the number %d", n, n)
	}
	if n := storagev1.SpoolNames_SPOOL_NAMES_UTF8; int(n) != int(metric.UTF8Names) {
		t.Errorf("%v has the number %d", n, n)
	}
}
