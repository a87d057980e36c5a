package keep

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/s2"

	"pushrelay/internal/groupstore"
	"pushrelay/internal/history"
	"pushrelay/internal/ledger"
)

// FuzzPayloads looks for marks in a log that are others once they are written into a snapshot, for a record that is another one if it
// is compressed, and for a ledger of a backup that is another one once it is written again.
func FuzzPayloads(f *testing.F) {
	m := marks{
		writer: self("v1"), id: ID{1}, imports: []Import{{Name: "/p", Size: 3, later: []byte("\xa2\x06\x01x")}}, later: [][]byte{[]byte("\xa2\x06\x01y")},
		epochs: []history.Epoch{{ID: history.EpochID{2}, Began: 7}}, laterOfEpochs: map[history.EpochID][]byte{{2}: []byte("\xa2\x06\x01z")},
	}
	payloads, err := m.payloads()
	if err != nil {
		f.Fatal(err)
	}
	for i := range payloads {
		f.Add(payloads[i], payloads[(i+1)%len(payloads)])
	}
	f.Add([]byte("m{}"), []byte(`m{"release":"v9","format":99,"new":1}`))
	for _, former := range []string{`{"store_id":"01000000000000000000000000000000"}`, `{"import":{"name":"/p","size":3,"sha256":"x","at":"2026-11-30T00:00:00Z"}}`, `{"epoch":{"id":"02000000000000000000000000000000","began":7}}`} {
		f.Add([]byte("m"+former), []byte(`m{"release":"v0","format":2}`))
	}
	f.Add(append([]byte{compressedPayload}, s2.Encode(nil, []byte("a record"))...), []byte("sa record"))
	part, err := encodeLedgerPart([]byte(`{"at":"2026-12-01T10:00:00Z","revoked":{"agent":"site-0"}}` + "\n"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`m{"release":"v1","format":4}`), part)
	f.Fuzz(func(t *testing.T, first, second []byte) {
		r := &reading{store: groupstore.New(groupstore.Config{})}
		var records [][]byte
		for _, payload := range [][]byte{first, second} {
			if len(payload) > 0 && payload[0] == ledgerPayload {
				if err := r.backup(payload); err != nil {
					return
				}
				continue
			}
			err := r.split(payload, func(record []byte) error {
				records = append(records, bytes.Clone(record))
				return nil
			})
			if err != nil {
				return
			}
		}
		for _, record := range records {
			compressed := append([]byte{compressedPayload}, s2.Encode(nil, record)...)
			err := r.split(compressed, func(again []byte) error {
				if !bytes.Equal(again, record) {
					t.Errorf("the record %q is %q", record, again)
				}
				return nil
			})
			if err != nil {
				t.Errorf("the record %q: %v", record, err)
			}
		}
		sameLedger(t, &r.ledger)
		if r.marks.writer.Format > newestFormat {
			t.Errorf("what %+v wrote is read", r.marks.writer)
		}
		payloads, err := r.marks.payloads()
		if err != nil {
			t.Fatal(err)
		}
		if r.marks.writer == (writer{}) {
			payloads = payloads[1:] // one that says nothing
		}
		var again reading
		for _, payload := range payloads {
			if err := again.split(payload, nil); err != nil {
				t.Fatalf("%q: %v", payload, err)
			}
		}
		written, err := again.marks.payloads()
		if err != nil {
			t.Fatal(err)
		}
		if r.marks.writer == (writer{}) {
			written = written[1:]
		}
		if diff := cmp.Diff(payloads, written); diff != "" {
			t.Errorf("the marks are others once they are written again:\n%s", diff)
		}
	})
}

// sameLedger writes the ledger of a backup again, and reads that.
func sameLedger(t *testing.T, read *ledgerReading) {
	t.Helper()
	lines, err := ledger.EncodeRecords(read.records)
	if err != nil {
		t.Fatal(err)
	}
	part, err := encodeLedgerPart(lines)
	if err != nil {
		t.Fatal(err)
	}
	var again ledgerReading
	if err := again.take(part[1:]); err != nil {
		t.Fatalf("%q: %v", lines, err)
	}
	if written, err := ledger.EncodeRecords(again.records); err != nil || !bytes.Equal(written, lines) {
		t.Errorf("the ledger %q is %q, %v", lines, written, err)
	}
}

// TestLedgersAreBounded: a ledger of which there is no end is refused before it fills the memory.
func TestLedgersAreBounded(t *testing.T) {
	part, err := encodeLedgerPart([]byte(`{"at":"2026-12-01T10:00:00Z","revoked":{"agent":"site-0"}}` + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	r := ledgerReading{bytes: maxLedgerBytes - 20}
	if err := r.take(part[1:]); !errors.Is(err, errLedgerTooLarge) {
		t.Errorf("take() = %v, want %v", err, errLedgerTooLarge)
	}
}
