package wal

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
)

// settlement is what has to be done on the disk after a log was read and before it is written: once it has run, all that
// was read is durable, and nothing else is left that could be taken for the log. It may be run again after an error.
type settlement struct {
	fs        FS
	dir       string
	walk      *walk
	inventory inventory
	damaged   []uint64 // snapshots that others made up for; 0 is none
}

// run may end at any point, by a crash or by an error: what was read would be read again.
func (s *settlement) run() error {
	// A name that was seen here may be unknown to the disk as yet, if the one who made it was killed. So before anything
	// is removed that a rename made obsolete:
	if err := s.fs.SyncDir(s.dir); err != nil {
		return fmt.Errorf("syncing the directory: %w", err)
	}
	for _, path := range s.asides() {
		if err := s.fs.Rename(path.from, path.to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("setting a damaged snapshot aside: %w", err)
		}
	}
	// The tail is in a file of its own, by its name, before it is cut off.
	if err := s.saveTail(); err != nil {
		return fmt.Errorf("saving the torn tail: %w", err)
	}
	// It is gone from the disk before anything is written in another segment: behind a sound batch there, it would be
	// damage.
	if err := s.cutTail(); err != nil {
		return fmt.Errorf("cutting off the torn tail: %w", err)
	}
	// The last batch may be in memory only: if its sync failed, the system keeps its bytes, calls them written, and loses
	// them at the next power cut. Now that it counts, it is written anew; that a crash may tear it does no harm, since the
	// bytes are the same.
	if err := s.rewriteLast(); err != nil {
		return fmt.Errorf("making the last batch durable: %w", err)
	}
	if err := s.removeObsolete(); err != nil {
		return fmt.Errorf("removing obsolete files: %w", err)
	}
	if err := s.fs.SyncDir(s.dir); err != nil {
		return fmt.Errorf("syncing the directory: %w", err)
	}
	return nil
}

// report says what was found, and what will be called how.
func (s *settlement) report() Recovery {
	w := s.walk
	r := Recovery{
		SnapshotPayloads: w.snapshotPayloads,
		Payloads:         w.payloads,
		Batches:          w.batches,
		GivenUp:          w.given,
	}
	if w.start != 0 {
		r.Snapshot = filepath.Join(s.dir, snapshotName(w.start))
	}
	for _, path := range s.asides() {
		r.SetAside = append(r.SetAside, path.to)
	}
	if w.torn.segment != 0 {
		r.CutOff = &CutOff{
			File:    s.tornPath(),
			SavedAs: s.tailPath(),
			Offset:  w.torn.offset,
			Bytes:   w.torn.end - w.torn.offset,
			Reason:  w.tornError.Reason,
		}
	}
	return r
}

type renaming struct{ from, to string }

func (s *settlement) asides() []renaming {
	var all []renaming
	for _, id := range s.damaged {
		path := filepath.Join(s.dir, snapshotName(id))
		all = append(all, renaming{path, path + damagedSuffix})
	}
	return all
}

func (s *settlement) tornPath() string { return filepath.Join(s.dir, segmentName(s.walk.torn.segment)) }

func (s *settlement) tailPath() string {
	return fmt.Sprintf("%s%s%d", s.tornPath(), tailSuffix, s.walk.torn.offset)
}

func (s *settlement) saveTail() error {
	torn := s.walk.torn
	if torn.segment == 0 {
		return nil
	}
	from, err := s.fs.Open(s.tornPath())
	if err != nil {
		return err
	}
	defer from.Close() //nolint:errcheck // Nothing was written.
	size, err := from.Size()
	if err != nil {
		return err
	}
	if size <= torn.offset {
		return nil // It was saved and cut off by a run that failed afterwards.
	}
	bytes := make([]byte, torn.end-torn.offset)
	if n, err := from.ReadAt(bytes, torn.offset); n < len(bytes) {
		return err
	}
	return createWhole(s.fs, s.dir, filepath.Base(s.tailPath()), bytes)
}

func (s *settlement) cutTail() error {
	if s.walk.torn.segment == 0 {
		return nil
	}
	return rewrite(s.fs, s.tornPath(), place{offset: s.walk.torn.offset, end: s.walk.torn.offset})
}

func (s *settlement) rewriteLast() error {
	if s.walk.last.segment == 0 {
		return nil
	}
	return rewrite(s.fs, filepath.Join(s.dir, segmentName(s.walk.last.segment)), s.walk.last)
}

// rewrite writes a part of a file over itself, ends the file behind it and syncs it.
func rewrite(fsys FS, path string, part place) error {
	f, err := fsys.OpenWritable(path)
	if err != nil {
		return err
	}
	bytes := make([]byte, part.end-part.offset)
	if n, readErr := f.ReadAt(bytes, part.offset); n < len(bytes) {
		err = readErr
	}
	if err == nil && len(bytes) > 0 {
		_, err = f.WriteAt(bytes, part.offset)
	}
	if err == nil {
		err = f.Truncate(part.end)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// removeObsolete removes what nobody will read again: what a snapshot replaces, segments that were never used, and what
// was not finished. The torn segment stays, even if it is empty now, since the next run would look for its tail.
func (s *settlement) removeObsolete() error {
	var names []string
	for _, id := range s.inventory.segments {
		if id < s.walk.start || id != s.walk.start && id != s.walk.torn.segment && slices.Contains(s.walk.empty, id) {
			names = append(names, segmentName(id))
		}
	}
	for _, id := range s.inventory.snapshots {
		if id < s.walk.start {
			names = append(names, snapshotName(id))
		}
	}
	for _, name := range append(names, s.inventory.temporary...) {
		if err := removeIfThere(s.fs, filepath.Join(s.dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// createWhole makes a file of the parts that has its name only once it is whole and on the disk.
func createWhole(fsys FS, dir, name string, parts ...[]byte) error {
	return createBy(fsys, dir, name, func(f File) error { return writeParts(f, parts) })
}

// createBy is createWhole for a file that a function writes.
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
	if err = errors.Join(err, f.Close()); err == nil {
		err = fsys.Rename(path+temporarySuffix, path)
	}
	if err != nil {
		return errors.Join(err, removeIfThere(fsys, path+temporarySuffix))
	}
	return fsys.SyncDir(dir)
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
