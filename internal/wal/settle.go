package wal

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
)

// settlement is what has to be done on the disk after a log was read and before it is written: once it has run, all that
// was read is durable, and where it ends is. It may be run again after an error.
type settlement struct {
	fs      FS
	dir     string
	release string
	found   *found
}

// plan returns the manifest of the log as it was read, with its end; and with what is lost, if that is not known yet.
func (s *settlement) plan() *manifest {
	w := s.found.walk
	m := &manifest{Segments: w.names, Lossy: w.salvaged || len(w.given) > 0}
	if len(w.names) > 0 {
		m.End = &w.end
	}
	if w.start != 0 {
		m.Snapshot = &named{ID: w.start, Salt: w.snapshotSalt}
	}
	if old := s.found.manifest; old != nil {
		m.Lossy = m.Lossy || old.Lossy
		m.Losses = unacknowledged(s.fs, s.dir, old.Losses)
	}
	if w.doubt != "" {
		m.Lossy = true
		m.Losses = append(m.Losses, w.doubtful())
	}
	return m
}

// run may end at any point, by a crash or by an error: what was read would be read again.
func (s *settlement) run(l *Log) error {
	// A name that was seen here may be unknown to the disk as yet, if the one who made it was killed. So before anything
	// is removed that a rename made obsolete:
	if err := s.fs.SyncDir(s.dir); err != nil {
		return fmt.Errorf("syncing the directory: %w", err)
	}
	// The tail is in a file of its own, by its name, before it is cut off.
	if err := s.saveTail(); err != nil {
		return fmt.Errorf("saving the torn tail: %w", err)
	}
	// The last batch may be in memory only: if its sync failed, the system keeps its bytes, calls them written, and loses
	// them at the next power cut. Now that it counts, it is written anew; that a crash may tear it does no harm, since the
	// bytes are the same.
	if err := s.rewriteLast(); err != nil {
		return fmt.Errorf("making the last batch durable: %w", err)
	}
	// From here on the log ends where it was found to end, and what is lost is known, whatever is cut off below.
	if err := s.noteEnd(l); err != nil {
		return err
	}
	for _, path := range s.asides() {
		if err := s.fs.Rename(path.from, path.to); err != nil && !isMissing(err) {
			return fmt.Errorf("setting a damaged snapshot aside: %w", err)
		}
	}
	// The tail is gone from the disk before anything is written in another segment: behind a sound batch there, it would be
	// damage. So is the fill, which only the newest segment has.
	if err := s.cutTail(); err != nil {
		return fmt.Errorf("cutting off the torn tail: %w", err)
	}
	if err := s.fs.SyncDir(s.dir); err != nil {
		return fmt.Errorf("syncing the directory: %w", err)
	}
	return nil
}

// noteEnd writes the manifest with the end, unless it says just that. Segments without a batch are named until the next one
// is written, and go then.
func (s *settlement) noteEnd(l *Log) error {
	old, w := s.found.manifest, s.found.walk
	if len(w.names) > 0 && (old == nil || old.End == nil || *old.End != w.end || old.snapshot() != w.start) {
		if err := l.changeManifest(func(*manifest) {}); err != nil {
			return err
		}
	}
	l.manifestMu.Lock()
	defer l.manifestMu.Unlock()
	l.manifest = l.manifest.clone()
	l.manifest.Segments = slices.DeleteFunc(l.manifest.Segments, func(n named) bool { return w.isUnused(n.ID) })
	return nil
}

// report says what was found, and what will be called how.
func (s *settlement) report() Recovery {
	w := s.found.walk
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
			InDoubt: w.doubt != "",
		}
	}
	return r
}

type renaming struct{ from, to string }

func (s *settlement) asides() []renaming {
	var all []renaming
	for _, id := range s.found.damaged {
		path := filepath.Join(s.dir, snapshotName(id))
		all = append(all, renaming{path, path + damagedSuffix})
	}
	return all
}

func (s *settlement) tornPath() string {
	return filepath.Join(s.dir, segmentName(s.found.walk.torn.segment))
}

func (s *settlement) tailPath() string {
	return fmt.Sprintf("%s%s%d", s.tornPath(), tailSuffix, s.found.walk.torn.offset)
}

func (s *settlement) saveTail() error {
	torn := s.found.walk.torn
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

// cutTail ends the torn segment where it is torn, and those that keep their place behind their last batch.
func (s *settlement) cutTail() error {
	w := s.found.walk
	ends := map[uint64]int64{}
	if slices.Contains(w.empty, w.start) {
		ends[w.start] = headerBytes
	}
	if w.last.segment != 0 {
		ends[w.last.segment] = w.last.end
	}
	if w.torn.segment != 0 {
		ends[w.torn.segment] = w.torn.offset
	}
	for id, end := range ends {
		if err := changeSegment(s.fs, s.dir, id, func(f File) error { return f.Truncate(end) }); err != nil {
			return err
		}
	}
	return nil
}

func (s *settlement) rewriteLast() error {
	last := s.found.walk.last
	if last.segment == 0 {
		return nil
	}
	return changeSegment(s.fs, s.dir, last.segment, func(f File) error {
		bytes := make([]byte, last.end-last.offset)
		if n, err := f.ReadAt(bytes, last.offset); n < len(bytes) {
			return err
		}
		_, err := f.WriteAt(bytes, last.offset)
		return err
	})
}

// changeSegment changes a segment and syncs it.
func changeSegment(fsys FS, dir string, id uint64, change func(File) error) error {
	f, err := fsys.OpenWritable(filepath.Join(dir, segmentName(id)))
	if err != nil {
		return err
	}
	if err = change(f); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// removeObsolete removes what nobody will read again, once the manifest does not name it any more: what a snapshot replaces,
// segments that were never used, and what was not finished.
func (s *settlement) removeObsolete() error {
	inv, w := s.found.inventory, s.found.walk
	names := append(slices.Clone(inv.unused), inv.temporary...)
	for _, id := range inv.segments {
		if id < w.start || w.isUnused(id) {
			names = append(names, segmentName(id))
		}
	}
	for _, id := range inv.snapshots {
		if id < w.start {
			names = append(names, snapshotName(id))
		}
	}
	if len(names) == 0 {
		return nil
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, removeIfThere(s.fs, filepath.Join(s.dir, name)))
	}
	return errors.Join(append(errs, s.fs.SyncDir(s.dir))...)
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
