// Package waltest is a file system in memory for tests of what keeps a log, what may become of a log's files on a bad disk, and a disk that is full.
package waltest

import (
	"io"
	"io/fs"
	"path/filepath"
	"sync"

	"pushrelay/internal/wal"
)

// Memory is a file system in memory, in which every directory exists. It implements [wal.FS]. The zero value is empty.
type Memory struct {
	mu    sync.Mutex
	files map[string]*[]byte
}

// NewMemory returns one that has files in a directory.
func NewMemory(dir string, files map[string][]byte) *Memory {
	m := &Memory{files: map[string]*[]byte{}}
	for name, content := range files {
		b := append([]byte(nil), content...)
		m.files[filepath.Join(dir, name)] = &b
	}
	return m
}

// Files returns the files of a directory, the lock left out.
func (m *Memory) Files(dir string) map[string][]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	files := map[string][]byte{}
	for path, content := range m.files {
		if filepath.Dir(path) == filepath.Clean(dir) {
			files[filepath.Base(path)] = append([]byte(nil), *content...)
		}
	}
	return files
}

// MakeDir does nothing.
func (m *Memory) MakeDir(string) error { return nil }

// ReadDir returns the names in a directory.
func (m *Memory) ReadDir(dir string) ([]string, error) {
	var names []string
	for name := range m.Files(dir) {
		names = append(names, name)
	}
	return names, nil
}

// Open opens a file.
func (m *Memory) Open(path string) (wal.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	content, ok := m.files[path]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	return &file{m, content}, nil
}

// OpenWritable is Open.
func (m *Memory) OpenWritable(path string) (wal.File, error) { return m.Open(path) }

// Create creates a file.
func (m *Memory) Create(path string) (wal.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.files[path]; ok {
		return nil, &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
	}
	if m.files == nil {
		m.files = map[string]*[]byte{}
	}
	m.files[path] = new([]byte)
	return &file{m, m.files[path]}, nil
}

// Rename gives a file another name.
func (m *Memory) Rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	content, ok := m.files[from]
	if !ok {
		return &fs.PathError{Op: "rename", Path: from, Err: fs.ErrNotExist}
	}
	delete(m.files, from)
	m.files[to] = content
	return nil
}

// Remove removes a file.
func (m *Memory) Remove(path string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.files[path]; !ok {
		return &fs.PathError{Op: "remove", Path: path, Err: fs.ErrNotExist}
	}
	delete(m.files, path)
	return nil
}

// SyncDir does nothing.
func (m *Memory) SyncDir(string) error { return nil }

// Lock locks nothing.
func (m *Memory) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

type file struct {
	m       *Memory
	content *[]byte
}

func (f *file) ReadAt(b []byte, offset int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if offset >= int64(len(*f.content)) {
		return 0, io.EOF
	}
	n := copy(b, (*f.content)[offset:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) WriteAt(b []byte, offset int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.grow(offset + int64(len(b)))
	return copy((*f.content)[offset:], b), nil
}

func (f *file) grow(size int64) {
	if missing := size - int64(len(*f.content)); missing > 0 {
		*f.content = append(*f.content, make([]byte, missing)...)
	}
}

func (f *file) Truncate(size int64) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.grow(size)
	*f.content = (*f.content)[:size]
	return nil
}

func (f *file) Size() (int64, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	return int64(len(*f.content)), nil
}

func (f *file) Sync() error  { return nil }
func (f *file) Close() error { return nil }
