package keep

import (
	"bytes"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/s2"

	"pushrelay/internal/groupstore"
	"pushrelay/internal/history"
)

// FuzzPayloads looks for marks in a log that are others once they are written into a snapshot, and for a record that is another one if it
// is compressed.
func FuzzPayloads(f *testing.F) {
	m := marks{writer: self("v1"), id: ID{1}, imports: []Import{{Name: "/p", Size: 3}}, epochs: []history.Epoch{{ID: history.EpochID{2}, Began: 7}}}
	payloads, err := m.payloads()
	if err != nil {
		f.Fatal(err)
	}
	for i := range payloads {
		f.Add(payloads[i], payloads[(i+1)%len(payloads)])
	}
	f.Add([]byte("m{}"), []byte(`m{"release":"v9","format":99,"new":1}`))
	f.Add(append([]byte{compressedPayload}, s2.Encode(nil, []byte("a record"))...), []byte("sa record"))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		r := &reading{store: groupstore.New(groupstore.Config{})}
		var records [][]byte
		for _, payload := range [][]byte{first, second} {
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
		if r.marks.writer.Format > format {
			t.Errorf("what %+v wrote is read", r.marks.writer)
		}
		payloads, err := r.marks.payloads()
		if err != nil {
			t.Fatal(err)
		}
		if r.marks.writer == (writer{}) {
			payloads = payloads[1:] // one that says nothing
		}
		var again marks
		for _, payload := range payloads {
			if err := again.take(payload[1:]); err != nil {
				t.Fatalf("%s: %v", payload, err)
			}
		}
		if again.writer != r.marks.writer || again.id != r.marks.id || !slices.Equal(again.epochs, r.marks.epochs) || !cmp.Equal(again.imports, r.marks.imports) {
			t.Errorf("the marks %+v are %+v once they are written again", r.marks, again)
		}
	})
}
