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
	full int64 // how far it was filled ahead
	fill int64 // how far it is filled ahead at a time; 0 if there was no room for that
	// durable is the end of the last batch that is on the disk.
	durable int64
}

// createSegment makes a segment that has its name only once its header is on the disk, and what it is filled with
// ahead: a segment without a good header, or shorter than that, is damaged, never unfinished.
func createSegment(fsys FS, dir string, head header, fill int64) (*segment, error) {
	path := filepath.Join(dir, segmentName(head.id))
	filled := int64(0)
	err := createBy(fsys, dir, segmentName(head.id), func(f File) (err error) {
		if _, err := f.WriteAt(head.encode(), 0); err != nil {
			return err
		}
		filled, err = fillAhead(f, head, fill)
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("creating %q: %w", path, err), removeIfThere(fsys, path))
	}
	f, err := fsys.OpenWritable(path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening %q: %w", path, err), removeIfThere(fsys, path))
	}
	return &segment{file: f, head: head, end: headerBytes, durable: headerBytes, full: headerBytes + filled, fill: filled}, nil
}

// fillAhead fills a new segment, and returns how far. Where there is no room for all of it, it gives back what it took.
func fillAhead(f File, head header, fill int64) (filled int64, err error) {
	for _, part := range head.pattern().parts(headerBytes, fill) {
		if _, err := f.WriteAt(part, headerBytes+filled); err != nil {
			return 0, f.Truncate(headerBytes)
		}
		filled += int64(len(part))
	}
	return filled, nil
}

// write writes a batch and, where the file would grow, fills it ahead first. That a segment is as long as its batches and the
// fill behind them is what a cut one is recognised by, so that a batch without it is not written; see [Log.Resume].
func (s *segment) write(frame []byte) error {
	end := s.end + int64(len(frame))
	if end > s.full {
		full := end
		for _, part := range s.head.pattern().parts(end, s.fill) {
			if _, err := s.file.WriteAt(part, full); err != nil {
				return err
			}
			full += int64(len(part))
		}
		s.full = full
	}
	if _, err := s.file.WriteAt(frame, s.end); err != nil {
		return err
	}
	s.end = end
	return nil
}

// retire cuts the fill off the end and closes the file. Only the newest segment of a log has its fill; see [manifest].
func (s *segment) retire() error {
	return errors.Join(s.file.Truncate(s.end), s.file.Sync(), s.file.Close())
}
