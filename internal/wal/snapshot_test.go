package wal_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/wal"
)

// TestSnapshotReplacesTheLog checks what is left after one, and that it has the order in which payloads were added.
func TestSnapshotReplacesTheLog(t *testing.T) {
	t.Parallel()
	fsys := newMemFS()
	cfg := testConfig(fsys)
	l, _, _ := collect(t, cfg)
	for range 50 {
		appendAndWait(t, l, strings.Repeat("old", 100))
	}
	s, err := l.Rotate()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Rotate(); !errors.Is(err, wal.ErrSnapshotRunning) {
		t.Errorf("Rotate() = %v while another snapshot is running, want ErrSnapshotRunning", err)
	}
	appendAndWait(t, l, "after the line") // Nothing waits for the snapshot.
	var want []string
	for _, p := range []string{"", "b", "a", strings.Repeat("x", 1<<20)} {
		want = append(want, p)
		if err := s.Add([]byte(p)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(t.Context()); err == nil {
		t.Error("Commit() = nil, a second time")
	}
	s.Abort()
	if got := l.Status(); got.Segments != 1 || got.LogBytes > 200 || got.SnapshotBytes < 1<<20 || got.Leftover != nil {
		t.Errorf("Status() = %+v", got)
	}
	mustClose(t, l)
	if got := len(segments(fsys)); got != 1 {
		t.Errorf("%d segments are left, want 1", got)
	}
	_, found, got := collect(t, cfg)
	if want := append(want, "after the line"); !slices.Equal(got, want) {
		t.Errorf("Open() = %.100q, want %.100q", got, want)
	}
	if filepath.Base(found.Snapshot) != snapshotOf(fsys) || found.SnapshotPayloads != 4 || found.Payloads != 1 || found.Batches != 1 {
		t.Errorf("Recovery = %+v", found)
	}
}

// TestFailedSnapshot lets every operation of a snapshot fail: everything is as it was, appends go on, the next one works.
func TestFailedSnapshot(t *testing.T) {
	t.Parallel()
	total := 1
	for at := 0; at <= total; at++ { // 0 fails nothing
		fsys := newMemFS()
		o := mustOpen(t, testConfig(fsys))
		for range 8 {
			o.append(2)
		}
		fsys.setFault(func(call int, _, _ string) error {
			if call == at {
				return syscall.ENOSPC
			}
			return nil
		})
		before := segments(fsys)
		err := o.snapshot()
		if at == 0 {
			if total = fsys.calls; total < 12 || err != nil {
				t.Fatalf("a snapshot takes %d operations, which is too little to be one: %v", total, err)
			}
		}
		fsys.setFault(nil)
		if err != nil && !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("operation %d: Commit() = %v, want its cause", at, err)
		}
		if err != nil && !isSubsequence(before, segments(fsys)) {
			t.Errorf("operation %d: segments %v became %v after a snapshot that failed", at, before, segments(fsys))
		}
		for name := range fsys.files() {
			if strings.HasSuffix(name, ".tmp") {
				t.Errorf("operation %d: %q is left", at, name)
			}
		}
		if !o.append(3) {
			t.Errorf("operation %d: no append after a snapshot that failed: %v", at, o.log.Status().Failure)
		}
		fsys = fsys.crash(seeded(uint64(at)))
		o = o.reopen(t, fsys)
		if err := o.snapshot(); err != nil || o.log.Status().Leftover != nil {
			t.Errorf("operation %d: the next snapshot: %v; %+v", at, err, o.log.Status())
		}
		if got := len(segments(fsys)); got != 1 {
			t.Errorf("operation %d: %d segments are left after the next snapshot", at, got)
		}
		o.log.Close()
	}
}

// TestAbortedSnapshot leaves no trace.
func TestAbortedSnapshot(t *testing.T) {
	t.Parallel()
	fsys := newMemFS()
	o := mustOpen(t, testConfig(fsys))
	o.append(3)
	s, err := o.log.Rotate()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Add(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := s.Add(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	s.Abort()
	if err := s.Commit(t.Context()); err == nil {
		t.Error("Commit() = nil after Abort")
	}
	o.append(1) // the segment that the snapshot would have continued is there by then
	for name := range fsys.files() {
		if strings.HasSuffix(name, ".tmp") || strings.HasSuffix(name, ".snapshot") {
			t.Errorf("%q is left", name)
		}
	}
	o = o.reopen(t, fsys.restart())
	o.log.Close()
}

// TestOlderSnapshot falls back to one if the log from it on is whole, as after a crash between the rename of the newer one
// and the removal of what it replaces; else the damage is an error.
func TestOlderSnapshot(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		older, segments, wantOpen bool // what is there besides the damaged snapshot and what follows it
	}{
		"all is there":                  {older: true, segments: true, wantOpen: true},
		"the log alone is not complete": {segments: true},
		"the older one has a gap":       {older: true},
		"nothing is there":              {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fsys := newMemFS()
			cfg := testConfig(fsys)
			o := mustOpen(t, cfg)
			o.append(5)
			if err := o.snapshot(); err != nil {
				t.Fatal(err)
			}
			for range 5 {
				o.append(4)
			}
			older := fsys.clone()
			if err := o.snapshot(); err != nil {
				t.Fatal(err)
			}
			o.append(2)
			o.log.Close()

			damaged := filepath.Join(testDir, snapshotOf(fsys))
			content := []byte(fsys.files()[filepath.Base(damaged)])
			content[len(content)/2] ^= 4
			fsys.put(damaged, content)
			for name, content := range older.files() {
				isOlder := strings.HasSuffix(name, ".snapshot") && test.older
				if isOlder || strings.HasSuffix(name, ".log") && test.segments {
					fsys.put(filepath.Join(testDir, name), []byte(content))
				}
			}
			before := fsys.files()
			successor, err := open(t, cfg)
			if !test.wantOpen {
				if wrong, ok := errors.AsType[*wal.DamagedError](err); !ok || wrong.File != damaged {
					t.Errorf("Open() = %v, want the damage of %q", err, damaged)
				}
				if diff := cmp.Diff(before, fsys.files()); diff != "" {
					t.Errorf("files have changed:\n%s", diff)
				}
				return
			}
			if err != nil || !slices.Equal(successor.state, o.state) {
				t.Fatalf("Open() = %d payloads, %v, want %d", len(successor.state), err, len(o.state))
			}
			if diff := cmp.Diff([]string{damaged + ".damaged"}, successor.found.SetAside); diff != "" {
				t.Errorf("Recovery.SetAside:\n%s", diff)
			}
			if fsys.files()[filepath.Base(damaged)+".damaged"] != string(content) {
				t.Error("the damaged snapshot is not there as it was")
			}
			successor = successor.reopen(t, fsys.restart())
			successor.log.Close()
		})
	}
}

// TestShortSnapshot takes none for whole that ends early, even at the end of a batch.
func TestShortSnapshot(t *testing.T) {
	t.Parallel()
	fsys := newMemFS()
	path := filepath.Join(testDir, "backup")
	s, err := wal.CreateSnapshot(fsys, path)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := s.Add([]byte(strings.Repeat("x", 200<<10))); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	read := func() (int, error) {
		n := 0
		err := wal.ReadSnapshot(t.Context(), fsys, path, func([]byte) error { n++; return nil })
		return n, err
	}
	if n, err := read(); n != 3 || err != nil {
		t.Errorf("ReadSnapshot() = %d payloads, %v, want 3", n, err)
	}
	content := fsys.files()["backup"]
	for _, b := range batches(content) {
		for name, cut := range map[string]string{"end": content[:b.begin], "hole": content[:b.begin] + content[b.end:]} {
			fsys.put(path, []byte(cut))
			if _, err := read(); !isDamage(err) {
				t.Errorf("%s at %d: ReadSnapshot() = %v, want a DamagedError", name, b.begin, err)
			}
		}
	}
	fsys.put(path, []byte(content+"more"))
	if _, err := read(); !isDamage(err) {
		t.Errorf("ReadSnapshot() = %v with bytes behind the end, want a DamagedError", err)
	}
}

func isDamage(err error) bool {
	_, ok := errors.AsType[*wal.DamagedError](err)
	return ok
}

// TestCreateSnapshot is a snapshot on its own, on a real disk: it is not there before it is whole, and carries a log
// elsewhere.
func TestCreateSnapshot(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "backup")
	for range 2 { // the second replaces the first
		s, err := wal.CreateSnapshot(nil, path)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Add([]byte("a")); err != nil {
			t.Fatal(err)
		}
		if err := s.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	s, err := wal.CreateSnapshot(nil, path)
	if err != nil {
		t.Fatal(err)
	}
	s.Abort()
	var got []string
	err = wal.ReadSnapshot(t.Context(), nil, path, func(p []byte) error {
		got = append(got, string(p))
		return nil
	})
	if diff := cmp.Diff([]string{"a"}, got); err != nil || diff != "" {
		t.Errorf("ReadSnapshot() = %v\n%s", err, diff)
	}
	if files, err := filepath.Glob(path + "*"); err != nil || len(files) != 1 {
		t.Errorf("files %v, %v are left, want the snapshot", files, err)
	}
}

// TestCommitEndsWithContext does not wait for a disk that hangs longer than it is told to.
func TestCommitEndsWithContext(t *testing.T) {
	t.Parallel()
	fsys := newMemFS()
	l, _, _ := collect(t, wal.Config{Dir: testDir, FS: fsys})
	enter, leave := make(chan struct{}, 9), make(chan struct{})
	fsys.setFault(func(_ int, operation, _ string) error {
		if operation == "sync" {
			enter <- struct{}{}
			<-leave
		}
		return nil
	})
	if _, err := l.Append([]byte("x")); err != nil {
		t.Fatal(err)
	}
	<-enter
	s, err := l.Rotate()
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Commit(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("Commit() = %v, want that its context has ended", err)
	}
	close(leave)
	if _, err := l.Rotate(); err != nil {
		t.Errorf("Rotate() = %v after a snapshot that has ended", err)
	}
}

// TestStreamedSnapshot: it is the content of a file that CreateSnapshot makes, and no part of it is taken for whole.
func TestStreamedSnapshot(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s, err := wal.StreamSnapshot(&out)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"a", "", strings.Repeat("x", 5<<20), "b"} // more than a sync of a file
	for _, p := range want {
		if err := s.Add([]byte(p)); err != nil {
			t.Fatal(err)
		}
	}
	read := func(text []byte) (got []string, err error) {
		file := filepath.Join(t.TempDir(), "snapshot")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		err = wal.ReadSnapshot(t.Context(), nil, file, func(p []byte) error {
			got = append(got, string(p))
			return nil
		})
		return got, err
	}
	if _, err := read(out.Bytes()); err == nil {
		t.Error("it is taken for whole before it is committed")
	}
	if err := s.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Abort()
	if got, err := read(out.Bytes()); err != nil || !slices.Equal(got, want) {
		t.Errorf("%d payloads, %v, want %d", len(got), err, len(want))
	}
	if _, err := read(out.Bytes()[:out.Len()-1]); err == nil {
		t.Error("it is taken for whole without its last byte")
	}
}
