package wal_test

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"

	"pushrelay/internal/wal"
)

// TestResume walks through a failure that ends without a snapshot (S20): what was in doubt, and what was noted meanwhile, is
// durable once the log is taken up, in order, and whoever asks again is told.
func TestResume(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"write", "sync"} { // nothing of the batch is in the file, or all of it
		fsys := newMemFS()
		o := mustOpen(t, testConfig(fsys))
		o.append(2)
		fsys.setFault(failing(kind))
		wait, err := o.log.Append([]byte("in doubt"))
		if err != nil {
			t.Fatal(err)
		}
		o.state = append(o.state, "in doubt")
		if err := wait(t.Context()); !errors.Is(err, wal.ErrInDoubt) {
			t.Errorf("%s: wait() = %v, want ErrInDoubt", kind, err)
		}
		if o.note() {
			t.Errorf("%s: a note is durable on a disk that fails", kind)
		}
		if err := o.resume(); !errors.Is(err, errDisk) {
			t.Errorf("%s: Resume() = %v while the disk fails, want its cause", kind, err)
		}
		if _, err := o.log.Append(nil); !errors.Is(err, wal.ErrUnwritable) {
			t.Errorf("%s: Append() = %v, want ErrUnwritable", kind, err)
		}
		fsys.setFault(nil)
		if err := o.resume(); err != nil {
			t.Fatalf("%s: Resume() = %v", kind, err)
		}
		if err := wait(t.Context()); err != nil {
			t.Errorf("%s: wait() = %v for what was in doubt, want nil", kind, err)
		}
		if o.log.Status().Failure != nil || !o.append(3) || !o.note() {
			t.Errorf("%s: the log does not go on", kind)
		}
		if err := o.resume(); err != nil {
			t.Errorf("%s: Resume() = %v for a log that can be written", kind, err)
		}
		o = o.reopen(t, fsys.crash(seeded(1)))
		if err := o.log.Close(); err != nil {
			t.Errorf("%s: Close() = %v", kind, err)
		}
	}
}

// TestResumeNeedsRoomForTheLogOnly: a snapshot does not fit, and a segment is not filled ahead.
func TestResumeNeedsRoomForTheLogOnly(t *testing.T) {
	t.Parallel()
	fsys := newMemFS()
	o := mustOpen(t, testConfig(fsys))
	o.append(20)
	fsys.setFault(failing("write"))
	o.append(1)
	written := 0
	fsys.setFault(func(_ int, operation, path string) error {
		if operation == "create" && strings.HasSuffix(path, ".snapshot.tmp") {
			return syscall.ENOSPC
		}
		if operation == "write" && strings.HasSuffix(path, ".log.tmp") {
			written++
		}
		return nil
	})
	if err := o.snapshot(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a snapshot: %v, want that there is no space", err)
	}
	written = 0
	if err := o.resume(); err != nil || written != 1 || !o.append(2) {
		t.Errorf("Resume() = %v, and %d writes made its segment, want that of the header", err, written)
	}
	o = o.reopen(t, fsys.crash(seeded(1)))
	o.log.Close()
}

// TestFilledAheadAgain: what follows the segment that was not filled ahead is.
func TestFilledAheadAgain(t *testing.T) {
	t.Parallel()
	fsys := newMemFS()
	cfg := testConfig(fsys)
	cfg.SegmentBytes = 64 << 20
	o := mustOpen(t, cfg)
	fsys.setFault(failing("write"))
	o.append(1)
	fsys.setFault(nil)
	if err := o.resume(); err != nil {
		t.Fatal(err)
	}
	written := 0
	fsys.setFault(func(_ int, operation, path string) error {
		if operation == "write" && strings.HasSuffix(path, ".log.tmp") {
			written++
		}
		return nil
	})
	for range 2 {
		wait, err := o.log.Append(make([]byte, 1<<20))
		if err != nil {
			t.Fatal(err)
		}
		if err := wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if written < 2 {
		t.Errorf("%d writes made the next segment, want that of its header and those ahead", written)
	}
	o.log.Close()
}

// TestResumeInAnyRoom: nothing that a snapshot or the log does with the room that there is keeps the log from being taken up.
func TestResumeInAnyRoom(t *testing.T) {
	t.Parallel()
	const least = 16 // pages: of a segment's header, a manifest, and what is in doubt
	for room := least; room < 160; room++ {
		for _, snapshots := range []bool{true, false} {
			fsys := newMemFS()
			o := mustOpen(t, testConfig(fsys))
			o.append(40)
			fsys.setFree(1)
			for o.append(1) {
			}
			for _, more := range []int{0, room} {
				fsys.grow(more)
				if snapshots {
					o.snapshot()
				}
				o.resume()
			}
			if err := o.resume(); err != nil {
				t.Errorf("with %d pages (snapshots are tried before: %t): Resume() = %v%s", room, snapshots, err, listing(fsys))
			}
			o = o.reopen(t, fsys.crash(seeded(uint64(room))))
			o.log.Close()
		}
	}
}

// TestResumeAndSnapshots: what a snapshot has is not written again, what was noted after it is, and the two do not overlap.
func TestResumeAndSnapshots(t *testing.T) {
	t.Parallel()
	fsys := newMemFS()
	o := mustOpen(t, testConfig(fsys))
	o.append(2)
	fsys.setFault(failing("sync"))
	o.append(1)
	o.note()
	fsys.setFault(nil)
	s, err := o.log.Rotate()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range o.state {
		if err := s.Add([]byte(p)); err != nil {
			t.Fatal(err)
		}
	}
	if o.note() {
		t.Error("a note is durable before the snapshot")
	}
	if err := o.log.Resume(t.Context()); !errors.Is(err, wal.ErrSnapshotRunning) {
		t.Errorf("Resume() = %v while a snapshot is written, want ErrSnapshotRunning", err)
	}
	if err := s.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !o.append(1) {
		t.Error("the log does not go on after the snapshot")
	}
	o = o.reopen(t, fsys.crash(seeded(1)))
	o.log.Close()
}

// TestTooMuchInDoubt: what was noted and did not fit is in a snapshot only.
func TestTooMuchInDoubt(t *testing.T) {
	t.Parallel()
	fsys := newMemFS()
	cfg := testConfig(fsys)
	cfg.MaxQueuedBytes = 1000
	o := mustOpen(t, cfg)
	fsys.setFault(failing("write"))
	o.append(1)
	var err error
	for range 1000 {
		p := o.payload()
		_, err = o.log.Note([]byte(p))
		o.state = append(o.state, p) // It has happened, whether it is noted or not.
		if err != nil {
			break
		}
	}
	fsys.setFault(nil)
	if !errors.Is(err, wal.ErrQueueFull) {
		t.Fatalf("Note() = %v, want ErrQueueFull", err)
	}
	if err := o.log.Resume(t.Context()); !errors.Is(err, wal.ErrIncomplete) {
		t.Errorf("Resume() = %v, want ErrIncomplete", err)
	}
	if err := o.snapshot(); err != nil || !o.append(1) {
		t.Errorf("a snapshot: %v; Status() = %+v", err, o.log.Status())
	}
	o = o.reopen(t, fsys.crash(seeded(1)))
	o.log.Close()
}

// TestDiskThatComesAndGoes lets operations fail at random while an owner does what owners do, takes up the log again and again,
// and is killed or loses its power in the end: everything that was acknowledged is there, in order and once.
func TestDiskThatComesAndGoes(t *testing.T) {
	t.Parallel()
	rounds := 750
	if testing.Short() {
		rounds = 200
	}
	resumed := 0
	for seed := range rounds {
		random := seeded(uint64(seed))
		fsys := newMemFS()
		o := mustOpen(t, testConfig(fsys))
		for range 3 {
			cut, chance := 1+random.IntN(120), 1+random.IntN(12)
			fsys.setFault(func(call int, operation, _ string) error {
				switch {
				case call >= cut:
					return errPower
				case random.IntN(chance) == 0 && operation == "write":
					return errShort
				case random.IntN(chance) == 0:
					return syscall.EIO
				}
				return nil
			})
			for range 30 {
				switch random.IntN(8) {
				case 0:
					o.snapshot()
				case 1:
					o.note()
				case 2, 3:
					failed := o.log.Status().Failure != nil
					if o.resume() == nil && failed {
						resumed++
					}
				default:
					o.append(1 + random.IntN(4))
				}
			}
			fsys = fsys.end(random)
			o = o.reopen(t, fsys)
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
		o.log.Close()
	}
	if resumed < rounds/6 {
		t.Errorf("the log was taken up %d times only", resumed)
	}
}

// TestResumeAtTheEnd: closing a log that is being taken up waits for that, and what is closed is not taken up.
func TestResumeAtTheEnd(t *testing.T) {
	t.Parallel()
	fsys := newMemFS()
	o := mustOpen(t, testConfig(fsys))
	fsys.setFault(failing("write"))
	o.append(1)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	fsys.setFault(nil)
	if err := o.log.Resume(ended); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("Resume() = %v with a context that has ended", err)
	}
	if err := o.log.Close(); err != nil {
		t.Errorf("Close() = %v", err)
	}
	if err := o.log.Resume(t.Context()); !errors.Is(err, wal.ErrClosed) {
		t.Errorf("Resume() = %v after Close, want ErrClosed", err)
	}
	o.acked = len(o.state)
	o.reopen(t, fsys.crash(seeded(1))).log.Close()
}
