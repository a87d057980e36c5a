package ledger

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"pushrelay/internal/datadir"
)

// leastLooked is how many records there are before it is looked whether many are over.
const leastLooked = 256

// A WriteError says that the ledger could not be written, so that nothing of what was to be noted counts.
type WriteError struct{ err error }

// Error says what failed.
func (e *WriteError) Error() string { return "writing the ledger: " + e.err.Error() }

// Unwrap returns what failed.
func (e *WriteError) Unwrap() error { return e.err }

// append writes records, and lets all of them count once they are on the disk, or none. The caller holds writing.
//
// If a write fails, nobody knows what of it is on the disk, and what the system says of that file from then on proves nothing. So the next
// record makes the file anew, from memory. Until then a restart may find the record that failed, or not.
func (l *Ledger) append(records ...record) error {
	if l.file == nil || l.isDue(records[0].At) {
		return l.rewrite(records)
	}
	lines, sum, err := sealAll(nil, records, l.sum)
	if err != nil {
		return err
	}
	_, err = l.file.Write(lines)
	if err == nil {
		err = l.file.Sync()
	}
	if err != nil {
		l.file.Close() //nolint:errcheck // It is not used any more.
		l.file = nil
		return &WriteError{err}
	}
	l.sum = sum
	for _, r := range records {
		l.add(r)
	}
	return nil
}

// isDue reports whether half of the records are over, so that the file can be made smaller. It looks seldom, as that costs a look at each.
// The caller holds writing.
func (l *Ledger) isDue(now time.Time) bool {
	records := l.count()
	if records < l.lookAt || records < leastLooked {
		return false
	}
	l.lookAt = records + max(leastLooked, records/8)
	return l.cfg.Grace > 0 && len(l.live(now, l.cfg.Grace)) <= records/2
}

// rewrite makes the file anew, with what is not over and more records. The caller holds writing.
func (l *Ledger) rewrite(more []record) error {
	records := append(l.kept(more[0].At), more...)
	text, sum, err := encode(datadir.Head{Version: fileVersion, Release: l.cfg.Release}, records)
	if err != nil {
		return err
	}
	path := filepath.Join(l.cfg.Dir, fileName)
	if err := datadir.ReplaceFile(path, text); err != nil {
		return &WriteError{err}
	}
	l.mark()
	if l.file != nil {
		l.file.Close() //nolint:errcheck // It was synced, and is another file by now.
	}
	l.sum, l.lookAt = sum, 0
	if l.file, err = openToAppend(path); err != nil {
		l.file = nil // The record is there; the next one makes the file anew once more.
	}
	l.reset(records)
	return nil
}

// kept returns the records that a new file has.
func (l *Ledger) kept(now time.Time) []record {
	if l.cfg.Grace == 0 {
		return l.all()
	}
	return l.live(now, l.cfg.Grace)
}

// mark makes the marker if it is missing. Where that fails, as on a full disk, a loss of the ledger would not be noticed, which is no reason to
// refuse what was written.
func (l *Ledger) mark() {
	if !isThere(l.cfg.Dir, markerName) {
		datadir.ReplaceFile(filepath.Join(l.cfg.Dir, markerName), []byte("a ledger of certificates was begun here\n")) //nolint:errcheck // See above.
	}
}

// encode returns a whole file, and the checksum of its last line.
func encode(h datadir.Head, records []record) (text []byte, sum uint32, err error) {
	if text, sum, err = seal(h, 0); err != nil {
		return nil, 0, err
	}
	return sealAll(text, records, sum)
}

// sealAll adds records as lines to a text whose last one has the given checksum.
func sealAll(text []byte, records []record, before uint32) (longer []byte, sum uint32, err error) {
	for _, r := range records {
		var line []byte
		if line, before, err = seal(r, before); err != nil {
			return nil, 0, err
		}
		text = append(text, line...)
	}
	return text, before, nil
}

// openToAppend opens the file, through no link.
func openToAppend(path string) (*os.File, error) {
	f, err := openFile(path, os.O_WRONLY|os.O_APPEND)
	if err != nil {
		return nil, err
	}
	if stat, err := f.Stat(); err != nil || !stat.Mode().IsRegular() {
		return nil, errors.Join(fmt.Errorf("%q is no regular file", path), err, f.Close())
	}
	return f, nil
}
