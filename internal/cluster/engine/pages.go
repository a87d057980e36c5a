package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"slices"
)

// Bbolt follows what its pages say wherever that leads: over the end of the file, or round in a circle for ever. So before it is asked, the pages of its file
// are walked through once, and each is seen to lie in the file, to be met once, and to refer to nothing beyond itself but other such pages. What the
// format is says bbolt's own package: numbers are as the machine has them.
const (
	metaMagic   = 0xed0cdaed
	metaVersion = 2
	metaBytes   = 56 // without the checksum
	pageHeader  = 16
	elementSize = 16
	bucketSize  = 16 // what a table's entry begins with: its root, and a number

	branchPage = 0x01
	leafPage   = 0x02
	tableEntry = 0x01 // of a leaf

	firstPage = 2  // behind the two that say where all begins
	maxDepth  = 64 // of tables within tables as well
)

var errPage = errors.New("a page is not what it is to be")

// pages are those of one file.
type pages struct {
	file  *os.File
	size  int64    // of a page
	count uint64   // of pages
	seen  []uint64 // a bit for each that was met
}

// checkPages walks through a file of bbolt.
func checkPages(name string) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // It was only read.
	stat, err := file.Stat()
	if err != nil {
		return err
	}
	size, root, err := newestMeta(file)
	if err != nil {
		return err
	}
	p := &pages{file: file, size: size, count: uint64(stat.Size() / size), seen: make([]uint64, stat.Size()/size/64+1)}
	return p.walk(root, 0)
}

// newestMeta returns the size of a page, and where the table of all tables has its root, by the newer of the two descriptions that is whole.
func newestMeta(file io.ReaderAt) (size int64, root uint64, err error) {
	newest, found := uint64(0), false
	for _, at := range []int64{0, 4096, int64(os.Getpagesize())} { // the second lies behind a page, of whose size the first may not tell
		m := make([]byte, metaBytes+8)
		if _, err := file.ReadAt(m, at+pageHeader); err != nil {
			continue
		}
		sum := fnv.New64a()
		sum.Write(m[:metaBytes])
		if u32(m) != metaMagic || u32(m[4:]) != metaVersion || u64(m[metaBytes:]) != sum.Sum64() || u32(m[8:]) < 1024 {
			continue
		}
		if txid := u64(m[48:]); !found || txid > newest {
			size, root, newest, found = int64(u32(m[8:])), u64(m[16:]), txid, true
		}
	}
	if !found {
		return 0, 0, fmt.Errorf("%w: neither of the two that say where all begins is whole", errPage)
	}
	return size, root, nil
}

// walk looks at a page and at all that it refers to.
func (p *pages) walk(id uint64, depth int) error {
	if id < firstPage || id >= p.count || depth > maxDepth {
		return fmt.Errorf("%w: something refers to page %d", errPage, id)
	}
	page := make([]byte, p.size)
	if _, err := p.file.ReadAt(page, int64(id)*p.size); err != nil {
		return err
	}
	overflow := uint64(u32(page[12:]))
	if u64(page) != id || id+overflow >= p.count {
		return fmt.Errorf("%w: page %d", errPage, id)
	}
	for i := id; i <= id+overflow; i++ {
		if p.seen[i/64]&(1<<(i%64)) != 0 {
			return fmt.Errorf("%w: page %d is referred to twice", errPage, i)
		}
		p.seen[i/64] |= 1 << (i % 64)
	}
	if overflow > 0 {
		rest := make([]byte, p.size*int64(overflow))
		if _, err := p.file.ReadAt(rest, int64(id+1)*p.size); err != nil {
			return err
		}
		page = slices.Concat(page, rest)
	}
	if err := p.elements(page, depth); err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	return nil
}

// elements looks at what stands on a page, which may be one within another.
func (p *pages) elements(page []byte, depth int) error {
	if len(page) < pageHeader {
		return errPage
	}
	flags, count := binary.NativeEndian.Uint16(page[8:]), int(binary.NativeEndian.Uint16(page[10:]))
	if flags != branchPage && flags != leafPage || pageHeader+count*elementSize > len(page) || flags == branchPage && count == 0 {
		return errPage
	}
	for i := range count {
		element := page[pageHeader+i*elementSize:]
		if flags == branchPage {
			if uint64(u32(element))+uint64(u32(element[4:])) > uint64(len(element)) {
				return errPage
			}
			if err := p.walk(u64(element[8:]), depth+1); err != nil {
				return err
			}
			continue
		}
		at := uint64(u32(element[4:])) + uint64(u32(element[8:]))
		end := at + uint64(u32(element[12:]))
		if end > uint64(len(element)) {
			return errPage
		}
		if u32(element) == tableEntry {
			if err := p.table(element[at:end], depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// table looks at a table by its entry, which has the one page of a small one within.
func (p *pages) table(entry []byte, depth int) error {
	switch {
	case len(entry) < bucketSize || depth > maxDepth:
		return errPage
	case u64(entry) == 0:
		return p.elements(entry[bucketSize:], depth)
	default:
		return p.walk(u64(entry), depth)
	}
}

func u32(b []byte) uint32 { return binary.NativeEndian.Uint32(b) }
func u64(b []byte) uint64 { return binary.NativeEndian.Uint64(b) }
