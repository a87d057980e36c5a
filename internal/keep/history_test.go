package keep_test

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"pushrelay/internal/change"
	past "pushrelay/internal/history"
	"pushrelay/internal/keep"
)

// point is the newest change of the store.
func (k *keeper) point() past.Point {
	h := k.History()
	return past.Point{Epoch: h.Current(), Position: h.Position}
}

// TestHistory: each start begins an epoch, over snapshots too; and of a copy that is put back the history lacks what came after it.
func TestHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { testHistory(t) })
}

func testHistory(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	cfg := config(dir)
	cfg.SnapshotFloorBytes = 1
	var points []past.Point
	for n := range 5 {
		k := open(t, cfg)
		k.mustPush(change.Replace, "a", "n 1\n")
		points = append(points, k.point())
		h := k.History()
		if len(h.Epochs) != n+1 || h.Position != uint64(n+1) {
			t.Errorf("start %d: %+v", n, h)
		}
		for i, p := range points {
			if !h.Holds(p) {
				t.Errorf("start %d: the history lacks point %d", n, i)
			}
		}
		if n == 2 {
			stop := k.run(t)
			time.Sleep(5 * time.Second)
			stop()
			if snapshots, err := filepath.Glob(filepath.Join(dir, "*.snapshot")); err != nil || len(snapshots) == 0 {
				t.Fatalf("no snapshot: %v", err)
			}
		}
		k.close()
	}
	older := t.TempDir()
	if err := os.CopyFS(older, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	k := open(t, cfg)
	id := k.ID()
	k.mustPush(change.Delete, "a", "")
	after := k.point()
	k.close()
	copied := open(t, config(older))
	defer copied.close()
	if h := copied.History(); copied.ID() != id || h.Holds(after) || !h.Holds(points[4]) || !past.Diverged(h, past.History{Epochs: []past.Epoch{{ID: after.Epoch}}}) {
		t.Errorf("a copy that was put back says %+v of %+v", h, after)
	}
}

// TestHistoryOfARestoredStore: another store has another past.
func TestHistoryOfARestoredStore(t *testing.T) {
	dir := t.TempDir()
	k := open(t, config(dir))
	k.mustPush(change.Replace, "a", "n 1\n")
	before := k.point()
	k.close()
	file := filepath.Join(t.TempDir(), "backup")
	if _, err := keep.Backup(t.Context(), keep.Place{Dir: dir}, nil, file); err != nil {
		t.Fatal(err)
	}
	restored := t.TempDir()
	if _, err := keep.Restore(t.Context(), keep.Place{Dir: restored}, file, nil); err != nil {
		t.Fatal(err)
	}
	k = open(t, config(restored))
	defer k.close()
	if h := k.History(); len(h.Epochs) != 1 || h.Holds(before) {
		t.Errorf("a restored store has the history %+v", h)
	}
}

// TestHistoryOnAFullDisk: the epoch of a start that could log nothing is not lost with it.
func TestHistoryOnAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{}
		cfg := config(t.TempDir())
		cfg.FS = d
		open(t, cfg).close()
		d.full.Store(true)
		k := open(t, cfg)
		stop := k.run(t)
		d.full.Store(false)
		time.Sleep(11 * time.Second)
		k.mustPush(change.Replace, "a", "n 1\n")
		told := k.point()
		stop()
		k.close()
		k = open(t, cfg)
		defer k.close()
		if h := k.History(); len(h.Epochs) != 3 || !h.Holds(told) {
			t.Errorf("the history %+v lacks %+v", h, told)
		}
	})
}
