package keep_test

import (
	"io"
	"os"
	"strings"
	"sync/atomic"
	"syscall"

	"pushrelay/internal/wal"
)

// A disk is the file system of the operating system without its slowest part: nothing here needs what is written to
// survive a power cut. While it is full, nothing can be written; while it is narrow, no snapshot.
type disk struct{ full, narrow atomic.Bool }

func (d *disk) broken() error {
	if d.full.Load() {
		return syscall.ENOSPC
	}
	return nil
}

func (d *disk) MakeDir(dir string) error { return os.MkdirAll(dir, 0o700) }

func (d *disk) ReadDir(dir string) ([]string, error) {
	files, err := os.ReadDir(dir)
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = f.Name()
	}
	return names, err
}

func (d *disk) Open(path string) (wal.File, error) { return d.open(path, os.O_RDONLY) }

func (d *disk) OpenWritable(path string) (wal.File, error) { return d.open(path, os.O_RDWR) }

func (d *disk) Create(path string) (wal.File, error) {
	if err := d.broken(); err != nil {
		return nil, err
	}
	if d.narrow.Load() && strings.Contains(path, ".snapshot") {
		return nil, syscall.ENOSPC
	}
	return d.open(path, os.O_RDWR|os.O_CREATE|os.O_EXCL)
}

func (d *disk) open(path string, flags int) (wal.File, error) {
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return nil, err
	}
	return &file{f, d}, nil
}

func (d *disk) Rename(from, to string) error { return os.Rename(from, to) }

func (d *disk) Remove(path string) error { return os.Remove(path) }

func (d *disk) SyncDir(string) error { return nil }

func (d *disk) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

type file struct {
	*os.File
	disk *disk
}

func (f *file) Size() (int64, error) {
	stat, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return stat.Size(), nil
}

func (f *file) WriteAt(b []byte, at int64) (int, error) {
	if err := f.disk.broken(); err != nil {
		return 0, err
	}
	return f.File.WriteAt(b, at)
}

func (f *file) Sync() error { return f.disk.broken() }
