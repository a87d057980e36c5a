package wal_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/wal"
)

// TestRepairKeepsTheRest flips one byte and checks that not more is lost than the batch that it is in; a header is no
// loss at all.
func TestRepairKeepsTheRest(t *testing.T) {
	t.Parallel()
	fsys, want := smallLog(t, true)
	for name, content := range fsys.files() {
		if !strings.HasSuffix(name, ".log") {
			continue
		}
		for at := range len(content) {
			damaged := fsys.clone()
			flipped := []byte(content)
			flipped[at] ^= 0x10
			damaged.put(filepath.Join(testDir, name), flipped)
			cfg := wal.Config{Dir: testDir, FS: damaged, SegmentBytes: 300}
			if _, err := wal.Repair(t.Context(), cfg, nil); err != nil {
				t.Fatalf("Repair() = %v", err)
			}
			o := mustOpen(t, cfg)
			lost := 0
			for _, b := range batches(content) {
				if b.begin <= at && at < b.end {
					lost = strings.Count(content[b.begin:b.end], "payload ")
				}
			}
			if len(o.state) != len(want)-lost || !isSubsequence(o.state, want) {
				t.Errorf("byte %d of %q: %d of %d payloads are there, want to lose %d", at, name, len(o.state), len(want), lost)
			}
			o.log.Close()
		}
	}
}

// TestRepairIsNotNeeded leaves alone what Open can read, with a torn tail too.
func TestRepairIsNotNeeded(t *testing.T) {
	t.Parallel()
	fsys, want := smallLog(t, false)
	name := segments(fsys)[len(segments(fsys))-1]
	content := []byte(fsys.files()[name])
	all := batches(string(content))
	wal.Unwrite(content, all[len(all)-1].end-20, all[len(all)-1].end)
	fsys.put(filepath.Join(testDir, name), content)
	before := fsys.files()
	cfg := wal.Config{Dir: testDir, FS: fsys, SegmentBytes: 300}
	report, err := wal.Repair(t.Context(), cfg, nil)
	if diff := cmp.Diff(wal.Repaired{}, report); err != nil || diff != "" {
		t.Errorf("Repair() = %v\n%s", err, diff)
	}
	if diff := cmp.Diff(before, fsys.files()); diff != "" {
		t.Errorf("Repair() changed a log that could be read:\n%s", diff)
	}
	o := mustOpen(t, cfg)
	defer o.log.Close()
	if got, want := len(o.state), len(want)-1; got != want {
		t.Errorf("%d payloads are there, want %d", got, want)
	}
}

// TestRepairIsInterrupted ends a repair at every operation, with what an unkind disk makes of it, and runs it again.
func TestRepairIsInterrupted(t *testing.T) {
	t.Parallel()
	sound, want := smallLog(t, true)
	name := segments(sound)[1]
	content := []byte(sound.files()[name])
	hit := batches(string(content))[0]
	lost := strings.Count(string(content[hit.begin:hit.end]), "payload ")
	content[hit.begin+60] ^= 1
	for cut := 1; ; cut++ {
		fsys := sound.clone()
		fsys.put(filepath.Join(testDir, name), content)
		fsys.setFault(func(call int, _, _ string) error {
			if call >= cut {
				return errPower
			}
			return nil
		})
		_, interrupted := wal.Repair(t.Context(), wal.Config{Dir: testDir, FS: fsys}, nil)
		fsys = fsys.crash(seeded(uint64(cut)))
		cfg := wal.Config{Dir: testDir, FS: fsys, SegmentBytes: 300}
		if interrupted == nil {
			if cut < 5 {
				t.Errorf("a repair takes %d operations, which is too little to be one", cut)
			}
			return
		}
		if _, err := wal.Repair(t.Context(), cfg, nil); err != nil {
			t.Fatalf("cut at %d: Repair() = %v", cut, err)
		}
		o := mustOpen(t, cfg)
		if len(o.state) != len(want)-lost || !isSubsequence(o.state, want) {
			t.Errorf("cut at %d: %d of %d payloads are there, want to lose %d", cut, len(o.state), len(want), lost)
		}
		o.log.Close()
	}
}
