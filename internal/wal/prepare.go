package wal

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
)

// preparation is what has to be done on the disk after a log was read and before it is written: once it has run, all that
// was read is durable, and where it ends is. It may be run again after an error.
type preparation struct {
	fs      FS
	dir     string
	release string
	found   *found
}

// plan returns the manifest of the log as it was read, with its end; and with what is lost, if that is not known yet.
func (p *preparation) plan() *manifest {
	w := p.found.walk
	m := &manifest{Segments: w.names, Lossy: w.salvaged || len(w.given) > 0}
	if len(w.names) > 0 {
		m.End = &w.end
	}
	if w.start != 0 {
		m.Snapshot = &named{ID: w.start, Salt: w.snapshotSalt}
	}
	if old := p.found.manifest; old != nil {
		m.Lossy = m.Lossy || old.Lossy
		m.Losses = unacknowledged(p.fs, p.dir, old.Losses)
	}
	if w.doubt != "" {
		m.Lossy = true
		m.Losses = append(m.Losses, w.doubtful())
	}
	return m
}

// run may end at any point, by a crash or by an error: what was read would be read again.
func (p *preparation) run(l *Log) error {
	// A name that was seen here may be unknown to the disk as yet, if the one who made it was killed. So before anything
	// is removed that a rename made obsolete:
	if err := p.fs.SyncDir(p.dir); err != nil {
		return fmt.Errorf("syncing the directory: %w", err)
	}
	// The tail is in a file of its own, by its name, before it is cut off.
	if err := p.saveTail(); err != nil {
		return fmt.Errorf("saving the torn tail: %w", err)
	}
	// The last batch may be in memory only: if its sync failed, the system keeps its bytes, calls them written, and loses
	// them at the next power cut. Now that it counts, it is written anew; that a crash may tear it does no harm, since the
	// bytes are the same.
	if err := p.rewriteLast(); err != nil {
		return fmt.Errorf("making the last batch durable: %w", err)
	}
	// From here on the log ends where it was found to end, and what is lost is known, whatever is cut off below.
	if err := p.noteEnd(l); err != nil {
		return err
	}
	for _, path := range p.asides() {
		if err := p.fs.Rename(path.from, path.to); err != nil && !isMissing(err) {
			return fmt.Errorf("setting a damaged snapshot aside: %w", err)
		}
	}
	// The tail is gone from the disk before anything is written in another segment: behind a sound batch there, it would be
	// damage. So is the fill, which only the newest segment has.
	if err := p.cutTail(); err != nil {
		return fmt.Errorf("cutting off the torn tail: %w", err)
	}
	if err := p.fs.SyncDir(p.dir); err != nil {
		return fmt.Errorf("syncing the directory: %w", err)
	}
	return nil
}

// noteEnd writes the manifest with the end, unless it says just that. Segments without a batch are named until the next one
// is written, and go then.
func (p *preparation) noteEnd(l *Log) error {
	old, w := p.found.manifest, p.found.walk
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
func (p *preparation) report() Recovery {
	w := p.found.walk
	r := Recovery{
		SnapshotPayloads: w.snapshotPayloads,
		Payloads:         w.payloads,
		Batches:          w.batches,
		GivenUp:          w.given,
	}
	if w.start != 0 {
		r.Snapshot = filepath.Join(p.dir, snapshotName(w.start))
	}
	for _, path := range p.asides() {
		r.SetAside = append(r.SetAside, path.to)
	}
	if w.torn.segment != 0 {
		r.CutOff = &CutOff{
			File:    p.tornPath(),
			SavedAs: p.tailPath(),
			Offset:  w.torn.offset,
			Bytes:   w.torn.end - w.torn.offset,
			Reason:  w.tornError.Reason,
			InDoubt: w.doubt != "",
		}
	}
	return r
}

type renaming struct{ from, to string }

func (p *preparation) asides() []renaming {
	var all []renaming
	for _, id := range p.found.damaged {
		path := filepath.Join(p.dir, snapshotName(id))
		all = append(all, renaming{path, path + damagedSuffix})
	}
	return all
}

func (p *preparation) tornPath() string {
	return filepath.Join(p.dir, segmentName(p.found.walk.torn.segment))
}

func (p *preparation) tailPath() string {
	return fmt.Sprintf("%s%s%d", p.tornPath(), tailSuffix, p.found.walk.torn.offset)
}

func (p *preparation) saveTail() error {
	torn := p.found.walk.torn
	if torn.segment == 0 {
		return nil
	}
	from, err := p.fs.Open(p.tornPath())
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
	return createWhole(p.fs, p.dir, filepath.Base(p.tailPath()), bytes)
}

// cutTail ends the torn segment where it is torn, and those that keep their place behind their last batch.
func (p *preparation) cutTail() error {
	w := p.found.walk
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
		if err := changeSegment(p.fs, p.dir, id, func(f File) error { return f.Truncate(end) }); err != nil {
			return err
		}
	}
	return nil
}

func (p *preparation) rewriteLast() error {
	last := p.found.walk.last
	if last.segment == 0 {
		return nil
	}
	return changeSegment(p.fs, p.dir, last.segment, func(f File) error {
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
func (p *preparation) removeObsolete() error {
	inv, w := p.found.inventory, p.found.walk
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
		errs = append(errs, removeIfThere(p.fs, filepath.Join(p.dir, name)))
	}
	return errors.Join(append(errs, p.fs.SyncDir(p.dir))...)
}
