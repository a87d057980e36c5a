package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"pushrelay/internal/fileowner"
)

// MakeDir makes a directory and its missing parents, all for their owner only, and each on disk before the next. What root makes belongs to the owner
// of the directory that it is in. It is no error if the directory is there.
func MakeDir(dir string) error {
	dir = filepath.Clean(dir)
	isDir, err := DirExists(dir)
	if err != nil || isDir {
		return err
	}
	parent := filepath.Dir(dir)
	if parent != dir { // as that of a drive that is not there
		if err := MakeDir(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil // another process was faster
		}
		return err
	}
	if err := fileowner.AdoptDir(dir); err != nil {
		os.Remove(dir) //nolint:errcheck // The other error tells more.
		return err
	}
	return SyncDir(parent)
}

// DirExists is an error if there is something else than a directory.
func DirExists(dir string) (bool, error) {
	stat, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case !stat.IsDir():
		return false, fmt.Errorf("%q is not a directory", dir)
	default:
		return true, nil
	}
}

// SyncDir makes creations and renames in a directory survive a power cut, where a system has a call for that.
func SyncDir(path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
