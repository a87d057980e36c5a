package wal

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// relocate gives files that are under each other's names their own back: header and manifest say what each of them is. It
// may be interrupted at any point and run again.
func (p *repair) relocate() error {
	names, err := p.fs.ReadDir(p.dir)
	if err != nil {
		return fmt.Errorf("listing the log: %w", err)
	}
	var m *manifest
	right := map[string]string{}
	heads := map[string]header{}
	for _, name := range names {
		if _, suffix, ok := parseName(name); name != ManifestName && (!ok || suffix != segmentSuffix && suffix != snapshotSuffix) {
			continue
		}
		head, manifest, err := p.identify(name)
		switch {
		case err != nil:
			return err
		case manifest != nil:
			m, right[name] = manifest, ManifestName
		case head.magic == segmentMagic:
			right[name], heads[name] = segmentName(head.id), head
		case head.magic == snapshotMagic:
			right[name], heads[name] = snapshotName(head.id), head
		}
	}
	for name, to := range right {
		if head, ok := heads[name]; name == to || ok && !m.knows(head) {
			continue
		}
		if err := p.fs.Rename(filepath.Join(p.dir, name), filepath.Join(p.dir, to+movedSuffix)); err != nil {
			return fmt.Errorf("moving %q: %w", name, err)
		}
		p.report.Moved = append(p.report.Moved, fmt.Sprintf("%s, found as %s", to, name))
	}
	return p.arrive()
}

// arrive ends what relocate began.
func (p *repair) arrive() error {
	inv, err := list(p.fs, p.dir)
	if err != nil || len(inv.moved) == 0 {
		return err
	}
	for _, name := range inv.moved {
		path := filepath.Join(p.dir, name)
		to := strings.TrimSuffix(path, movedSuffix)
		if _, err := readFile(p.fs, to); err == nil {
			if err := p.setAside(path); err != nil { // there are two of it
				return err
			}
			continue
		} else if !isMissing(err) {
			return err
		}
		if err := p.fs.Rename(path, to); err != nil {
			return fmt.Errorf("moving %q: %w", name, err)
		}
	}
	return p.syncDir()
}

// identify returns what a file is, by its content; nothing if that cannot be told.
func (p *repair) identify(name string) (header, *manifest, error) {
	path := filepath.Join(p.dir, name)
	for _, magic := range []string{segmentMagic, snapshotMagic} {
		head, err := readHeader(p.fs, path, magic)
		if err == nil && head.id != 0 {
			return head, nil, nil
		}
		if _, damaged := errors.AsType[*DamagedError](err); err != nil && !damaged {
			return header{}, nil, err
		}
	}
	f, err := p.fs.Open(path)
	if err != nil {
		return header{}, nil, fmt.Errorf("opening: %w", err)
	}
	size, err := f.Size()
	f.Close() //nolint:errcheck // Nothing was written.
	if err != nil || size > windowBytes {
		return header{}, nil, err // A manifest is smaller.
	}
	text, err := readFile(p.fs, path)
	if err != nil {
		return header{}, nil, err
	}
	m, _ := decodeManifest(text)
	return header{}, m, nil
}

// knows reports whether the file belongs to the log; without a manifest all do.
func (m *manifest) knows(head header) bool {
	if m == nil {
		return true
	}
	if head.magic == snapshotMagic {
		return m.Snapshot != nil && m.Snapshot.ID == head.id && m.Snapshot.Salt == head.salt
	}
	n := m.segment(head.id)
	return n != nil && n.Salt == head.salt
}
