package ledger

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"pushrelay/internal/datadir"
)

// A DamagedError says that a ledger cannot be believed.
type DamagedError struct {
	// File is its path, Line where it is damaged.
	File string
	Line int
	// Reason says what is wrong there.
	Reason error
}

// Error says what can be done. Who is revoked cannot be told any more, and nobody but a person can decide about that.
func (e *DamagedError) Error() string {
	return fmt.Sprintf("the ledger of certificates is damaged: %q, line %d: %v. Who was revoked cannot be told, so that nothing is done with it and nothing was changed: put the file back"+
		" from a backup; or move it and %q away to begin an empty ledger, and revoke again who must stay out (grep revoked in the file names them)", e.File, e.Line, e.Reason, markerName)
}

// Unwrap returns the reason.
func (e *DamagedError) Unwrap() error { return e.Reason }

// content is what a file holds.
type content struct {
	records []Record
	// sum is that of the last line.
	sum uint32
	// sound says that the file is there and another line can follow.
	sound bool
	// earlier says that its format is an earlier one, which has no place for all that may follow.
	earlier bool
	// torn is how many bytes at the end were never written whole.
	torn int
}

// readFile reads the file of a data dir; one that never had any is empty.
func readFile(dir string) (content, error) {
	file := filepath.Join(dir, fileName)
	raw, err := readNoFollow(file)
	switch {
	case errors.Is(err, fs.ErrNotExist) && isThere(dir, markerName):
		return content{}, fmt.Errorf("the ledger %q is missing, and %q says that there was one. Who was revoked cannot be told: put the file back from a backup; or remove %q to"+
			" begin an empty ledger, which lets everybody in who was revoked", file, filepath.Join(dir, markerName), markerName)
	case errors.Is(err, fs.ErrNotExist):
		return content{}, nil
	case err != nil:
		return content{}, fmt.Errorf("reading the ledger: %w", err)
	}
	c, err := decode(raw)
	if damaged, ok := errors.AsType[*DamagedError](err); ok {
		damaged.File = file
	}
	if newer, ok := errors.AsType[*datadir.NewerError](err); ok {
		newer.What = file
	}
	return c, err
}

// readNoFollow reads a file, through no link.
func readNoFollow(file string) ([]byte, error) {
	f, err := openFile(file, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	var raw bytes.Buffer
	_, err = raw.ReadFrom(f)
	return raw.Bytes(), errors.Join(err, f.Close())
}

// decode reads a file. The last line alone may be one that was never written whole.
func decode(raw []byte) (content, error) {
	first, rest, ended := bytes.Cut(raw, []byte("\n"))
	c, err := decodeHeader(first)
	if err != nil {
		return content{}, err
	}
	if !ended { // the first line is written with its end, or not at all
		return content{}, &DamagedError{Line: 1, Reason: errors.New("it has no end")}
	}
	c.sound = true
	for number := 2; len(rest) > 0; number++ {
		line, after, ended := bytes.Cut(rest, []byte("\n"))
		r, sum, err := decodeRecord(line, c.sum)
		switch {
		case err != nil && len(after) == 0 && neverWhole(line, ended):
			c.torn, c.sound = len(rest), false
			return c, nil
		case err != nil:
			return content{}, &DamagedError{Line: number, Reason: err}
		}
		c.records, c.sum = append(c.records, r), sum
		rest, c.sound = after, ended
	}
	return c, nil
}

// neverWhole reports whether the last line can be what a power cut left of one that nobody was told of: without its end, or with a hole
// that the file system filled. One that is whole and wrong was changed after it was written.
func neverWhole(line []byte, ended bool) bool { return !ended || bytes.IndexByte(line, 0) >= 0 }

func decodeHeader(line []byte) (content, error) {
	_, sum, err := unseal(line, 0)
	h := datadir.ReadHead(line) // a newer file may end its lines in another way
	newer := h.CheckKnown("", FormatVersion)
	switch {
	case newer != nil:
		return content{}, newer
	case err != nil:
		return content{}, &DamagedError{Line: 1, Reason: err}
	case h.Version == 0:
		return content{}, &DamagedError{Line: 1, Reason: errors.New("it has no format version")}
	}
	return content{sum: sum, earlier: h.Version < FormatVersion}, nil
}

func decodeRecord(line []byte, before uint32) (r Record, sum uint32, err error) {
	raw, sum, err := unseal(line, before)
	if err != nil {
		return Record{}, 0, err
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		return Record{}, 0, err
	}
	return r, sum, r.check()
}
