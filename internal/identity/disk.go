package identity

import (
	"os"
	"path/filepath"

	"pushrelay/internal/datadir"
	"pushrelay/internal/fileowner"
)

// disk is what a store does to its directory. Each is whole or not at all, so that an end between any two of them is all that can happen.
type disk interface {
	// replace is [datadir.ReplaceFile].
	replace(file string, content []byte) error
	// rename is durable when it returns.
	rename(from, to string) error
	// makeTemp makes a directory whose name begins with newPrefix.
	makeTemp(in string) (string, error)
	removeAll(path string) error
}

// osDisk is the one of the system.
type osDisk struct{}

func (osDisk) replace(file string, content []byte) error { return datadir.ReplaceFile(file, content) }

func (osDisk) rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return datadir.SyncDir(filepath.Dir(to))
}

func (osDisk) makeTemp(in string) (string, error) {
	dir, err := os.MkdirTemp(in, newPrefix)
	if err != nil {
		return "", err
	}
	return dir, fileowner.AdoptDir(dir)
}

func (osDisk) removeAll(path string) error { return os.RemoveAll(path) }
