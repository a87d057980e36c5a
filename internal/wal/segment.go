package wal

import (
	"errors"
	"fmt"
	"path/filepath"
)

// segment is a segment that is written.
type segment struct {
	file File
	head header
	end  int64 // of its last batch
	full int64 // how far it was filled with zeros
}

// noBytes are the zeros that segments grow by. Nobody writes to them: they take no memory then, since the kernel has a single page
// for all that were never written.
var noBytes [growBytes]byte

// createSegment makes a segment that has its name only once its header is on the disk: a segment without a good header is
// damaged, never unfinished.
func createSegment(fsys FS, dir string, head header, zeros []byte) (*segment, error) {
	path := filepath.Join(dir, segmentName(head.id))
	if err := createWhole(fsys, dir, segmentName(head.id), head.encode(), zeros); err != nil {
		return nil, errors.Join(fmt.Errorf("creating %q: %w", path, err), removeIfThere(fsys, path))
	}
	f, err := fsys.OpenWritable(path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening %q: %w", path, err), removeIfThere(fsys, path))
	}
	return &segment{file: f, head: head, end: headerBytes, full: headerBytes + int64(len(zeros))}, nil
}

// write writes a batch and, where the file would grow, zeros behind it.
func (s *segment) write(frame, zeros []byte) error {
	if _, err := s.file.WriteAt(frame, s.end); err != nil {
		return err
	}
	s.end += int64(len(frame))
	if s.end <= s.full {
		return nil
	}
	s.full = s.end
	// The batch is written already, and does not need them.
	if _, err := s.file.WriteAt(zeros, s.end); err == nil {
		s.full += int64(len(zeros))
	}
	return nil
}

// retire takes the zeros off the end and closes the file.
func (s *segment) retire() error {
	return errors.Join(s.file.Truncate(s.end), s.file.Close())
}
