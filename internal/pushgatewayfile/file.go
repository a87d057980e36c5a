// Package pushgatewayfile reads and writes the file that a Pushgateway keeps its groups in (--persistence.file), so that one
// can come from a Pushgateway and go back to it.
//
// It promises that a file which cannot be understood is refused whole, that everything a Pushgateway would expose arrives in
// the store with its times, and that a Pushgateway starts from what is written here with everything that the store
// exposes. It changes no file but the one that it writes, and that one whole or not at all. It does not know when to do
// so. Start reading at [Read] and [Write].
package pushgatewayfile

import (
	"bytes"
	"crypto/sha256"
	"encoding/gob"
	"encoding/hex"
	"fmt"
	"os"
	"time"
)

// The types of the file: a gob of groups, by a key that says no more than their labels. The names of fields are part of the
// format, those of types are not. Pushgateways from 1.0 on write it.
type (
	fileGroup struct {
		Labels  map[string]string
		Metrics map[string]fileFamily
	}
	fileFamily struct {
		Timestamp            time.Time
		GobbableMetricFamily *message
	}
)

// message is an encoded MetricFamily.
type message []byte

// GobDecode takes the bytes, which are the decoder's.
func (m *message) GobDecode(b []byte) error {
	*m = bytes.Clone(b)
	return nil
}

// File is the content of a file.
type File struct {
	// Size in bytes and SHA256 in hexadecimal are those of the whole file.
	Size   int64
	SHA256 string

	groups map[string]fileGroup
}

// Len returns the number of groups.
func (f *File) Len() int { return len(f.groups) }

// Read reads a file. A missing file is fs.ErrNotExist; any other error says that nothing of it can be used. The families in
// it are looked at when they are imported.
func Read(path string) (*File, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(content)
	f := &File{Size: int64(len(content)), SHA256: hex.EncodeToString(sum[:])}
	rest := bytes.NewReader(content)
	if err := gob.NewDecoder(rest).Decode(&f.groups); err != nil {
		return nil, fmt.Errorf("decoding %q as a Pushgateway's file: %w", path, err)
	}
	if rest.Len() > 0 {
		return nil, fmt.Errorf("decoding %q as a Pushgateway's file: %d bytes follow its end", path, rest.Len())
	}
	return f, nil
}
