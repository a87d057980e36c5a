package authority

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"pushrelay/internal/datadir"
)

// Fingerprint returns the SHA-256 of the CA's certificate as `openssl x509 -fingerprint -sha256` prints it.
func (a *Authority) Fingerprint() string {
	sum := sha256.Sum256(a.cert.Raw)
	return strings.ReplaceAll(fmt.Sprintf("% X", sum[:]), " ", ":")
}

// Created says that this value made the authority, and did not find it.
func (a *Authority) Created() bool { return a.created }

// Mark writes the CA's fingerprint into the file that [Config.Marker] named, or will name at the next start. It does
// nothing if the file has it already. The directory of the file must be there.
func (a *Authority) Mark(marker string) error {
	text := []byte(a.Fingerprint() + "\n")
	err := withLock(a.dir, func() error {
		if there, err := os.ReadFile(marker); err == nil && string(there) == string(text) {
			return nil
		}
		if err := removeIfThere(marker + unsettled); err != nil {
			return err
		}
		if err := createFile(marker+unsettled, text, certMode); err != nil {
			return err
		}
		return errors.Join(settleFile(marker), datadir.SyncDir(filepath.Dir(marker)))
	})
	if err != nil {
		return fmt.Errorf("marking that there is a certificate authority: %w", err)
	}
	return nil
}

// refuseLost returns an error if the marker says that the directory had an authority.
func (c Config) refuseLost(dir string) error {
	if c.Marker == "" || !exists(c.Marker) {
		return nil
	}
	return fmt.Errorf("directory %q has no certificate authority any more, and %q says that it had one: restore the directory from a backup, or"+
		" remove that file to begin a new authority, for which every agent needs a new certificate", dir, c.Marker)
}
