package wal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"testing"
)

// FuzzManifest looks for a manifest that names a segment twice or out of order, or that is another once it is written again. Its checksum is
// made right, so that what is behind it is reached; without that, no other text than the one that was written is a manifest.
func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"format":1,"release":"v1","segments":[{"id":1,"salt":"7","first":1,"fill":1048576,"managed":true},{"id":2,"salt":"8"}],"end":{"segment":2,"offset":403,"next":5}}`))
	f.Add([]byte(`{"format":1,"snapshot":{"id":3,"salt":"9"},"segments":[{"id":4,"salt":"1"},{"id":4,"salt":"1"}],"lossy":true,"losses":[{}]}`))
	f.Add([]byte(`{"format":99,"release":"v9","segments":"other"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		text = append(bytes.Clone(text), '\n')
		sealed := fmt.Appendf(bytes.Clone(text), manifestSum, crc32.Checksum(text, castagnoli))
		m, ok := decodeManifest(sealed)
		if !ok {
			return
		}
		for i := range sealed[:min(len(sealed), 100)] {
			damaged := bytes.Clone(sealed)
			damaged[i] ^= 1
			if _, ok := decodeManifest(damaged); ok {
				t.Errorf("with another byte %d it is a manifest still", i)
			}
		}
		if m.Format > manifestVersion {
			return
		}
		for i := range m.Segments[min(1, len(m.Segments)):] {
			if m.Segments[i].ID >= m.Segments[i+1].ID {
				t.Errorf("segment %d comes before %d", m.Segments[i].ID, m.Segments[i+1].ID)
			}
		}
		written, err := json.Marshal(m)
		if err != nil {
			return // a time that JSON does not have
		}
		written = append(written, '\n')
		again, ok := decodeManifest(fmt.Appendf(bytes.Clone(written), manifestSum, crc32.Checksum(written, castagnoli)))
		if !ok {
			t.Fatalf("it is none once it is written again: %s", written)
		}
		if rewritten, err := json.Marshal(again); err != nil || !bytes.Equal(append(rewritten, '\n'), written) {
			t.Errorf("%s is %s once it is read again, %v", written, rewritten, err)
		}
	})
}
