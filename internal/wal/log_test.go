package wal_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/wal"
)

// collect opens the log of a directory and returns what was in it.
func collect(t testing.TB, cfg wal.Config) (*wal.Log, wal.Recovery, []string) {
	t.Helper()
	var got []string
	take := func(payload []byte) error {
		got = append(got, string(payload))
		return nil
	}
	l, found, err := wal.Open(t.Context(), cfg, wal.Replay{Snapshot: take, Appended: take})
	if err != nil {
		t.Fatalf("Open() = %v", err)
	}
	t.Cleanup(func() { l.Close() })
	return l, found, got
}

func mustClose(t testing.TB, l *wal.Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatalf("Close() = %v", err)
	}
}

func appendAndWait(t testing.TB, l *wal.Log, payload string) {
	t.Helper()
	wait, err := l.Append([]byte(payload))
	if err == nil {
		err = wait(t.Context())
	}
	if err != nil {
		t.Fatalf("Append() = %v", err)
	}
}

// TestRoundTrip is on a real disk, in a directory that is not there yet.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	cfg := wal.Config{Dir: filepath.Join(t.TempDir(), "relay", "log"), SegmentBytes: 1 << 20}
	l, found, got := collect(t, cfg)
	if diff := cmp.Diff(wal.Recovery{Fresh: true}, found); diff != "" || len(got) != 0 {
		t.Errorf("Open() of nothing = %d payloads\n%s", len(got), diff)
	}
	want := []string{"", "a", strings.Repeat("b", 1<<21), "\x00\x00", "the last one"}
	for _, p := range want[:2] {
		appendAndWait(t, l, p)
	}
	for _, p := range want[2:] {
		if _, err := l.Append([]byte(p)); err != nil {
			t.Fatalf("Append() = %v", err)
		}
	}
	mustClose(t, l) // It writes what nobody waited for.

	l, found, got = collect(t, cfg)
	if !slices.Equal(got, want) {
		t.Errorf("Open() = %.100q, want %.100q", got, want)
	}
	if found.Fresh || found.Payloads != 5 || found.CutOff != nil || found.Failure != nil || found.Bytes < 1<<21 {
		t.Errorf("Recovery = %+v", found)
	}
	for i := range 100 {
		want = append(want, strings.Repeat(strconv.Itoa(i), 30000))
		appendAndWait(t, l, want[len(want)-1])
	}
	mustClose(t, l)
	if _, _, got = collect(t, cfg); !slices.Equal(got, want) {
		t.Errorf("Open() = %d payloads, want %d", len(got), len(want))
	}
	files, err := filepath.Glob(filepath.Join(cfg.Dir, "*.log"))
	if err != nil || len(files) < 5 {
		t.Errorf("6 MiB are in segments %v, %v", files, err)
	}
}

// TestRestartsLeaveNoFiles opens and closes a log that nobody uses.
func TestRestartsLeaveNoFiles(t *testing.T) {
	t.Parallel()
	cfg := wal.Config{Dir: t.TempDir()}
	for range 20 {
		l, _, _ := collect(t, cfg)
		mustClose(t, l)
	}
	files, err := os.ReadDir(cfg.Dir)
	if err != nil || len(files) > 3 {
		t.Errorf("after 20 restarts there are files %v, %v", files, err)
	}
}

// TestConcurrentAppends checks that every payload is there once, that those of each goroutine are in its order, and that
// snapshots in between lose nothing.
func TestConcurrentAppends(t *testing.T) {
	t.Parallel()
	cfg := wal.Config{Dir: t.TempDir(), SegmentBytes: 1 << 16}
	l, _, _ := collect(t, cfg)
	const appenders, each = 16, 200
	var (
		mu    sync.Mutex // as a store's
		state []string
		done  sync.WaitGroup
	)
	for a := range appenders {
		done.Go(func() {
			for i := range each {
				p := fmt.Sprintf("%d %d", a, i)
				mu.Lock()
				wait, err := l.Append([]byte(p))
				state = append(state, p)
				mu.Unlock()
				if err != nil {
					t.Errorf("Append() = %v", err)
					return
				}
				if i%7 == 0 {
					continue
				}
				if err := wait(t.Context()); err != nil {
					t.Errorf("wait() = %v", err)
				}
			}
		})
	}
	for range 10 {
		mu.Lock()
		s, err := l.Rotate()
		copied := slices.Clone(state)
		mu.Unlock()
		if err != nil {
			t.Fatalf("Rotate() = %v", err)
		}
		for _, p := range copied {
			if err := s.Add([]byte(p)); err != nil {
				t.Fatalf("Add() = %v", err)
			}
		}
		if err := s.Commit(t.Context()); err != nil {
			t.Fatalf("Commit() = %v", err)
		}
	}
	done.Wait()
	mustClose(t, l)
	if _, _, got := collect(t, cfg); !slices.Equal(got, state) {
		t.Errorf("Open() = %d payloads, want the %d that were appended, in their order", len(got), len(state))
	}
}

// TestGroupCommit counts syncs: what is appended while one is under way shares the next.
func TestGroupCommit(t *testing.T) {
	t.Parallel()
	fsys := newMemFS()
	l, _, _ := collect(t, wal.Config{Dir: testDir, FS: fsys})
	enter, leave := make(chan struct{}), make(chan struct{})
	fsys.setFault(func(_ int, operation, _ string) error {
		if operation == "sync" {
			enter <- struct{}{}
			<-leave
		}
		return nil
	})
	first, err := l.Append([]byte("first"))
	if err != nil {
		t.Fatal(err)
	}
	<-enter
	var waits []func(context.Context) error
	for i := range 1000 {
		wait, err := l.Append([]byte(strconv.Itoa(i))) // It does not wait, although the disk does.
		if err != nil {
			t.Fatal(err)
		}
		waits = append(waits, wait)
	}
	ended, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	if err := waits[0](ended); err == nil || !strings.Contains(err.Error(), "enough") || errors.Is(err, wal.ErrInDoubt) {
		t.Errorf("wait() = %v, want the end of its context", err)
	}
	leave <- struct{}{}
	if err := first(t.Context()); err != nil {
		t.Errorf("wait() = %v", err)
	}
	<-enter
	leave <- struct{}{}
	for range 2 { // It may be called again.
		for _, wait := range waits {
			if err := wait(t.Context()); err != nil {
				t.Errorf("wait() = %v", err)
			}
		}
	}
	if got := l.Status(); got.Batches != 2 || got.Payloads != 1001 || got.QueuedBytes != 0 {
		t.Errorf("Status() = %+v, want 1001 payloads in 2 batches", got)
	}
	fsys.setFault(nil)
}

// TestLimits refuses what is too much, and nothing else.
func TestLimits(t *testing.T) {
	t.Parallel()
	fsys := newMemFS()
	l, _, _ := collect(t, wal.Config{Dir: testDir, FS: fsys, MaxPayloadBytes: 100, MaxQueuedBytes: 50})
	if _, err := l.Append(make([]byte, 101)); !errors.Is(err, wal.ErrTooLarge) {
		t.Errorf("Append() = %v, want ErrTooLarge", err)
	}
	appendAndWait(t, l, strings.Repeat("x", 100)) // above the bound of the queue, but nothing else waits
	enter, leave := make(chan struct{}, 9), make(chan struct{})
	fsys.setFault(func(_ int, operation, _ string) error {
		if operation == "sync" {
			enter <- struct{}{}
			<-leave
		}
		return nil
	})
	wait, err := l.Append(make([]byte, 40))
	if err != nil {
		t.Fatal(err)
	}
	<-enter
	if _, err := l.Append(make([]byte, 10)); !errors.Is(err, wal.ErrQueueFull) {
		t.Errorf("Append() = %v, want ErrQueueFull", err)
	}
	if _, err := l.Append(nil); err != nil {
		t.Errorf("Append() = %v for what has room", err)
	}
	close(leave)
	fsys.setFault(nil)
	if err := wait(t.Context()); err != nil {
		t.Errorf("wait() = %v", err)
	}
	appendAndWait(t, l, "again there is room")
}

// TestClosed checks that a closed log says so.
func TestClosed(t *testing.T) {
	t.Parallel()
	l, _, _ := collect(t, wal.Config{Dir: testDir, FS: newMemFS(), SnapshotFloorBytes: 1})
	s, err := l.Rotate()
	if err != nil {
		t.Fatal(err)
	}
	mustClose(t, l)
	mustClose(t, l)
	if _, err := l.Append(nil); !errors.Is(err, wal.ErrClosed) {
		t.Errorf("Append() = %v, want ErrClosed", err)
	}
	if _, err := l.Rotate(); !errors.Is(err, wal.ErrClosed) {
		t.Errorf("Rotate() = %v, want ErrClosed", err)
	}
	if err := s.Add(nil); err == nil {
		t.Error("Add() = nil after Close")
	}
	if err := s.Commit(t.Context()); err == nil {
		t.Error("Commit() = nil after Close")
	}
	s.Abort()
	if l.ShouldSnapshot(0) {
		t.Error("ShouldSnapshot() = true after Close")
	}
}

// TestShouldSnapshot is the policy: above the floor, and above twice what is alive.
func TestShouldSnapshot(t *testing.T) {
	t.Parallel()
	fsys := newMemFS()
	l, _, _ := collect(t, wal.Config{Dir: testDir, FS: fsys, SnapshotFloorBytes: 1 << 20})
	for _, step := range []struct {
		appended, live int
		want           bool
	}{
		{0, 0, false},
		{700 << 10, 0, false},
		{400 << 10, 0, true},
		{0, 500 << 10, true},
		{0, 600 << 10, false},
		{200 << 10, 600 << 10, true},
	} {
		appendAndWait(t, l, strings.Repeat("x", step.appended))
		if got := l.ShouldSnapshot(int64(step.live)); got != step.want {
			t.Errorf("ShouldSnapshot(%d) = %v at %d bytes", step.live, got, l.Status().LogBytes)
		}
	}
	s, err := l.Rotate()
	if err != nil {
		t.Fatal(err)
	}
	if l.ShouldSnapshot(0) {
		t.Error("ShouldSnapshot() = true while a snapshot is running")
	}
	if err := s.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if l.ShouldSnapshot(0) {
		t.Error("ShouldSnapshot() = true after a snapshot")
	}
}

// TestLock checks that a log has one owner, and that the second learns who that is.
func TestLock(t *testing.T) {
	t.Parallel()
	cfg := wal.Config{Dir: t.TempDir()}
	l, _, _ := collect(t, cfg)
	_, _, err := wal.Open(t.Context(), cfg, wal.Replay{})
	locked, ok := errors.AsType[*wal.LockedError](err)
	if !ok || locked.PID != os.Getpid() || locked.Path != filepath.Join(cfg.Dir, "lock") {
		t.Errorf("Open() = %v, want a LockedError of process %d", err, os.Getpid())
	}
	if _, err := wal.Repair(t.Context(), cfg, nil); err == nil || !strings.Contains(err.Error(), "locked by process "+strconv.Itoa(os.Getpid())) {
		t.Errorf("Repair() = %v, want that it is locked", err)
	}
	mustClose(t, l)
	l, _, _ = collect(t, cfg)
	mustClose(t, l)
}

// noLocks is a file system without them.
type noLocks struct{ *memFS }

func (noLocks) Lock(path string) (io.Closer, error) {
	return nil, fmt.Errorf("locking %q: %w", path, wal.ErrNoLocks)
}

// TestNoLock refuses a file system without locks, unless it was asked for.
func TestNoLock(t *testing.T) {
	t.Parallel()
	cfg := wal.Config{Dir: testDir, FS: noLocks{newMemFS()}}
	if _, _, err := wal.Open(t.Context(), cfg, wal.Replay{}); !errors.Is(err, wal.ErrNoLocks) {
		t.Errorf("Open() = %v, want ErrNoLocks", err)
	}
	cfg.NoLock = true
	l, _, _ := collect(t, cfg)
	appendAndWait(t, l, "x")
	mustClose(t, l)
}

// TestReplayRefuses hands on the error of who takes the payloads, with the place of the payload.
func TestReplayRefuses(t *testing.T) {
	t.Parallel()
	fsys, _ := smallLog(t, true)
	cfg := wal.Config{Dir: testDir, FS: fsys}
	refusal := errors.New("what is this")
	refuse := func([]byte) error { return refusal }
	before := fsys.files()
	for name, replay := range map[string]wal.Replay{"snapshot": {Snapshot: refuse}, "appended": {Appended: refuse}} {
		_, _, err := wal.Open(t.Context(), cfg, replay)
		if !errors.Is(err, refusal) || !strings.Contains(err.Error(), "offset 48") {
			t.Errorf("%s: Open() = %v, want the refusal and where", name, err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := wal.Open(ended, cfg, wal.Replay{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Open() = %v, want that its context has ended", err)
	}
	if diff := cmp.Diff(before, fsys.files()); diff != "" {
		t.Errorf("files have changed:\n%s", diff)
	}
}
