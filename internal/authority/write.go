package authority

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteIssued writes what one end needs into dir: ca.crt, <base>.crt and <base>.key. The directory is created for its
// owner only, keys have mode 0600. What root writes belongs to the owner of the directory.
//
// Nothing is overwritten: if one of the files is there already, nothing is written and the error, which wraps
// [fs.ErrExist], names it. A ca.crt with the very same content is no obstacle.
func WriteIssued(dir, base string, issued Issued) error {
	if base != filepath.Base(base) || base == "ca" || base == "." {
		return fmt.Errorf("writing certificate: %q cannot be the name of its file", base)
	}
	if err := makeDir(filepath.Clean(dir)); err != nil {
		return fmt.Errorf("writing certificate: %w", err)
	}
	if err := writeIssued(dir, newPair(dir, base), issued); err != nil {
		return fmt.Errorf("writing certificate: %w", err)
	}
	return nil
}

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
	return syncDir(dir)
}
