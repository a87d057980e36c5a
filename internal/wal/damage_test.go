package wal_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/wal"
)

// The format, as the package comment tells it.
const (
	headerBytes      = 48
	batchHeaderBytes = 40
)

// extent is where a batch is in a file.
type extent struct{ begin, end int }

// batches returns where the batches of a sound file are.
func batches(content string) []extent {
	var all []extent
	for at := headerBytes; at+batchHeaderBytes <= len(content) && content[at:at+8] == content[32:40]; {
		end := at + batchHeaderBytes + int(binary.LittleEndian.Uint32([]byte(content[at+32:])))
		all = append(all, extent{at, end})
		at = end
	}
	return all
}

// smallLog makes a log of a snapshot and several segments, with a few payloads in each, which was closed or not. It also
// returns all that was appended.
func smallLog(t testing.TB, closed bool) (*memFS, []string) {
	t.Helper()
	fsys := newMemFS()
	cfg := wal.Config{Dir: testDir, FS: fsys, SegmentBytes: 300}
	o := mustOpen(t, cfg)
	appendShort(o, 2)
	if err := o.snapshot(); err != nil {
		t.Fatal(err)
	}
	for i := range 7 {
		appendShort(o, 1+i%2)
	}
	if last := segments(fsys)[len(segments(fsys))-1]; len(batches(fsys.files()[last])) < 2 {
		t.Fatalf("the last segment has too few batches: %v", listing(fsys))
	}
	if !closed {
		fsys = fsys.restart().clone()
	}
	o.log.Close()
	if files := fsys.files(); len(files) < 4 {
		t.Fatalf("the log is in too few files: %v", listing(fsys))
	}
	return fsys, o.state
}

// appendShort appends n payloads of about 50 bytes in one batch.
func appendShort(o *owner, n int) {
	o.t.Helper()
	for range n {
		o.next++
		p := fmt.Sprintf("payload %d of about fifty bytes, not more and not less", o.next)
		wait, err := o.log.Append([]byte(p))
		if err == nil {
			err = wait(o.t.Context())
		}
		if err != nil {
			o.t.Fatal(err)
		}
		o.state = append(o.state, p)
	}
	o.acked = len(o.state)
}

// isSubsequence reports whether got can be made from want by leaving something out.
func isSubsequence(got, want []string) bool {
	for _, g := range got {
		i := slices.Index(want, g)
		if i < 0 {
			return false
		}
		want = want[i+1:]
	}
	return true
}

// TestEveryByte damages a small log at every place, and in several ways: what is read is a beginning of what was appended,
// or an error that says where the damage is, and then nothing was changed and a repair keeps all but what was hit.
func TestEveryByte(t *testing.T) {
	t.Parallel()
	damages := map[string]func(content []byte, at int) []byte{
		"truncated": func(content []byte, at int) []byte { return content[:at] },
		"one bit":   func(content []byte, at int) []byte { content[at] ^= 1; return content },
		"all bits":  func(content []byte, at int) []byte { content[at] ^= 0xff; return content },
		"zeros from here on": func(content []byte, at int) []byte {
			clear(content[at:])
			return content
		},
		"a sector of zeros": func(content []byte, at int) []byte {
			clear(content[at:min(len(content), at+100)])
			return content
		},
	}
	for _, closed := range []bool{true, false} {
		fsys, want := smallLog(t, closed)
		files := fsys.files()
		names := slices.Sorted(func(yield func(string) bool) {
			for name := range files {
				if name != "lock" && !yield(name) {
					return
				}
			}
		})
		last := names[len(names)-1]
		for damage, inflict := range damages {
			for _, name := range names {
				t.Run(fmt.Sprintf("%s %s closed=%v", damage, name, closed), func(t *testing.T) {
					t.Parallel()
					for at := range len(files[name]) {
						content := inflict([]byte(files[name]), at)
						if string(content) == files[name] {
							continue
						}
						damaged := fsys.clone()
						damaged.put(filepath.Join(testDir, name), content)
						end := batches(files[last])[len(batches(files[last]))-1]
						tail := len(content) < end.end || string(content[end.begin:end.end]) != files[last][end.begin:end.end]
						checkDamaged(t, damaged, want, name, name == last && tail)
						if t.Failed() {
							t.Fatalf("at offset %d of %d; batches: %v", at, len(files[name]), batches(files[name]))
						}
					}
				})
			}
		}
	}
}

// checkDamaged opens a log in which one file is damaged. Only the very last batch may be missing silently, and only if
// it was hit.
func checkDamaged(t *testing.T, fsys *memFS, want []string, name string, mayBeTorn bool) {
	t.Helper()
	before := fsys.files()
	cfg := wal.Config{Dir: testDir, FS: fsys, SegmentBytes: 300}
	o, err := open(t, cfg)
	if err == nil {
		checkGoesOn(t, o)
		if len(o.state) > len(want) || !slices.Equal(o.state, want[:len(o.state)]) {
			t.Errorf("%d payloads are there that are no beginning of those that were appended", len(o.state))
		}
		if len(o.state) < len(want) && !mayBeTorn {
			t.Errorf("%d of %d payloads are there, although the last batch is as it was", len(o.state), len(want))
		}
		return
	}
	damaged, isDamaged := errors.AsType[*wal.DamagedError](err)
	if !isDamaged {
		t.Fatalf("Open() = %v, want a DamagedError", err)
	}
	if filepath.Base(damaged.File) != name && !strings.Contains(damaged.Reason, "missing") {
		t.Errorf("Open() = %v, but the damage is in %q", err, name)
	}
	if diff := cmp.Diff(before, fsys.files()); diff != "" {
		t.Errorf("a log that was refused has changed:\n%s", diff)
	}
	checkRepaired(t, cfg, fsys, before, want, name)
}

// checkRepaired repairs a log in which one file is damaged.
func checkRepaired(t *testing.T, cfg wal.Config, fsys *memFS, before map[string]string, want []string, name string) {
	t.Helper()
	report, err := wal.Repair(t.Context(), cfg)
	if err != nil {
		t.Fatalf("Repair() = %v", err)
	}
	if len(report.SetAside) != 1 || fsys.files()[filepath.Base(report.SetAside[0])] != before[name] {
		t.Errorf("Repair() = %+v, which does not set %q aside as it was", report, name)
	}
	o := mustOpen(t, cfg)
	if !isSubsequence(o.state, want) {
		t.Errorf("after a repair there is what was never appended, or in another order: %.60q", o.state)
	}
	if diff := cmp.Diff(known(report.Missing), o.found.GivenUp); diff != "" {
		t.Errorf("Repair() and the Open after it disagree about what is missing:\n%s", diff)
	}
	if isSnapshot := strings.HasSuffix(name, ".snapshot"); isSnapshot != (len(report.LostSnapshots) == 1) {
		t.Errorf("Repair() = %+v after damage of %q", report, name)
	}
	checkGoesOn(t, o)
}

// checkGoesOn checks that a log that was opened is one like any other. It closes it.
func checkGoesOn(t *testing.T, o *owner) {
	t.Helper()
	state := slices.Clone(o.state)
	appendAndWait(t, o.log, "one more")
	if err := o.log.Close(); err != nil {
		t.Errorf("Close() = %v", err)
	}
	successor, err := open(t, o.cfg)
	if err != nil || !slices.Equal(successor.state, append(state, "one more")) {
		t.Fatalf("another Open() = %d payloads, %v, want %d", len(successor.state), err, len(state)+1)
	}
	successor.log.Close()
}

// known drops what nobody knows the end of.
func known(missing []wal.Range) []wal.Range {
	var all []wal.Range
	for _, r := range missing {
		if r.Last != 0 {
			all = append(all, r)
		}
	}
	return all
}

// segments returns the names of all segments, oldest first.
func segments(fsys *memFS) []string {
	var names []string
	for name := range fsys.files() {
		if strings.HasSuffix(name, ".log") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// TestMissingFiles removes one file at a time.
func TestMissingFiles(t *testing.T) {
	t.Parallel()
	sound, want := smallLog(t, true)
	names := append(segments(sound), snapshotOf(sound))
	last := segments(sound)[len(segments(sound))-1]
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fsys := sound.clone()
			if err := fsys.Remove(filepath.Join(testDir, name)); err != nil {
				t.Fatal(err)
			}
			cfg := wal.Config{Dir: testDir, FS: fsys, SegmentBytes: 300}
			o, err := open(t, cfg)
			if name == last && err == nil {
				o.log.Close()
				return // Nothing tells that there was another one.
			}
			damaged, ok := errors.AsType[*wal.DamagedError](err)
			if !ok || !strings.Contains(damaged.Reason, "missing") {
				t.Fatalf("Open() = %v, want a DamagedError that says what is missing", err)
			}
			report, err := wal.Repair(t.Context(), cfg)
			if err != nil {
				t.Fatalf("Repair() = %v", err)
			}
			if len(report.Missing) != 1 || report.Missing[0].Last == 0 {
				t.Errorf("Repair() = %+v, want one known range to be missing", report)
			}
			o = mustOpen(t, cfg)
			defer o.log.Close()
			if len(o.state) == 0 || len(o.state) == len(want) || !isSubsequence(o.state, want) {
				t.Errorf("after a repair, %d of %d payloads are there", len(o.state), len(want))
			}
		})
	}
}

func snapshotOf(fsys *memFS) string {
	for name := range fsys.files() {
		if strings.HasSuffix(name, ".snapshot") {
			return name
		}
	}
	return ""
}

// TestTornTail is a batch of which a power cut kept later blocks and lost earlier ones: it is cut off and saved, and the
// log goes on.
func TestTornTail(t *testing.T) {
	t.Parallel()
	fsys := newMemFS()
	cfg := wal.Config{Dir: testDir, FS: fsys, SegmentBytes: 1 << 16}
	o := mustOpen(t, cfg)
	appendShort(o, 2)
	want := slices.Clone(o.state)
	appendShort(o, 20)
	fsys = fsys.restart().clone()
	o.log.Close()

	name := segments(fsys)[len(segments(fsys))-1]
	content := []byte(fsys.files()[name])
	for _, b := range batches(string(content))[2:] {
		clear(content[b.begin:b.end])
	}
	from := batches(string(content))[1].end
	copy(content[from+1024:], "blocks that came to the disk")
	fsys.put(filepath.Join(testDir, name), content)

	cfg.FS = fsys
	o = mustOpen(t, cfg)
	if !slices.Equal(o.state, want) {
		t.Errorf("%d payloads are there, want %d", len(o.state), len(want))
	}
	tail := strings.Repeat("\x00", 1024) + "blocks that came to the disk"
	path := filepath.Join(testDir, name)
	cut := &wal.CutOff{
		File: path, SavedAs: fmt.Sprintf("%s.tail-%d", path, from), Offset: int64(from), Bytes: int64(len(tail)),
		Reason: "there is no batch where one should begin (batch 3)",
	}
	if diff := cmp.Diff(cut, o.found.CutOff); diff != "" {
		t.Errorf("Recovery.CutOff:\n%s", diff)
	}
	if got := fsys.files()[filepath.Base(cut.SavedAs)]; got != tail {
		t.Errorf("what was cut off is saved as %q", got)
	}
	appendShort(o, 1)
	state := o.state
	o.log.Close()
	if o = mustOpen(t, cfg); !slices.Equal(o.state, state) || o.found.CutOff != nil {
		t.Errorf("after another start, %d payloads are there, want %d; CutOff = %v", len(o.state), len(state), o.found.CutOff)
	}
	o.log.Close()
}

// TestUnknownVersion refuses what a later version wrote, whichever file it is, and touches nothing.
func TestUnknownVersion(t *testing.T) {
	t.Parallel()
	sound, _ := smallLog(t, true)
	for _, name := range append(segments(sound), snapshotOf(sound)) {
		fsys := sound.clone()
		content := []byte(fsys.files()[name])
		binary.LittleEndian.PutUint32(content[8:], 2)
		binary.LittleEndian.PutUint32(content[12:], crc32.Checksum(content[:12], crc32.MakeTable(crc32.Castagnoli)))
		content = content[:16] // The rest may be anything.
		fsys.put(filepath.Join(testDir, name), content)
		before := fsys.files()
		cfg := wal.Config{Dir: testDir, FS: fsys, SegmentBytes: 300}
		_, openErr := open(t, cfg)
		_, repairErr := wal.Repair(t.Context(), cfg)
		for call, err := range map[string]error{"Open": openErr, "Repair": repairErr} {
			version, ok := errors.AsType[*wal.VersionError](err)
			if !ok || version.Version != 2 || filepath.Base(version.File) != name {
				t.Errorf("%s() = %v, want a VersionError for %q", call, err, name)
			}
		}
		if diff := cmp.Diff(before, fsys.files()); diff != "" {
			t.Errorf("files have changed:\n%s", diff)
		}
	}
}
