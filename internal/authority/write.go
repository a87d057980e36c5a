package authority

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"pushrelay/internal/datadir"
	"pushrelay/internal/fileowner"
)

// WriteIssued writes what one end needs into dir: ca.crt, <base>.crt and <base>.key. The directory is created for its
// owner only, keys have mode 0600. What root writes belongs to the owner of the directory.
//
// Nothing is overwritten: if one of the files is there already, nothing is written and the error, which wraps
// [fs.ErrExist], names it. A ca.crt with the very same content is no obstacle. Nothing is written into a directory of somebody else
// either, nor below one, see [CheckOut].
func WriteIssued(dir, base string, issued Issued) error {
	if base != filepath.Base(base) || base == "ca" || base == "." {
		return fmt.Errorf("writing certificate: %q cannot be the name of its file", base)
	}
	if err := CheckOut(dir); err != nil {
		return fmt.Errorf("writing certificate: %w", err)
	}
	if err := datadir.MakeDir(dir); err != nil {
		return fmt.Errorf("writing certificate: %w", err)
	}
	if err := writeIssued(dir, newPair(dir, base), issued); err != nil {
		return fmt.Errorf("writing certificate: %w", err)
	}
	return nil
}

// CheckOut refuses a directory that somebody else than root and the user of this process owns, and one that everybody may write to:
// they could take the keys that are written there, or exchange them. So it is with each directory above, and with links on the way
// that are of somebody else. Whoever became root by sudo is not somebody else.
func CheckOut(dir string) error { return fileowner.CheckOutput(dir) }

// writeIssued takes no lock, which would leave its file among those that are carried away: each file is created or
// fails, so of two writers one fails.
func writeIssued(dir string, files pair, issued Issued) error {
	toWrite := []struct {
		path string
		text []byte
		mode fs.FileMode
	}{
		{filepath.Join(dir, "ca.crt"), issued.CAPEM, certMode},
		{files.keyFile, issued.KeyPEM, keyMode},
		{files.certFile, issued.CertPEM, certMode},
	}
	if there, err := os.ReadFile(toWrite[0].path); err == nil && bytes.Equal(there, issued.CAPEM) {
		toWrite = toWrite[1:]
	}
	for _, f := range toWrite {
		if exists(f.path) {
			return fmt.Errorf("%q is not overwritten, move it away or choose another directory: %w", f.path, fs.ErrExist)
		}
	}
	for i, f := range toWrite {
		if err := createFile(f.path, f.text, f.mode); err != nil {
			for _, written := range toWrite[:i] {
				err = errors.Join(err, os.Remove(written.path))
			}
			return err
		}
	}
	return datadir.SyncDir(dir)
}
