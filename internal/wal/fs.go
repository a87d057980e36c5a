package wal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
)

// FS is what the log needs of a file system. Paths are those of the operating system; errors wrap those of [io/fs], where
// they have a word for it.
type FS interface {
	// MakeDir creates a directory, and its parents, unless it is there.
	MakeDir(dir string) error
	// ReadDir returns the names in a directory, in any order.
	ReadDir(dir string) ([]string, error)
	// Open opens a file for reading.
	Open(path string) (File, error)
	// OpenWritable opens a file that exists for reading and writing.
	OpenWritable(path string) (File, error)
	// Create creates a file for reading and writing; fs.ErrExist if it is there.
	Create(path string) (File, error)
	// Rename gives a file another name, whose former bearer is gone; whoever looks sees the one or the other.
	Rename(from, to string) error
	// Remove removes a file.
	Remove(path string) error
	// SyncDir makes what was created, renamed and removed in the directory survive a power cut.
	SyncDir(dir string) error
	// Lock locks a file, which it creates if needed, until the lock is closed or the process ends. It returns a
	// [*LockedError] if somebody holds it, and ErrNoLocks if nobody can.
	Lock(path string) (io.Closer, error)
}

// File is an open file. Only one goroutine uses it at a time.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Size returns the length in bytes.
	Size() (int64, error)
	// Truncate changes the length.
	Truncate(size int64) error
	// Sync makes everything that was written survive a power cut. After an error nothing is known about any of it.
	Sync() error
}

// createAnew creates a file in place of what an earlier attempt left under that name.
func createAnew(fsys FS, path string) (File, error) {
	f, err := fsys.Create(path)
	if !errors.Is(err, fs.ErrExist) {
		return f, err
	}
	if err := fsys.Remove(path); err != nil {
		return nil, err
	}
	// Its name must not be what survives a power cut, when the new file has got another one.
	if err := fsys.SyncDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	return fsys.Create(path)
}

// createWhole makes a file of the parts that has its name only once it is whole and on the disk.
func createWhole(fsys FS, dir, name string, parts ...[]byte) error {
	return createBy(fsys, dir, name, func(f File) error { return writeParts(f, parts) })
}

// errMayBeThere is why nobody knows which file has the name that a new one was to get: this one, or the one before.
var errMayBeThere = errors.New("it may be the new file or the one before")

// createBy is createWhole for a file that a function writes. After an error everything is as it was, unless it is errMayBeThere.
func createBy(fsys FS, dir, name string, write func(File) error) error {
	path := filepath.Join(dir, name)
	f, err := createAnew(fsys, path+temporarySuffix)
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, removeIfThere(fsys, path+temporarySuffix))
	}
	if err := fsys.Rename(path+temporarySuffix, path); err != nil {
		return fmt.Errorf("%w: %w", errMayBeThere, errors.Join(err, removeIfThere(fsys, path+temporarySuffix)))
	}
	if err := fsys.SyncDir(dir); err != nil {
		return fmt.Errorf("%w: %w", errMayBeThere, err)
	}
	return nil
}

// writeParts writes the parts from the beginning of the file, one behind the other.
func writeParts(f File, parts [][]byte) error {
	var end int64
	for _, part := range parts {
		if _, err := f.WriteAt(part, end); err != nil {
			return err
		}
		end += int64(len(part))
	}
	return nil
}

// isMissing reports whether the error is that of a file that is not there.
func isMissing(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// removeIfThere removes a file; that there is none is no error.
func removeIfThere(fsys FS, path string) error {
	if err := fsys.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
