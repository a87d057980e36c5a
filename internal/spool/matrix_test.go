package spool_test

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pushrelay/internal/change"
	"pushrelay/internal/spool"
	"pushrelay/internal/wal"
	"pushrelay/internal/waltest"
)

// TestMatrix inflicts every kind of damage on every file of a spool, at many places. It starts with everything; or it starts,
// and that something may be lost is told; or it refuses, and a repair saves what is sound and tells what is lost, and then
// it starts.
func TestMatrix(t *testing.T) {
	t.Parallel()
	for _, snapshot := range []bool{false, true} {
		for _, closed := range []bool{false, true} {
			t.Run(fmt.Sprintf("snapshot=%v closed=%v", snapshot, closed), func(t *testing.T) {
				t.Parallel()
				files, want := madeSpool(t, snapshot, closed)
				foreign, _ := madeSpool(t, snapshot, closed)
				for damage, damaged := range waltest.Damages(rand.New(rand.NewPCG(1, 2)), files, foreign) {
					tryDamaged(t, damage, damaged, want)
					if t.Failed() {
						t.Fatal(damage)
					}
				}
			})
		}
	}
}

const matrixDir = "spool"

func openIn(t *testing.T, fsys wal.FS) (*spool.Spool, error) {
	t.Helper()
	s := spool.New(spool.Config{
		Dir: matrixDir, FS: fsys, SegmentBytes: 1500, Agent: "site-a", Relays: []string{"a:1"}, Wait: time.Minute,
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	return s, s.Recover(t.Context())
}

// madeSpool returns the files of a spool, as a stop or a kill left them, and what waits in it.
func madeSpool(t *testing.T, snapshot, closed bool) (map[string][]byte, map[string]int) {
	t.Helper()
	fsys := waltest.NewMemory(matrixDir, nil)
	s, err := openIn(t, fsys)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 16 {
		if err := s.Apply(t.Context(), request(change.Merge, fmt.Sprint("job", i%8), fmt.Sprintf("m%d %d\n", i, i))).Err(); err != nil {
			t.Fatal(err)
		}
		if i == 8 && snapshot {
			if err := s.Snapshot(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := waiting(s)
	files := fsys.Files(matrixDir)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if closed {
		files = fsys.Files(matrixDir)
	}
	return files, want
}

// waiting is how many changes of each group wait.
func waiting(s *spool.Spool) map[string]int {
	all := map[string]int{}
	for _, p := range s.Pending() {
		all[p.Key.String()] = p.Changes
	}
	return all
}

func tryDamaged(t *testing.T, damage string, files map[string][]byte, want map[string]int) {
	t.Helper()
	fsys := waltest.NewMemory(matrixDir, files)
	s, err := openIn(t, fsys)
	told := ""
	if err != nil {
		if _, damaged := errors.AsType[*wal.DamagedError](err); !damaged {
			t.Fatalf("%s: Recover() = %v, which no repair helps against", damage, err)
		}
		report, err := spool.Repair(t.Context(), spool.Place{Dir: matrixDir, FS: fsys})
		if err != nil {
			t.Fatalf("%s: Repair() = %v", damage, err)
		}
		told = strings.Join(report.Report("spool", "acknowledge-loss"), "\n")
		if s, err = openIn(t, fsys); err != nil {
			t.Fatalf("%s: Recover() after Repair() = %v\n%s", damage, err, told)
		}
	}
	got := waiting(s)
	lost := 0
	for key, changes := range want {
		lost += changes - got[key]
		if got[key] > changes {
			t.Errorf("%s: %d changes of %s wait, and there were %d", damage, got[key], key, changes)
		}
	}
	if lost > 0 && len(s.Losses()) == 0 {
		t.Errorf("%s: %d changes are lost, and that is not told\n%s", damage, lost, told)
	}
	if lost > 0 && (strings.Contains(told, "nothing that was acknowledged is missing") || strings.Contains(told, "not damaged")) {
		t.Errorf("%s: %d changes are lost, and the repair says\n%s", damage, lost, told)
	}
	if lost > 1 && strings.Contains(damage, ".log: a bit") {
		t.Errorf("%s: %d changes are lost\n%s", damage, lost, told)
	}
	if err := s.Check(); err != nil {
		t.Errorf("%s: %v", damage, err)
	}
	if err := s.Apply(t.Context(), request(change.Replace, "after", "m 1\n")).Err(); err != nil {
		t.Errorf("%s: a push afterwards: %v", damage, err)
	}
	left := waiting(s)
	if err := s.Close(); err != nil {
		t.Errorf("%s: Close() = %v", damage, err)
	}
	again, err := openIn(t, fsys)
	if err != nil || !maps.Equal(waiting(again), left) {
		t.Fatalf("%s: another start: %v, %v waits, want %v", damage, err, waiting(again), left)
	}
	if len(again.Losses()) != len(s.Losses()) {
		t.Errorf("%s: the loss is not told at the next start", damage)
	}
	if err := again.Close(); err != nil {
		t.Errorf("%s: Close() = %v", damage, err)
	}
}
