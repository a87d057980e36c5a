package wal

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	lockName       = "lock"
	segmentSuffix  = ".log"
	snapshotSuffix = ".snapshot"
	// Added to the name of a file, or of what it is to become.
	temporarySuffix = ".tmp"
	repairedSuffix  = ".repaired"
	movedSuffix     = ".moved"
	damagedSuffix   = ".damaged"
	tailSuffix      = ".tail-" // and an offset

	idDigits = 16
)

func segmentName(id uint64) string  { return fmt.Sprintf("%0*d%s", idDigits, id, segmentSuffix) }
func snapshotName(id uint64) string { return fmt.Sprintf("%0*d%s", idDigits, id, snapshotSuffix) }

// inventory is what a log's directory holds.
type inventory struct {
	segments, snapshots, repaired []uint64 // rising
	moved                         []string // on their way to another name
	unused                        []string // that the manifest does not name, and that hold nothing of the log
	temporary                     []string
	highest                       uint64 // of all numbers, also of files that were set aside
}

// list looks into the directory. Files with other names are none of its business.
func list(fsys FS, dir string) (inventory, error) {
	names, err := fsys.ReadDir(dir)
	if err != nil {
		return inventory{}, fmt.Errorf("listing the log: %w", err)
	}
	var inv inventory
	for _, name := range names {
		if strings.HasSuffix(name, movedSuffix) {
			inv.moved = append(inv.moved, name)
		}
		id, suffix, ok := parseName(name)
		if !ok {
			continue
		}
		inv.highest = max(inv.highest, id)
		switch {
		case suffix == segmentSuffix:
			inv.segments = append(inv.segments, id)
		case suffix == snapshotSuffix:
			inv.snapshots = append(inv.snapshots, id)
		case suffix == segmentSuffix+repairedSuffix:
			inv.repaired = append(inv.repaired, id)
		case strings.HasSuffix(suffix, temporarySuffix):
			inv.temporary = append(inv.temporary, name)
		}
	}
	slices.Sort(inv.segments)
	slices.Sort(inv.snapshots)
	slices.Sort(inv.repaired)
	slices.Sort(inv.moved)
	return inv, nil
}

// parseName splits the name of a file of the log into its number and the rest.
func parseName(name string) (id uint64, suffix string, ok bool) {
	if len(name) <= idDigits || name[idDigits] != '.' {
		return 0, "", false
	}
	id, err := strconv.ParseUint(name[:idDigits], 10, 64)
	return id, name[idDigits:], err == nil
}

// checkVersions refuses files of a newer version before anything is changed.
func (inv inventory) checkVersions(fsys FS, dir string, m *manifest) error {
	check := func(name, magic string) error {
		_, err := readHeader(fsys, filepath.Join(dir, name), magic)
		if newer, ok := errors.AsType[*VersionError](err); ok && m != nil {
			newer.Release = m.Release
		}
		if _, ok := errors.AsType[*DamagedError](err); ok {
			return nil // whoever needs the file will see it
		}
		return err
	}
	for _, id := range inv.segments {
		if err := check(segmentName(id), segmentMagic); err != nil {
			return err
		}
	}
	for _, id := range inv.snapshots {
		if err := check(snapshotName(id), snapshotMagic); err != nil {
			return err
		}
	}
	return nil
}

// readHeader reads the header of a file, whatever its number. What is no header is a [*DamagedError].
func readHeader(fsys FS, path, magic string) (header, error) {
	f, err := fsys.Open(path)
	if err != nil {
		return header{}, fmt.Errorf("opening: %w", err)
	}
	defer f.Close() //nolint:errcheck // Nothing was written.
	var raw [headerBytes]byte
	n, err := f.ReadAt(raw[:], 0)
	if n < len(raw) && !errors.Is(err, io.EOF) {
		return header{}, fmt.Errorf("reading %q: %w", path, err)
	}
	version, ok := decodePreamble(raw[:n], magic)
	if ok && version != formatVersion {
		return header{}, &VersionError{File: path, Version: version, Known: formatVersion}
	}
	head, whole := decodeHeader(raw[:n], magic)
	if !ok || !whole {
		return header{}, &DamagedError{File: path, Reason: "the header of the file is wrong"}
	}
	return head, nil
}

// from returns the segments that follow a snapshot; all for 0.
func (inv inventory) from(snapshot uint64) []uint64 {
	i, _ := slices.BinarySearch(inv.segments, snapshot)
	return inv.segments[i:]
}
