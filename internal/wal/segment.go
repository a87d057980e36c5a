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
	// durable is the end of the last batch that is on the disk.
	durable int64
}

// noBytes are the zeros that segments grow by. Nobody writes to them: they take no memory then, since the kernel has a single page
// for all that were never written.
var noBytes [growBytes]byte

// createSegment makes a segment that has its name only once its header is on the disk: a segment without a good header is
// damaged, never unfinished.
func createSegment(fsys FS, dir string, head header, zeros []byte) (*segment, error) {
	path := filepath.Join(dir, segmentName(head.id))
	full := int64(headerBytes)
	err := createBy(fsys, dir, segmentName(head.id), func(f File) (err error) {
		if _, err := f.WriteAt(head.encode(), 0); err != nil {
			return err
		}
		full, err = addZeros(f, headerBytes, zeros)
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("creating %q: %w", path, err), removeIfThere(fsys, path))
	}
	f, err := fsys.OpenWritable(path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening %q: %w", path, err), removeIfThere(fsys, path))
	}
	return &segment{file: f, head: head, end: headerBytes, durable: headerBytes, full: full}, nil
}

// addZeros writes zeros at the end of a file, and returns its new end. Where there is no room for them it gives back what they took:
// nothing depends on them.
func addZeros(f File, end int64, zeros []byte) (full int64, err error) {
	if _, err := f.WriteAt(zeros, end); err == nil {
		return end + int64(len(zeros)), nil
	}
	return end, f.Truncate(end)
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
