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

// written returns a file without what it was filled with ahead.
func written(content string) string {
	if all := batches(content); len(all) > 0 {
		return content[:all[len(all)-1].end]
	}
	return content[:min(len(content), headerBytes)]
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

// TestEveryByte damages a small log at every place, and in several ways: what is read is all that was appended, or a beginning
// of it and the rest is told as lost, or an error says where the damage is. Then nothing was changed, and a repair keeps
// all but what was hit and tells what it lost.
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
	step := 1
	if testing.Short() {
		step = 7
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
		for damage, inflict := range damages {
			for _, name := range names {
				t.Run(fmt.Sprintf("%s %s closed=%v", damage, name, closed), func(t *testing.T) {
					t.Parallel()
					for at := 0; at < len(files[name]); at += step {
						content := inflict([]byte(files[name]), at)
						if string(content) == files[name] {
							continue
						}
						damaged := fsys.clone()
						damaged.put(filepath.Join(testDir, name), content)
						checkDamaged(t, damaged, want, name)
						if t.Failed() {
							t.Fatalf("at offset %d of %d; batches: %v", at, len(files[name]), batches(files[name]))
						}
					}
				})
			}
		}
	}
}

// checkDamaged opens a log in which one file is damaged. What is missing is told.
func checkDamaged(t *testing.T, fsys *memFS, want []string, name string) {
	t.Helper()
	before := fsys.files()
	cfg := wal.Config{Dir: testDir, FS: fsys, SegmentBytes: 300}
	o, err := open(t, cfg)
	if err == nil {
		checkGoesOn(t, o)
		if len(o.state) > len(want) || !slices.Equal(o.state, want[:len(o.state)]) {
			t.Errorf("%d payloads are there that are no beginning of those that were appended", len(o.state))
		}
		if len(o.state) < len(want) && (!o.found.Lossy || len(o.found.Losses) != 1) {
			t.Errorf("%d of %d payloads are there, and that is all that is said: %+v", len(o.state), len(want), o.found)
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
	checkRepaired(t, cfg, before, want, name)
}

// checkRepaired repairs a log of which one file is damaged or missing, and returns what the repair said.
func checkRepaired(t *testing.T, cfg wal.Config, before map[string]string, want []string, name string) wal.Repaired {
	t.Helper()
	fsys := cfg.FS.(*memFS)
	report, err := wal.Repair(t.Context(), cfg, nil)
	if err != nil {
		t.Fatalf("Repair() = %v", err)
	}
	for _, aside := range report.SetAside {
		if strings.HasPrefix(filepath.Base(aside), name+".") && fsys.files()[filepath.Base(aside)] != before[name] {
			t.Errorf("Repair() = %+v, which does not set %q aside as it was", report, name)
		}
	}
	o := mustOpen(t, cfg)
	if !isSubsequence(o.state, want) {
		t.Errorf("after a repair there is what was never appended, or in another order: %.60q", o.state)
	}
	if len(o.state) < len(want) != (report.Loss != nil) && !mayBeMore(report) {
		t.Errorf("after a repair %d of %d payloads are there, and it said %+v", len(o.state), len(want), report)
	}
	if len(o.found.Losses) != 0 != (report.Loss != nil) || o.found.Lossy != (report.Loss != nil) {
		t.Errorf("a repair said %+v, and the start after it %+v", report, o.found)
	}
	if diff := cmp.Diff(known(report.Missing), o.found.GivenUp); diff != "" {
		t.Errorf("Repair() and the Open after it disagree about what is missing:\n%s", diff)
	}
	checkGoesOn(t, o)
	return report
}

// mayBeMore reports whether all that a repair knows of a loss is that nobody knows.
func mayBeMore(report wal.Repaired) bool {
	return report.Loss != nil && !report.Loss.Proven
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

// TestMissingFiles removes one file at a time, and all of them: it is noticed, and what is lost is told.
func TestMissingFiles(t *testing.T) {
	t.Parallel()
	for _, closed := range []bool{true, false} {
		sound, want := smallLog(t, closed)
		names := append(segments(sound), snapshotOf(sound), wal.ManifestName)
		for _, name := range append(names, "*.log", "*.snapshot", "0*") {
			t.Run(fmt.Sprintf("%s closed=%v", name, closed), func(t *testing.T) {
				t.Parallel()
				fsys := sound.clone()
				for _, file := range names {
					if match, err := filepath.Match(name, file); err != nil {
						t.Fatal(err)
					} else if match {
						if err := fsys.Remove(filepath.Join(testDir, file)); err != nil {
							t.Fatal(err)
						}
					}
				}
				cfg := wal.Config{Dir: testDir, FS: fsys, SegmentBytes: 300}
				_, err := open(t, cfg)
				if damaged, ok := errors.AsType[*wal.DamagedError](err); !ok || !strings.Contains(damaged.Reason, "missing") {
					t.Fatalf("Open() = %v, want a DamagedError that says what is missing", err)
				}
				report := checkRepaired(t, cfg, nil, want, name)
				if (report.Loss == nil) != (name == wal.ManifestName) {
					t.Errorf("Repair() = %+v", report)
				}
			})
		}
	}
}

// TestSwappedFiles gives two files each other's names: a repair gives them back their own, and nothing is lost.
func TestSwappedFiles(t *testing.T) {
	t.Parallel()
	for _, closed := range []bool{true, false} {
		sound, want := smallLog(t, closed)
		names := append(segments(sound), snapshotOf(sound), wal.ManifestName)
		for i, one := range names {
			for _, other := range names[:i] {
				fsys := sound.clone()
				files := fsys.files()
				fsys.put(filepath.Join(testDir, one), []byte(files[other]))
				fsys.put(filepath.Join(testDir, other), []byte(files[one]))
				cfg := wal.Config{Dir: testDir, FS: fsys, SegmentBytes: 300}
				if _, err := open(t, cfg); !isDamage(err) {
					t.Fatalf("Open() = %v for %q and %q, want a DamagedError", err, one, other)
				}
				report := checkRepaired(t, cfg, files, want, "")
				if len(report.Moved) != 2 || report.Loss != nil {
					t.Errorf("%q and %q: Repair() = %+v", one, other, report)
				}
			}
		}
	}
}

// TestForeignFiles puts files of another log in the place of this one's, and beside them.
func TestForeignFiles(t *testing.T) {
	t.Parallel()
	for _, closed := range []bool{true, false} {
		sound, want := smallLog(t, closed)
		other, _ := smallLog(t, closed)
		foreign := other.files()
		for _, name := range append(segments(sound), snapshotOf(sound), wal.ManifestName) {
			fsys := sound.clone()
			fsys.put(filepath.Join(testDir, name), []byte(foreign[name]))
			cfg := wal.Config{Dir: testDir, FS: fsys, SegmentBytes: 300}
			if _, err := open(t, cfg); !isDamage(err) {
				t.Fatalf("Open() = %v with another log's %q, want a DamagedError", err, name)
			}
			report := checkRepaired(t, cfg, foreign, want, name)
			if (report.Loss == nil) != (name == wal.ManifestName) {
				t.Errorf("another log's %q: Repair() = %+v", name, report)
			}
		}
		extra := sound.clone()
		last := segments(sound)[len(segments(sound))-1]
		beside := []byte(foreign[last])
		binary.LittleEndian.PutUint64(beside[16:], 9)
		wal.Reseal(beside)
		extra.put(filepath.Join(testDir, segmentName(9)), beside)
		cfg := wal.Config{Dir: testDir, FS: extra, SegmentBytes: 300}
		if _, err := open(t, cfg); !isDamage(err) {
			t.Fatalf("Open() = %v with another log's segment beside, want a DamagedError", err)
		}
		if report := checkRepaired(t, cfg, extra.files(), want, segmentName(9)); report.Loss != nil {
			t.Errorf("another log's segment beside: Repair() = %+v", report)
		}
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
	from, to := batches(string(content))[1].end, batches(string(content))[21].end
	wal.Unwrite(content, from, to)
	came := []byte("blocks that came to the disk")
	came[len(came)-1] = ^content[from+1024+len(came)-1] // or one time in 256 it would look like what was never written
	copy(content[from+1024:], came)
	fsys.put(filepath.Join(testDir, name), content)

	cfg.FS = fsys
	o = mustOpen(t, cfg)
	if !slices.Equal(o.state, want) || o.found.Lossy || len(o.found.Losses) > 0 {
		t.Errorf("%d payloads are there, want %d: %+v", len(o.state), len(want), o.found)
	}
	tail := string(content[from:from+1024]) + string(came)
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
		_, repairErr := wal.Repair(t.Context(), cfg, nil)
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
