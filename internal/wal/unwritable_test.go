package wal_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pushrelay/internal/wal"
)

var errDisk = errors.New("the disk is gone")

// failing is a fault of all operations of a kind.
func failing(kind string) func(int, string, string) error {
	return func(_ int, operation, _ string) error {
		if operation == kind {
			return errDisk
		}
		return nil
	}
}

// TestUnwritable walks through a failure (S20): what waits is in doubt, what comes is refused, and a snapshot that is begun
// after it ends it.
func TestUnwritable(t *testing.T) {
	t.Parallel()
	fsys := newMemFS()
	o := mustOpen(t, testConfig(fsys))
	o.append(2)
	early, err := o.log.Rotate() // It will know too little.
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range o.state {
		if err := early.Add([]byte(p)); err != nil {
			t.Fatal(err)
		}
	}
	o.append(1) // The rotation is behind us.
	fsys.setFault(failing("write"))
	wait, err := o.log.Append([]byte("in doubt"))
	if err != nil {
		t.Fatal(err)
	}
	if err := wait(t.Context()); !errors.Is(err, wal.ErrInDoubt) || !errors.Is(err, errDisk) {
		t.Errorf("wait() = %v, want ErrInDoubt with its cause", err)
	}
	o.state = append(o.state, "in doubt")
	fsys.setFault(nil)
	if _, err := o.log.Append(nil); !errors.Is(err, wal.ErrUnwritable) || !errors.Is(err, errDisk) || errors.Is(err, wal.ErrInDoubt) {
		t.Errorf("Append() = %v, want ErrUnwritable with its cause", err)
	}
	if err := o.log.Status().Failure; !errors.Is(err, wal.ErrUnwritable) || !errors.Is(err, errDisk) {
		t.Errorf("Status().Failure = %v, want ErrUnwritable with its cause", err)
	}
	if err := early.Commit(t.Context()); err != nil {
		t.Errorf("Commit() = %v for a snapshot that was begun before", err)
	}
	if _, err := o.log.Append(nil); !errors.Is(err, wal.ErrUnwritable) {
		t.Errorf("Append() = %v after a snapshot that was begun before the failure, want ErrUnwritable", err)
	}
	if !o.log.ShouldSnapshot(1 << 40) {
		t.Error("ShouldSnapshot() = false, although only a snapshot helps")
	}
	if err := o.snapshot(); err != nil {
		t.Fatal(err)
	}
	if o.log.Status().Failure != nil || !o.append(1) {
		t.Error("the log does not go on after a snapshot")
	}
	o = o.reopen(t, fsys.crash(seeded(1)))
	if err := o.log.Close(); err != nil {
		t.Errorf("Close() = %v", err)
	}
}

// TestInDoubt checks that what waits behind a batch that fails is in doubt as well, and that a snapshot that waits there
// cannot be committed.
func TestInDoubt(t *testing.T) {
	t.Parallel()
	fsys := newMemFS()
	l, _, _ := collect(t, wal.Config{Dir: testDir, FS: fsys})
	enter, leave := make(chan struct{}, 9), make(chan struct{})
	fsys.setFault(func(_ int, operation, _ string) error {
		if operation != "sync" {
			return nil
		}
		enter <- struct{}{}
		<-leave
		return errDisk
	})
	var waits []func(context.Context) error
	add := func() {
		wait, err := l.Append([]byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		waits = append(waits, wait)
	}
	add()
	<-enter
	add()
	s, err := l.Rotate()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Abort()
	add()
	close(leave)
	for i, wait := range waits {
		if err := wait(t.Context()); !errors.Is(err, wal.ErrInDoubt) {
			t.Errorf("wait() = %v for payload %d, want ErrInDoubt", err, i)
		}
	}
	if got := l.Status(); got.QueuedBytes != 0 || got.Batches != 0 {
		t.Errorf("Status() = %+v", got)
	}
	fsys.setFault(nil)
	if err := s.Commit(t.Context()); !errors.Is(err, wal.ErrUnwritable) {
		t.Errorf("Commit() = %v for a snapshot that waited behind the failure, want ErrUnwritable", err)
	}
	if err := l.Close(); !errors.Is(err, wal.ErrUnwritable) {
		t.Errorf("Close() = %v, want ErrUnwritable", err)
	}
}

// TestSnapshotAfterFailureIsLost loses the only place where changes are whose write had failed. What was acknowledged
// later was built upon them, so that an older snapshot and the log are not the whole truth, although no number is missing;
// a repair keeps what was acknowledged all the same.
func TestSnapshotAfterFailureIsLost(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"write", "sync"} { // nothing of the batch is in the file, or all of it
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			fsys := newMemFS()
			cfg := testConfig(fsys)
			o := mustOpen(t, cfg)
			o.append(2)
			if err := o.snapshot(); err != nil {
				t.Fatal(err)
			}
			o.append(2)
			acknowledged := slices.Clone(o.state)
			fsys.setFault(failing(kind))
			o.append(1)
			fsys.setFault(nil)
			older := fsys.clone()
			if err := o.snapshot(); err != nil {
				t.Fatal(err)
			}
			o.append(1)
			o.append(1)
			acknowledged = append(acknowledged, o.state[len(o.state)-2:]...)
			o.log.Close()
			damaged := filepath.Join(testDir, snapshotOf(fsys))
			content := []byte(fsys.files()[filepath.Base(damaged)])
			content[headerBytes] ^= 1
			fsys.put(damaged, content)
			for name, content := range older.files() {
				if name != filepath.Base(damaged) && strings.Contains(name, ".") {
					fsys.put(filepath.Join(testDir, name), []byte(content))
				}
			}
			if _, err := open(t, cfg); !isDamage(err) {
				t.Fatalf("Open() = %v, want a DamagedError", err)
			}
			if _, err := wal.Repair(t.Context(), cfg, nil); err != nil {
				t.Fatal(err)
			}
			o = mustOpen(t, cfg)
			if !isSubsequence(acknowledged, o.state) {
				t.Errorf("after a repair there are %.30q, want at least %.30q", o.state, acknowledged)
			}
			checkGoesOn(t, o)
		})
	}
}

// TestFullDisk starts on a disk that cannot be written: what is there is read, and service resumes with the first snapshot.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	fsys := newMemFS()
	o := mustOpen(t, testConfig(fsys))
	o.append(3)
	fsys = fsys.restart()
	for _, kind := range []string{"create", "write"} {
		fsys.setFault(failing(kind))
		o = o.reopen(t, fsys)
		if !errors.Is(o.found.Failure, wal.ErrUnwritable) || !errors.Is(o.found.Failure, errDisk) {
			t.Errorf("Recovery.Failure = %v, want ErrUnwritable with its cause", o.found.Failure)
		}
		if o.append(1) {
			t.Error("a payload was acknowledged")
		}
		if err := o.snapshot(); !errors.Is(err, errDisk) {
			t.Errorf("Commit() = %v, want its cause", err)
		}
	}
	fsys.setFault(nil)
	if err := o.snapshot(); err != nil || !o.append(1) {
		t.Errorf("Commit() = %v; Status() = %+v", err, o.log.Status())
	}
	o = o.reopen(t, fsys.crash(seeded(1)))
	o.log.Close()

	fresh := newMemFS()
	fresh.setFault(failing("create"))
	if _, err := open(t, testConfig(fresh)); !errors.Is(err, errDisk) {
		t.Errorf("Open() = %v for a new log, want its cause", err)
	}
}
