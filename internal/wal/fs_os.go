package wal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"pushrelay/internal/datadir"
	"pushrelay/internal/fileowner"
)

const fileMode = 0o600

// osFS is the file system of the operating system.
type osFS struct{}

func (osFS) MakeDir(dir string) error { return datadir.MakeDir(dir) }

func (osFS) SyncDir(dir string) error { return datadir.SyncDir(dir) }

func (osFS) ReadDir(dir string) ([]string, error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = f.Name()
	}
	return names, nil
}

func (osFS) Open(path string) (File, error) { return open(path, os.O_RDONLY) }

func (osFS) OpenWritable(path string) (File, error) { return open(path, os.O_RDWR) }

// Create gives what root creates to the owner of the directory: a repair that root runs must not leave files that the
// relay cannot open.
func (osFS) Create(path string) (File, error) {
	f, err := open(path, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return nil, err
	}
	if err := fileowner.Adopt(f.File, filepath.Dir(path)); err != nil {
		f.Close()       //nolint:errcheck // Nothing was written.
		os.Remove(path) //nolint:errcheck // The other error tells more.
		return nil, err
	}
	return f, nil
}

func (osFS) Rename(from, to string) error { return os.Rename(from, to) }

func (osFS) Remove(path string) error { return os.Remove(path) }

// Lock never removes the lock file: whoever locks a removed file shares it with nobody. Only one that it made itself is given to
// the owner of the directory, who may have put another file there.
func (osFS) Lock(path string) (io.Closer, error) {
	f, err := open(path, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	isNew := err == nil
	if errors.Is(err, fs.ErrExist) {
		f, err = open(path, os.O_RDWR)
	}
	if err != nil {
		return nil, err
	}
	if isNew {
		err = fileowner.Adopt(f.File, filepath.Dir(path))
	}
	if err == nil {
		err = lock(f.File)
	}
	if err != nil {
		f.Close() //nolint:errcheck // Nothing was written.
		return nil, err
	}
	// The process id helps whoever finds the log locked, but the lock holds without it, also where the disk is full.
	if err := f.Truncate(0); err == nil {
		f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0) //nolint:errcheck // See above.
	}
	return heldLock{f.File}, nil
}

// heldLock is a lock that this process holds.
type heldLock struct{ file *os.File }

// Close unlocks first: where the program is just being copied to become another one, closing alone leaves the lock to the
// copy for a moment.
func (l heldLock) Close() error { return errors.Join(unlock(l.file), l.file.Close()) }

// owner returns the process id in a lock file; 0 if there is none.
func owner(f *os.File) int {
	var b [20]byte
	n, _ := f.ReadAt(b[:], 0)
	pid, err := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	if err != nil {
		return 0
	}
	return pid
}

// osFile adds what os.File calls otherwise; its Sync is that of the system.
type osFile struct{ *os.File }

func open(path string, flags int) (osFile, error) {
	f, err := os.OpenFile(path, flags|noFollow, fileMode)
	if errors.Is(err, syscall.ELOOP) {
		return osFile{}, fmt.Errorf("%q is a link, and no file of a log is one: find out who put it there, and remove it", path)
	}
	if err != nil {
		return osFile{}, err
	}
	return osFile{f}, nil
}

// Size returns the length in bytes.
func (f osFile) Size() (int64, error) {
	stat, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return stat.Size(), nil
}
