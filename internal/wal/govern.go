package wal

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
)

// govern returns the manifest that holds for the files, nil if they are without one: they are of a release that had none, or
// such a one has written them since.
func (inv inventory) govern(fsys FS, dir string) (*manifest, error) {
	m, damage := readManifest(fsys, dir)
	if _, damaged := errors.AsType[*DamagedError](damage); damage != nil && !damaged {
		return nil, damage
	}
	if err := inv.checkVersions(fsys, dir, m); err != nil {
		return nil, err
	}
	newest, isManaged, err := inv.newest(fsys, dir)
	switch {
	case err != nil:
		return nil, err
	case newest > 0 && !isManaged && (m == nil || newest > m.last().id()):
		return nil, nil
	case damage != nil:
		return nil, damage
	case m == nil && isManaged:
		return nil, &DamagedError{File: filepath.Join(dir, ManifestName), Reason: "the manifest, which names the files of the log, is missing"}
	default:
		return m, nil
	}
}

// interrupted returns an error if a repair was begun and has not ended.
func (inv inventory) interrupted(fsys FS, dir string) error {
	file := repairingName
	if len(inv.repaired) > 0 {
		file = segmentName(inv.repaired[0]) + repairedSuffix
	} else if _, err := readFile(fsys, filepath.Join(dir, repairingName)); isMissing(err) {
		return nil
	} else if err != nil {
		return err
	}
	return &DamagedError{File: filepath.Join(dir, file), Reason: "a repair was interrupted and must be run again"}
}

// names returns the segments and snapshots, with the magic of each.
func (inv inventory) names() map[string]string {
	all := map[string]string{}
	for _, id := range inv.segments {
		all[segmentName(id)] = segmentMagic
	}
	for _, id := range inv.snapshots {
		all[snapshotName(id)] = snapshotMagic
	}
	return all
}

// namesFile reports whether a file of that name belongs to the log.
func (m *manifest) namesFile(name string) bool {
	id, suffix, _ := parseName(name)
	if suffix == snapshotSuffix {
		return m.snapshotNamed(id) != nil
	}
	return m.segment(id) != nil
}

// id returns the number; 0 for nil.
func (n *named) id() uint64 {
	if n == nil {
		return 0
	}
	return n.ID
}

// newest returns the number of the newest file with a sound header, 0 for none, and whether that says that there is a
// manifest.
func (inv inventory) newest(fsys FS, dir string) (id uint64, isManaged bool, err error) {
	for _, kind := range []struct {
		ids   []uint64
		name  func(uint64) string
		magic string
	}{{inv.segments, segmentName, segmentMagic}, {inv.snapshots, snapshotName, snapshotMagic}} {
		for _, id := range slices.Backward(kind.ids) {
			head, err := readHeader(fsys, filepath.Join(dir, kind.name(id)), kind.magic)
			if _, damaged := errors.AsType[*DamagedError](err); damaged {
				continue
			}
			return id, head.flags&managed != 0, err
		}
	}
	return 0, false, nil
}

// named returns the files that the manifest names, and with them older ones, which a snapshot may have replaced just now. A
// named one that is missing is damage, and so is another one that is not empty; without a manifest all count.
func (inv inventory) named(fsys FS, dir string, m *manifest) (inventory, error) {
	if m == nil {
		return inv, nil
	}
	for _, n := range m.Segments {
		if !slices.Contains(inv.segments, n.ID) {
			return inv, &DamagedError{
				File: filepath.Join(dir, segmentName(n.ID)), Reason: fmt.Sprintf("the segment is missing, which begins with batch %d", n.First),
			}
		}
	}
	start := m.snapshot()
	segments, snapshots := inv.segments, inv.snapshots
	inv.segments, inv.snapshots = nil, nil
	for _, id := range segments {
		if m.segment(id) != nil || id < start {
			inv.segments = append(inv.segments, id)
			continue
		}
		if err := unusedSegment(fsys, dir, id); err != nil {
			return inv, err
		}
		inv.unused = append(inv.unused, segmentName(id))
	}
	for _, id := range snapshots {
		if id < start {
			inv.snapshots = append(inv.snapshots, id)
		} else if id > start {
			inv.unused = append(inv.unused, snapshotName(id)) // its segments and what is before it are there
		}
	}
	if start != 0 {
		inv.snapshots = append(inv.snapshots, start) // also if it is missing
	}
	return inv, nil
}

// unusedSegment checks that a segment that the manifest does not name is one that was made and never written.
func unusedSegment(fsys FS, dir string, id uint64) error {
	r, err := openReader(fsys, filepath.Join(dir, segmentName(id)), segmentMagic, id)
	defer func() { r.close() }()
	if err != nil {
		return err
	}
	end, err := r.restEnd(headerBytes)
	if err == nil && end > headerBytes {
		return r.damaged(headerBytes, "the segment is not empty, and the manifest does not name it: it does not belong to this log")
	}
	return err
}

// isUnused reports whether a segment that was read holds nothing and need not stay.
func (w *walk) isUnused(id uint64) bool {
	return id != w.start && slices.Contains(w.empty, id)
}
