package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"pushrelay/internal/fileowner"
)

// temporarySuffix ends the name of a file that is about to take the place of another.
const temporarySuffix = ".tmp"

// ReplaceFile writes a file beside the old one and renames it over it, each step on disk before the next, so that a crash at any
// moment leaves the old one or the new one. Only the owner may read it. It writes into no file that is there already: what lies
// under the temporary name, a link to somewhere else for instance, is removed and never followed. What root writes belongs to the owner of the directory.
func ReplaceFile(file string, content []byte) error {
	if err := replaceFile(file, content); err != nil {
		return fmt.Errorf("replacing %s: %w", file, err)
	}
	return nil
}

func replaceFile(file string, content []byte) error {
	temporary := file + temporarySuffix
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(temporary, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, fileowner.Adopt(f, filepath.Dir(file)), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(temporary, file); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(file))
}
