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
	damagedSuffix   = ".damaged"
	tailSuffix      = ".tail-" // and an offset

	idDigits = 16
)

func segmentName(id uint64) string  { return fmt.Sprintf("%0*d%s", idDigits, id, segmentSuffix) }
func snapshotName(id uint64) string { return fmt.Sprintf("%0*d%s", idDigits, id, snapshotSuffix) }

// inventory is what a log's directory holds.
type inventory struct {
	segments, snapshots, repaired []uint64 // rising
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

// checkVersions refuses files of a later version before anything is changed.
func (inv inventory) checkVersions(fsys FS, dir string) error {
	for _, id := range inv.segments {
		if err := checkVersion(fsys, filepath.Join(dir, segmentName(id)), segmentMagic); err != nil {
			return err
		}
	}
	for _, id := range inv.snapshots {
		if err := checkVersion(fsys, filepath.Join(dir, snapshotName(id)), snapshotMagic); err != nil {
			return err
		}
	}
	return nil
}

// checkVersion takes what is no preamble for good: whoever needs the file will see that it is damaged.
func checkVersion(fsys FS, path, magic string) error {
	f, err := fsys.Open(path)
	if err != nil {
		return fmt.Errorf("opening: %w", err)
	}
	defer f.Close() //nolint:errcheck // Nothing was written.
	var raw [preambleBytes]byte
	if n, err := f.ReadAt(raw[:], 0); n < len(raw) {
		if errors.Is(err, io.EOF) {
			return nil
		}
		return fmt.Errorf("reading %q: %w", path, err)
	}
	if version, ok := decodePreamble(raw[:], magic); ok && version != formatVersion {
		return &VersionError{File: path, Version: version}
	}
	return nil
}

// from returns the segments that follow a snapshot; all for 0.
func (inv inventory) from(snapshot uint64) []uint64 {
	i, _ := slices.BinarySearch(inv.segments, snapshot)
	return inv.segments[i:]
}
