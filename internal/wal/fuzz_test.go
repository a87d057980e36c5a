package wal_test

import (
	"bytes"
	"path/filepath"
	"slices"
	"testing"

	"pushrelay/internal/wal"
)

// FuzzOpen reads any bytes as a log of a snapshot and two segments: it is opened, or refused and repaired; either way it is
// a log like any other afterwards. With seal, all checksums are right, so that what is behind them is reached.
func FuzzOpen(f *testing.F) {
	fsys, _ := smallLog(f, true)
	files := fsys.files()
	names := segments(fsys)
	f.Add([]byte(files[snapshotOf(fsys)]), []byte(files[names[0]]), []byte(files[names[1]]), false)
	f.Add([]byte(files[snapshotOf(fsys)]), []byte(files[names[0]]), []byte(files[names[1]]), true)
	f.Add([]byte(nil), []byte(files[names[0]]), []byte(files[names[1]]), true)
	f.Fuzz(func(t *testing.T, snapshot, first, second []byte, seal bool) {
		fsys := newMemFS()
		put := func(name string, content []byte) {
			if seal {
				content = bytes.Clone(content)
				wal.Reseal(content)
			}
			fsys.put(filepath.Join(testDir, name), content)
		}
		if snapshot != nil {
			put(snapshotName(2), snapshot)
		}
		put(segmentName(2), first)
		put(segmentName(3), second)
		cfg := wal.Config{Dir: testDir, FS: fsys, SegmentBytes: 300}
		before := fsys.files()
		o, err := open(t, cfg)
		if err != nil && isDamage(err) {
			if after := fsys.files(); !equalFiles(before, after) {
				t.Fatalf("Open() = %v has changed files: %v", err, listing(fsys))
			}
			if _, err := wal.Repair(t.Context(), cfg, nil); err != nil {
				t.Fatalf("Repair() = %v", err)
			}
			o, err = open(t, cfg)
			if err != nil {
				t.Fatalf("Open() after Repair() = %v", err)
			}
		}
		if err != nil {
			return // of a later version
		}
		appendShort(o, 2)
		state := o.state
		o.log.Close()
		if o, err = open(t, cfg); err != nil || !slices.Equal(o.state, state) {
			t.Fatalf("another Open() = %d payloads, %v, want %d", len(o.state), err, len(state))
		}
		o.log.Close()
	})
}

func equalFiles(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for name, content := range a {
		if got, ok := b[name]; !ok || got != content {
			return false
		}
	}
	return true
}

func segmentName(id int) string  { return numbered(id) + ".log" }
func snapshotName(id int) string { return numbered(id) + ".snapshot" }

func numbered(id int) string {
	const zeros = "0000000000000000"
	return zeros[:len(zeros)-1] + string(rune('0'+id))
}
