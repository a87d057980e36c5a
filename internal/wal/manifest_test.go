package wal_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pushrelay/internal/wal"
)

// sumOf returns the last line of a manifest.
func sumOf(text []byte) []byte {
	return fmt.Appendf(nil, "crc32c %08x\n", crc32.Checksum(text, crc32.MakeTable(crc32.Castagnoli)))
}

// TestNewerRelease names the release that has written a log which is too new, whichever file tells it.
func TestNewerRelease(t *testing.T) {
	t.Parallel()
	fsys := newMemFS()
	cfg := wal.Config{Dir: testDir, FS: fsys, SegmentBytes: 300, Release: "0.7"}
	o := mustOpen(t, cfg)
	appendShort(o, 3)
	mustClose(t, o.log)
	name := segments(fsys)[0]
	segment := []byte(fsys.files()[name])
	binary.LittleEndian.PutUint32(segment[8:], 2)
	binary.LittleEndian.PutUint32(segment[12:], crc32.Checksum(segment[:12], crc32.MakeTable(crc32.Castagnoli)))
	manifest := []byte("{\"format\":2,\"release\":\"0.7\",\"files\":{\"what\":\"ever\"}}\n")
	for name, content := range map[string][]byte{name: segment, wal.ManifestName: append(manifest, sumOf(manifest)...)} {
		newer := fsys.clone()
		newer.put(filepath.Join(testDir, name), content)
		cfg.FS = newer
		_, openErr := open(t, cfg)
		_, repairErr := wal.Repair(t.Context(), cfg, nil)
		for _, err := range []error{openErr, repairErr} {
			version, ok := errors.AsType[*wal.VersionError](err)
			if !ok || version.Version != 2 || version.Release != "0.7" || !strings.Contains(err.Error(), "was written by a newer release, 0.7") {
				t.Errorf("%s: %v, want a VersionError of release 0.7", name, err)
			}
		}
	}
}

// withoutFlags makes a file what releases made that had no manifest.
func withoutFlags(content string) []byte {
	old := []byte(written(content))
	binary.LittleEndian.PutUint32(old[40:], 0)
	wal.Reseal(old)
	return old
}

// TestEarlierReleases opens a log that has no manifest, and one of which such a release has written the newest segment while a
// manifest was there: it says nothing of that one.
func TestEarlierReleases(t *testing.T) {
	t.Parallel()
	sound, want := smallLog(t, true)
	old := newMemFS()
	for name, content := range sound.files() {
		if strings.HasPrefix(name, "0") {
			old.put(filepath.Join(testDir, name), withoutFlags(content))
		}
	}
	mixed := old.clone()
	last := segments(mixed)[len(segments(mixed))-1]
	all := segments(mixed)
	for _, name := range all[:len(all)-1] {
		mixed.put(filepath.Join(testDir, name), []byte(sound.files()[name]))
	}
	stale := newMemFS()
	o := mustOpen(t, wal.Config{Dir: testDir, FS: stale})
	mustClose(t, o.log)
	mixed.put(filepath.Join(testDir, wal.ManifestName), []byte(stale.files()[wal.ManifestName]))
	for name, fsys := range map[string]*memFS{"no manifest": old, "a manifest of before " + last: mixed} {
		cfg := wal.Config{Dir: testDir, FS: fsys, SegmentBytes: 300}
		o, err := open(t, cfg)
		if err != nil || !slices.Equal(o.state, want) || o.found.Lossy {
			t.Fatalf("%s: Open() = %+v, %v, want %d payloads", name, o.found, err, len(want))
		}
		checkGoesOn(t, o)
		if fsys.files()[wal.ManifestName] == "" {
			t.Errorf("%s: there is no manifest after a start", name)
		}
	}
}

// TestDamagedAndTorn is a crash after a start that found damage at the end of the log, at every step of that start: the loss
// is told once, and stays.
func TestDamagedAndTorn(t *testing.T) {
	t.Parallel()
	sound, want := smallLog(t, false)
	name := segments(sound)[len(segments(sound))-1]
	content := []byte(sound.files()[name])
	all := batches(string(content))
	content[all[len(all)-1].end-3] ^= 1
	for cut := 1; ; cut++ {
		fsys := sound.clone()
		fsys.put(filepath.Join(testDir, name), bytes.Clone(content))
		fsys.setFault(func(call int, _, _ string) error {
			if call >= cut {
				return errPower
			}
			return nil
		})
		cfg := wal.Config{Dir: testDir, FS: fsys, SegmentBytes: 300}
		first, err := open(t, cfg)
		if err != nil {
			t.Fatalf("cut at %d: Open() = %v", cut, err)
		}
		done := first.found.Failure == nil
		fsys = fsys.crash(seeded(uint64(cut)))
		first.log.Close()
		cfg.FS = fsys
		for range 2 {
			o := mustOpen(t, cfg)
			if len(o.state) != len(want)-1 || !o.found.Lossy || len(o.found.Losses) != 1 || o.found.Losses[0].Proven || o.found.Losses[0].Changes != 1 {
				t.Fatalf("cut at %d: %d payloads, want %d: %+v", cut, len(o.state), len(want)-1, o.found)
			}
			mustClose(t, o.log)
		}
		if done {
			return
		}
	}
}

// TestAcknowledge takes note of a loss beside the owner of the log.
func TestAcknowledge(t *testing.T) {
	t.Parallel()
	fsys, _ := smallLog(t, true)
	if err := fsys.Remove(filepath.Join(testDir, segments(fsys)[1])); err != nil {
		t.Fatal(err)
	}
	cfg := wal.Config{Dir: testDir, FS: fsys, SegmentBytes: 300}
	report, err := wal.Repair(t.Context(), cfg, nil)
	if err != nil || report.Loss == nil {
		t.Fatalf("Repair() = %+v, %v", report, err)
	}
	o := mustOpen(t, cfg)
	if err := o.snapshot(); err != nil {
		t.Fatal(err)
	}
	if losses := o.log.Losses(); len(losses) != 1 || losses[0].ID != report.Loss.ID {
		t.Errorf("Losses() = %v, want that of the repair", losses)
	}
	if told, err := wal.Acknowledge(cfg); err != nil || len(told) != 1 {
		t.Errorf("Acknowledge() = %v, %v", told, err)
	}
	if losses := o.log.Losses(); len(losses) != 0 {
		t.Errorf("Losses() = %v after Acknowledge()", losses)
	}
	mustClose(t, o.log)
	o = mustOpen(t, cfg)
	if o.found.Lossy || len(o.found.Losses) != 0 {
		t.Errorf("a later start: %+v", o.found)
	}
	mustClose(t, o.log)
	if told, err := wal.Acknowledge(cfg); err != nil || len(told) != 0 {
		t.Errorf("Acknowledge() = %v, %v, a second time", told, err)
	}
}
