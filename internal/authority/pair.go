package authority

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"pushrelay/internal/datadir"
	"pushrelay/internal/mtls"
)

// Modes of the files: a key is its owner's only.
const (
	certMode fs.FileMode = 0o644
	keyMode  fs.FileMode = 0o600
)

// unsettled ends the name of a file that waits to be renamed into place.
const unsettled = ".new"

// errNoPair says that neither the certificate nor the key is there.
var errNoPair = errors.New("neither certificate nor key")

// brokenPairError says that the two files do not make a pair: one is missing or damaged, or they are of two pairs.
type brokenPairError struct{ err error }

func (e *brokenPairError) Error() string { return e.err.Error() }
func (e *brokenPairError) Unwrap() error { return e.err }

// pair is a certificate and its key on disk, which change together or not at all.
//
// Two files cannot be renamed at once, so a change is: both new files written and synced under another name; then the key
// renamed, then the certificate. If we crash before the first rename, the old pair stands and the new files are removed.
// If we crash between the two, one new file is in place and the other still waits; settle finds that those two belong
// together and finishes the change. Nothing is guessed: only files that fit each other are put together.
//
// All methods are called with the lock of the directory held.
type pair struct {
	dir               string
	certFile, keyFile string
}

func newPair(dir, base string) pair {
	return pair{dir: dir, certFile: filepath.Join(dir, base+".crt"), keyFile: filepath.Join(dir, base+".key")}
}

// read returns the certificate's text and the parsed pair. The error is errNoPair, a *brokenPairError, or that of a file
// that cannot be read.
func (p pair) read() (certPEM []byte, cert tls.Certificate, err error) {
	certPEM, certErr := os.ReadFile(p.certFile)
	keyPEM, keyErr := os.ReadFile(p.keyFile)
	noCert, noKey := errors.Is(certErr, fs.ErrNotExist), errors.Is(keyErr, fs.ErrNotExist)
	switch {
	case noCert && noKey:
		return nil, tls.Certificate{}, errNoPair
	case noCert:
		return nil, tls.Certificate{}, &brokenPairError{fmt.Errorf("%q is there, %q is missing", p.keyFile, p.certFile)}
	case noKey:
		return nil, tls.Certificate{}, &brokenPairError{fmt.Errorf("%q is there, %q is missing", p.certFile, p.keyFile)}
	case certErr != nil || keyErr != nil:
		return nil, tls.Certificate{}, errors.Join(certErr, keyErr)
	}
	cert, err = mtls.ParsePair(certPEM, keyPEM)
	if err != nil {
		return nil, tls.Certificate{}, &brokenPairError{fmt.Errorf("%q and %q: %w", p.certFile, p.keyFile, err)}
	}
	return certPEM, cert, nil
}

// write replaces the pair.
func (p pair) write(certPEM, keyPEM []byte) error {
	if err := p.removeUnsettled(); err != nil {
		return err
	}
	if err := createFile(p.keyFile+unsettled, keyPEM, keyMode); err != nil {
		return err
	}
	if err := createFile(p.certFile+unsettled, certPEM, certMode); err != nil {
		return errors.Join(err, p.removeUnsettled())
	}
	// The waiting names must be on disk before the first rename can be, or settle would miss the other half.
	if err := datadir.SyncDir(p.dir); err != nil {
		return err
	}
	if err := settleFile(p.keyFile); err != nil {
		return err
	}
	if err := settleFile(p.certFile); err != nil {
		return err
	}
	return datadir.SyncDir(p.dir)
}

// settle finishes or takes back a change that a crash cut short. What it cannot explain it leaves alone, for read to
// report.
func (p pair) settle() error {
	newCert, newKey := p.certFile+unsettled, p.keyFile+unsettled
	if !exists(newCert) && !exists(newKey) {
		return nil
	}
	switch {
	case belongTogether(p.certFile, p.keyFile), !exists(p.certFile) && !exists(p.keyFile):
		// Cut short before the first rename (or after the second): nobody has seen the new files.
		return p.removeUnsettled()
	case belongTogether(newCert, p.keyFile):
		return errors.Join(settleFile(p.certFile), datadir.SyncDir(p.dir))
	case belongTogether(p.certFile, newKey):
		// The renames can reach the disk in the other order.
		return errors.Join(settleFile(p.keyFile), datadir.SyncDir(p.dir))
	}
	return nil
}

func (p pair) removeUnsettled() error {
	for _, name := range []string{p.certFile, p.keyFile} {
		if err := removeIfThere(name + unsettled); err != nil {
			return err
		}
	}
	return nil
}

func removeIfThere(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing what was left over: %w", err)
	}
	return nil
}

func settleFile(name string) error {
	if err := os.Rename(name+unsettled, name); err != nil {
		return fmt.Errorf("putting %q in place: %w", name, err)
	}
	return nil
}

func belongTogether(certFile, keyFile string) bool {
	certPEM, certErr := os.ReadFile(certFile)
	keyPEM, keyErr := os.ReadFile(keyFile)
	if certErr != nil || keyErr != nil {
		return false
	}
	_, err := mtls.ParsePair(certPEM, keyPEM)
	return err == nil
}

// exists says yes when it cannot tell, so that nothing is taken for absent that may be there.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
