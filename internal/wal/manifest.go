package wal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"slices"
)

// ManifestName is the name of the manifest in the directory of a log.
const ManifestName = "manifest"

// manifestVersion is that of its format. The first two fields are the same in every version.
const manifestVersion = 1

// A manifest says which files a log consists of, so that one that is missing, or is another log's, is noticed. It is replaced
// as a whole: a new file is on the disk before the manifest names it, and is named there before anything in it is
// acknowledged; and the manifest stops naming a file before the file goes. It is written when a segment begins, when a
// snapshot replaces what is before it, and when the log is closed; never for a batch.
type manifest struct {
	Format  uint32 `json:"format"`
	Release string `json:"release"`
	// Snapshot is what the log begins with, nil for none; Segments follow it, in order.
	Snapshot *named  `json:"snapshot,omitempty"`
	Segments []named `json:"segments"`
	// End is where the log ends, if that is known: it was closed, or a start has found it. Nil while it is written.
	End *logEnd `json:"end,omitempty"`
	// Lossy says that something is lost of what the log holds. It is so until there is a snapshot of what is left.
	Lossy bool `json:"lossy,omitempty"`
	// Losses are those that nobody has acknowledged.
	Losses []Loss `json:"losses,omitempty"`
}

// named is a file as its header is: by number and salt no other file is taken for it.
type named struct {
	ID   uint64 `json:"id"`
	Salt uint64 `json:"salt,string"`
	// Of a segment: its first batch, how far it is filled ahead at a time, and whether with the pattern of its salt.
	First   uint64 `json:"first,omitempty"`
	Fill    int64  `json:"fill,omitempty"`
	Managed bool   `json:"managed,omitempty"`
}

// logEnd is the end of a log.
type logEnd struct {
	Segment uint64 `json:"segment"`
	Offset  int64  `json:"offset"`
	Next    uint64 `json:"next"` // the number that the next batch gets
}

// nameOf returns how a manifest names a segment.
func nameOf(h header, fill int64) named {
	return named{ID: h.id, Salt: h.salt, First: h.first, Fill: fill, Managed: h.flags&managed != 0}
}

// segment returns how a segment is named; nil if it is not.
func (m *manifest) segment(id uint64) *named {
	if m == nil {
		return nil
	}
	i := slices.IndexFunc(m.Segments, func(n named) bool { return n.ID == id })
	if i < 0 {
		return nil
	}
	return &m.Segments[i]
}

// snapshot returns the number of the snapshot, 0 for none.
func (m *manifest) snapshot() uint64 {
	if m == nil || m.Snapshot == nil {
		return 0
	}
	return m.Snapshot.ID
}

// snapshotNamed returns how a snapshot is named; nil if it is not.
func (m *manifest) snapshotNamed(id uint64) *named {
	if m.snapshot() != id {
		return nil
	}
	return m.Snapshot
}

// last returns the newest segment that is named; nil for none.
func (m *manifest) last() *named {
	if m == nil || len(m.Segments) == 0 {
		return nil
	}
	return &m.Segments[len(m.Segments)-1]
}

// clone returns a copy whose lists can be changed.
func (m *manifest) clone() *manifest {
	c := *m
	c.Segments, c.Losses = slices.Clone(m.Segments), slices.Clone(m.Losses)
	return &c
}

// write replaces the manifest of a directory.
func (m *manifest) write(fsys FS, dir, release string) error {
	m.Format, m.Release = manifestVersion, release
	text, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encoding the manifest: %w", err)
	}
	text = append(text, '\n')
	text = fmt.Appendf(text, manifestSum, crc32.Checksum(text, castagnoli))
	if err := createWhole(fsys, dir, ManifestName, text); err != nil {
		return fmt.Errorf("writing the manifest: %w", err)
	}
	return nil
}

// manifestSum is the last line of a manifest: the checksum of what is before it.
const manifestSum = "crc32c %08x\n"

// readManifest reads the manifest of a directory; nil if there is none. One that cannot be understood is a [*DamagedError],
// that of a newer release a [*VersionError].
func readManifest(fsys FS, dir string) (*manifest, error) {
	path := filepath.Join(dir, ManifestName)
	text, err := readFile(fsys, path)
	if isMissing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m, ok := decodeManifest(text)
	if !ok {
		return nil, &DamagedError{File: path, Reason: "the manifest, which names the files of the log, makes no sense"}
	}
	if m.Format > manifestVersion {
		return nil, &VersionError{File: path, Version: m.Format, Known: manifestVersion, Release: m.Release}
	}
	return m, nil
}

// decodeManifest is false if the text is no manifest. Of a newer version only the first two fields count.
func decodeManifest(text []byte) (*manifest, bool) {
	body, ok := bytes.CutSuffix(text, fmt.Appendf(nil, manifestSum, crc32.Checksum(text[:max(0, len(text)-sumBytes)], castagnoli)))
	if !ok {
		return nil, false
	}
	var first struct {
		Format  uint32
		Release string
	}
	if json.Unmarshal(body, &first) != nil || first.Format == 0 {
		return nil, false
	}
	if first.Format > manifestVersion {
		return &manifest{Format: first.Format, Release: first.Release}, true
	}
	m := &manifest{}
	if json.Unmarshal(body, m) != nil {
		return nil, false
	}
	sorted := slices.IsSortedFunc(m.Segments, func(a, b named) int { // and none twice
		if a.ID <= b.ID {
			return -1
		}
		return 1
	})
	return m, sorted
}

// sumBytes is the length of the last line.
const sumBytes = len("crc32c 00000000\n")

// readFile reads a small file.
func readFile(fsys FS, path string) ([]byte, error) {
	f, err := fsys.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening: %w", err)
	}
	defer f.Close() //nolint:errcheck // Nothing was written.
	size, err := f.Size()
	if err != nil {
		return nil, fmt.Errorf("reading %q: %w", path, err)
	}
	b := make([]byte, size)
	if n, err := f.ReadAt(b, 0); n < len(b) {
		return nil, fmt.Errorf("reading %q: %w", path, err)
	}
	return b, nil
}
