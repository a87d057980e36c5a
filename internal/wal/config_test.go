package wal_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pushrelay/internal/wal"
)

// TestConfig refuses what makes no sense.
func TestConfig(t *testing.T) {
	t.Parallel()
	for _, cfg := range []wal.Config{
		{},
		{Dir: testDir, FS: newMemFS(), MaxPayloadBytes: -1},
		{Dir: testDir, FS: newMemFS(), MaxPayloadBytes: 1 << 32},
		{Dir: testDir, FS: newMemFS(), SegmentBytes: -1},
	} {
		if _, _, err := wal.Open(t.Context(), cfg, wal.Replay{}); err == nil {
			t.Errorf("Open(%+v) = nil", cfg)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err := wal.Open(t.Context(), wal.Config{Dir: file}, wal.Replay{})
	if err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("Open() = %v, want that it is not a directory", err)
	}
}

// TestObservers checks that every batch's sync is told, and how far the reading is.
func TestObservers(t *testing.T) {
	t.Parallel()
	fsys := newMemFS()
	var syncs atomic.Int64
	cfg := wal.Config{Dir: testDir, FS: fsys, SegmentBytes: 1 << 18, ObserveSync: func(d time.Duration) {
		if d > 0 {
			syncs.Add(1)
		}
	}}
	l, _, _ := collect(t, cfg)
	for range 20 {
		appendAndWait(t, l, strings.Repeat("x", 100<<10))
	}
	if got := uint64(syncs.Load()); got != 20 || l.Status().Batches != got {
		t.Errorf("%d syncs were observed of %+v, want 20", got, l.Status())
	}
	mustClose(t, l)
	var done, total []int64
	cfg.Progress = func(d, t int64) { done, total = append(done, d), append(total, t) }
	_, found, _ := collect(t, cfg)
	if len(done) < 5 || !slices.IsSorted(done) || slices.Min(total) < 20*100<<10 {
		t.Errorf("progress was %v of %v", done, total)
	}
	if last := done[len(done)-1]; last != total[len(total)-1] || last != found.Bytes {
		t.Errorf("progress ended with %d of %d, and %d bytes were read", last, total[len(total)-1], found.Bytes)
	}
}
