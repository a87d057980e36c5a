//go:build unix

package wal_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"pushrelay/internal/need"
	"pushrelay/internal/wal"
)

// TestRootLeavesNothingOfItsOwn lets root repair the log of somebody else, who can still use it afterwards.
func TestRootLeavesNothingOfItsOwn(t *testing.T) {
	t.Parallel()
	need.Root(t, "files are given away")
	const nobody = 65534
	cfg := wal.Config{Dir: t.TempDir(), SegmentBytes: 300}
	if err := os.Chown(cfg.Dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	o := mustOpen(t, cfg)
	appendShort(o, 5)
	mustClose(t, o.log)
	segment := filepath.Join(cfg.Dir, segmentName(1))
	content, err := os.ReadFile(segment)
	if err != nil {
		t.Fatal(err)
	}
	content[headerBytes] ^= 1
	if err := os.WriteFile(segment, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if report, err := wal.Repair(t.Context(), cfg, nil); err != nil || len(report.Missing) != 1 {
		t.Fatalf("Repair() = %+v, %v, want one batch to be missing", report, err)
	}
	files, err := os.ReadDir(cfg.Dir)
	if err != nil || len(files) < 4 {
		t.Fatalf("files %v, %v", files, err)
	}
	for _, f := range files {
		stat, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		if uid := stat.Sys().(*syscall.Stat_t).Uid; uid != nobody || stat.Mode().Perm() != 0o600 {
			t.Errorf("%q belongs to %d and has mode %v, want %d and 0600", f.Name(), uid, stat.Mode(), nobody)
		}
	}
}

// TestRootMakesDirectoriesForTheirOwner lets root make the log of somebody else, as when a store is restored into the data dir of a relay.
func TestRootMakesDirectoriesForTheirOwner(t *testing.T) {
	t.Parallel()
	need.Root(t, "files are given away")
	const nobody = 65534
	dataDir := t.TempDir()
	if err := os.Chown(dataDir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	cfg := wal.Config{Dir: filepath.Join(dataDir, "state", "store")}
	o := mustOpen(t, cfg)
	appendShort(o, 1)
	mustClose(t, o.log)
	for _, path := range []string{filepath.Dir(cfg.Dir), cfg.Dir, filepath.Join(cfg.Dir, segmentName(1))} {
		stat, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if uid := stat.Sys().(*syscall.Stat_t).Uid; uid != nobody {
			t.Errorf("%q belongs to %d, want %d", path, uid, nobody)
		}
	}
}
