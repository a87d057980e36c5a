package wal_test

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"pushrelay/internal/wal"
)

// memFS is a file system in memory that knows what a power cut would leave, and whose operations fail on demand.
type memFS struct {
	mu      sync.Mutex
	names   map[string]*node // as they are seen
	durable map[string]*node // as the disk has them
	pending []func(map[string]*node)
	locked  map[string]bool
	calls   int
	killed  bool // what is seen is what a kill has left, and no power cut
	pages   int  // how many there are; 0 for no bound
	// fault is asked before every operation that changes something; nil means that all goes well. It may block.
	fault func(call int, operation, path string) error
}

// node is a file. What was not synced may be lost, sector by sector.
type node struct {
	content, durable []byte
	pending          []change
}

// change is a write, or a truncation if bytes is nil.
type change struct {
	offset int64
	bytes  []byte
}

// errPower is what happens after the power is cut.
var errPower = errors.New("the power is off")

// errShort as a fault writes half of the bytes.
var errShort = errors.New("short write")

const (
	sectorBytes = 512
	pageBytes   = 64 // in which a disk with a bound is shared out
)

// pagesOf returns how many pages a file of that length has.
func pagesOf(bytes int) int { return (bytes + pageBytes - 1) / pageBytes }

// used returns how many pages are. The caller holds mu.
func (m *memFS) used() int {
	all := 0
	for _, n := range m.names {
		all += pagesOf(len(n.content))
	}
	return all
}

// fits returns how many of so many bytes there is room for. The caller holds mu.
func (m *memFS) fits(n *node, offset int64, bytes int) int {
	if m.pages == 0 {
		return bytes
	}
	most := (pagesOf(len(n.content)) + m.pages - m.used()) * pageBytes
	return max(0, min(bytes, most-int(offset)))
}

// setFree makes the disk one that has so many pages left.
func (m *memFS) setFree(pages int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pages = m.used() + pages
}

// grow gives the disk so many pages more.
func (m *memFS) grow(pages int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pages += pages
}

func newMemFS() *memFS {
	return &memFS{names: map[string]*node{}, durable: map[string]*node{}, locked: map[string]bool{}}
}

func (c change) apply(content []byte) []byte {
	if c.bytes == nil {
		return resize(content, c.offset)
	}
	if end := c.offset + int64(len(c.bytes)); end > int64(len(content)) {
		content = resize(content, end)
	}
	copy(content[c.offset:], c.bytes)
	return content
}

func resize(content []byte, size int64) []byte {
	if size <= int64(len(content)) {
		return content[:size]
	}
	return append(content, make([]byte, size-int64(len(content)))...)
}

func dead(int, string, string) error { return errPower }

// crash returns what is left after a power cut: of what was not synced, some changes of names and some sectors.
// What uses this one is dead.
func (m *memFS) crash(random *rand.Rand) *memFS {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fault = dead
	names := maps.Clone(m.durable)
	for _, rename := range m.pending {
		if random.IntN(2) == 0 {
			rename(names)
		}
	}
	left := newMemFS()
	for name, n := range names {
		content := slices.Clone(n.durable)
		for _, c := range n.pending {
			content = c.torn(content, random)
		}
		left.names[name] = &node{content: content, durable: slices.Clone(content)}
	}
	left.durable = maps.Clone(left.names)
	return left
}

// torn applies a random part of the change.
func (c change) torn(content []byte, random *rand.Rand) []byte {
	if c.bytes == nil {
		if random.IntN(2) == 0 {
			return content
		}
		return c.apply(content)
	}
	for at := 0; at < len(c.bytes); {
		end := min(len(c.bytes), at+sectorBytes-int(c.offset+int64(at))%sectorBytes)
		if random.IntN(2) == 0 {
			content = change{c.offset + int64(at), c.bytes[at:end]}.apply(content)
		}
		at = end
	}
	return content
}

// restart returns the file system as another process of the same machine finds it. What uses this one is dead.
func (m *memFS) restart() *memFS {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fault = dead
	return &memFS{names: m.names, durable: m.durable, pending: m.pending, locked: map[string]bool{}, killed: true}
}

// clone returns a copy in which everything is durable.
func (m *memFS) clone() *memFS {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := newMemFS()
	for name, n := range m.names {
		c.names[name] = &node{content: slices.Clone(n.content), durable: slices.Clone(n.content)}
	}
	c.durable = maps.Clone(c.names)
	return c
}

// files returns all contents by base name.
func (m *memFS) files() map[string]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := map[string]string{}
	for name, n := range m.names {
		all[filepath.Base(name)] = string(n.content)
	}
	return all
}

// put makes a durable file.
func (m *memFS) put(path string, content []byte) {
	n := &node{content: slices.Clone(content), durable: slices.Clone(content)}
	m.names[path], m.durable[path] = n, n
}

func (m *memFS) setFault(f func(call int, operation, path string) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls, m.fault = 0, f
}

// fail is called with mu held, and before anything else of the operation.
func (m *memFS) fail(operation, path string) error {
	m.calls++
	if m.fault == nil {
		return nil
	}
	call, fault := m.calls, m.fault
	m.mu.Unlock()
	err := fault(call, operation, path)
	m.mu.Lock()
	if err != nil {
		return &fs.PathError{Op: operation, Path: path, Err: err}
	}
	return nil
}

func (m *memFS) rename(f func(map[string]*node)) {
	f(m.names)
	m.pending = append(m.pending, f)
}

func (m *memFS) MakeDir(string) error { return nil }

func (m *memFS) ReadDir(dir string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	for name := range m.names {
		if filepath.Dir(name) == filepath.Clean(dir) {
			names = append(names, filepath.Base(name))
		}
	}
	return names, nil
}

func (m *memFS) Open(path string) (wal.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.names[path]
	if n == nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	return &memFile{fs: m, path: path, node: n}, nil
}

func (m *memFS) OpenWritable(path string) (wal.File, error) {
	m.mu.Lock()
	err := m.fail("open", path)
	m.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return m.Open(path)
}

func (m *memFS) Create(path string) (wal.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.fail("create", path); err != nil {
		return nil, err
	}
	if m.names[path] != nil {
		return nil, &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
	}
	n := &node{}
	m.rename(func(names map[string]*node) { names[path] = n })
	return &memFile{fs: m, path: path, node: n}, nil
}

func (m *memFS) Rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.fail("rename", from); err != nil {
		return err
	}
	if m.names[from] == nil {
		return &fs.PathError{Op: "rename", Path: from, Err: fs.ErrNotExist}
	}
	m.rename(func(names map[string]*node) {
		if names[from] != nil {
			names[to] = names[from]
			delete(names, from)
		}
	})
	return nil
}

func (m *memFS) Remove(path string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.names[path] == nil {
		return &fs.PathError{Op: "remove", Path: path, Err: fs.ErrNotExist}
	}
	if err := m.fail("remove", path); err != nil { // One goroutine at a time removes.
		return err
	}
	m.rename(func(names map[string]*node) { delete(names, path) })
	return nil
}

func (m *memFS) SyncDir(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.fail("syncdir", dir); err != nil {
		return err
	}
	m.durable, m.pending = maps.Clone(m.names), nil
	return nil
}

func (m *memFS) Lock(path string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.locked[path] {
		return nil, &wal.LockedError{Path: path, PID: 4711}
	}
	m.locked[path] = true
	return release(func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.locked, path)
	}), nil
}

type release func()

func (r release) Close() error {
	r()
	return nil
}

// memFile is an open file of a memFS.
type memFile struct {
	fs   *memFS
	path string
	node *node
}

func (f *memFile) ReadAt(b []byte, offset int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if offset >= int64(len(f.node.content)) {
		return 0, io.EOF
	}
	n := copy(b, f.node.content[offset:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(b []byte, offset int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	err := f.fs.fail("write", f.path)
	if errors.Is(err, errShort) {
		half := len(b) / 2
		b = b[:max(0, half-int(offset+int64(half))%8)] // as much as a page, or a word of it
	} else if err != nil {
		return 0, err
	}
	if fits := f.fs.fits(f.node, offset, len(b)); fits < len(b) {
		b, err = b[:fits], &fs.PathError{Op: "write", Path: f.path, Err: syscall.ENOSPC}
	}
	c := change{offset, slices.Clone(b)}
	f.node.content = c.apply(f.node.content)
	f.node.pending = append(f.node.pending, c)
	return len(b), err
}

func (f *memFile) Truncate(size int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.fs.fail("truncate", f.path); err != nil {
		return err
	}
	c := change{offset: size}
	f.node.content = c.apply(f.node.content)
	f.node.pending = append(f.node.pending, c)
	return nil
}

// Sync that fails does what Linux does: the bytes stay in memory, are taken for written, and never are.
func (f *memFile) Sync() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	err := f.fs.fail("sync", f.path)
	if err == nil {
		for _, c := range f.node.pending {
			f.node.durable = c.apply(f.node.durable)
		}
	}
	f.node.pending = nil
	return err
}

func (f *memFile) Size() (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return int64(len(f.node.content)), nil
}

func (f *memFile) Close() error { return nil }
