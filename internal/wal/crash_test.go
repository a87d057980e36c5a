package wal_test

import (
	"errors"
	"math/rand/v2"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestPowerCut cuts the power or kills the process at random moments, also of a recovery, and looks at what the outcomes
// that the disk is free to choose from make of it: everything acknowledged is there, nothing else is, and nothing is called damage.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	rounds := 1000
	if testing.Short() {
		rounds = 200
	}
	for seed := range rounds {
		random := seeded(uint64(seed))
		fsys := newMemFS()
		o := mustOpen(t, testConfig(fsys))
		for range 4 {
			cut := 1 + random.IntN(60)
			fsys.setFault(func(call int, _, _ string) error {
				if call >= cut {
					return errPower
				}
				return nil
			})
			o.work(random, 15)
			fsys = fsys.end(random)
			o = recoverWithCuts(t, o, &fsys, random)
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
		o.log.Close()
	}
}

// end is a power cut or a kill.
func (m *memFS) end(random *rand.Rand) *memFS {
	if random.IntN(3) == 0 {
		return m.restart()
	}
	return m.crash(random)
}

// recoverWithCuts opens the log of a predecessor, sometimes after another end while it is opened.
func recoverWithCuts(t *testing.T, o *owner, fsys **memFS, random *rand.Rand) *owner {
	t.Helper()
	if random.IntN(2) == 0 {
		cut := 1 + random.IntN(12)
		(*fsys).setFault(func(call int, _, _ string) error {
			if call >= cut {
				return errPower
			}
			return nil
		})
		half := o.reopen(t, *fsys) // The log is not fresh, so that it is readable in any case.
		if (half.found.Failure != nil) != (half.log.Status().Failure != nil) {
			t.Errorf("Recovery.Failure = %v, Status().Failure = %v", half.found.Failure, half.log.Status().Failure)
		}
		*fsys = (*fsys).end(random)
		if half.found.Failure == nil {
			o = half // What it recovered is as good as acknowledged.
		}
		half.log.Close()
	}
	return o.reopen(t, *fsys)
}

// work does what owners do.
func (o *owner) work(random *rand.Rand, steps int) {
	for range steps {
		switch random.IntN(6) {
		case 0:
			o.snapshot()
		default:
			o.append(1 + random.IntN(4))
		}
	}
}

// TestFaults lets each single operation of a day's work fail, once or from then on, and checks that all that was
// acknowledged is there after a restart and after a power cut, and that service resumes by itself once the fault is gone.
func TestFaults(t *testing.T) {
	t.Parallel()
	faults := map[string]error{
		"error":       syscall.EIO,
		"no space":    syscall.ENOSPC,
		"short write": errShort,
	}
	total := day(t, func(int, string, string) error { return nil }, 0)
	if total < 60 {
		t.Fatalf("a day has %d operations, which is too little to be one", total)
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for at := 1; at <= total; at++ {
				day(t, func(call int, operation, _ string) error {
					if call != at || errors.Is(fault, errShort) && operation != "write" {
						return nil
					}
					return fault
				}, at)
				day(t, func(call int, operation, _ string) error {
					if call < at || errors.Is(fault, errShort) && operation != "write" {
						return nil
					}
					return fault
				}, at)
				if t.Failed() {
					t.Fatalf("operation %d of %d", at, total)
				}
			}
		})
	}
}

// day opens, fills and snapshots a log while operations fail, then goes on without faults: in the same process, in the
// next one, and after a power cut. It returns how many operations there were until the faults ended.
func day(t *testing.T, fault func(int, string, string) error, seed int) int {
	t.Helper()
	fsys := newMemFS()
	o := mustOpen(t, testConfig(fsys))
	o.append(2)
	fsys = fsys.restart()
	fsys.setFault(fault)
	o = o.reopen(t, fsys)
	for i := range 16 {
		if !o.append(1+i%3) || i == 8 {
			o.snapshot()
		}
	}
	fsys.mu.Lock()
	calls := fsys.calls
	fsys.mu.Unlock()
	fsys.setFault(nil)

	// The disk works again.
	if o.log.Status().Failure != nil {
		if !o.log.ShouldSnapshot(0) {
			t.Error("ShouldSnapshot() = false, although the log cannot be written")
		}
		o.note()
		if seed%2 == 0 {
			if err := o.snapshot(); err != nil {
				t.Errorf("a snapshot after the fault: %v", err)
			}
		} else if err := o.resume(); err != nil {
			t.Errorf("taking up the log after the fault: %v", err)
		}
	}
	if err := o.log.Status().Failure; err != nil {
		t.Errorf("Status().Failure = %v after the fault", err)
	}
	if !o.append(2) {
		t.Error("the log takes nothing after the fault")
	}

	fsys = fsys.restart()
	o = o.reopen(t, fsys)
	if !o.append(2) {
		t.Error("the log takes nothing after a restart")
	}
	fsys = fsys.crash(seeded(uint64(seed)))
	o = o.reopen(t, fsys)
	if err := o.log.Close(); err != nil {
		t.Errorf("Close() = %v", err)
	}
	return calls
}

// TestRestartWhileDiskFails is a restart before the fault was over: what the failed sync left in memory is read, and must
// not be built upon unless it is on the disk.
func TestRestartWhileDiskFails(t *testing.T) {
	t.Parallel()
	for seed := range 200 {
		t.Run(strconv.Itoa(seed), func(t *testing.T) {
			random := seeded(uint64(seed))
			fsys := newMemFS()
			o := mustOpen(t, testConfig(fsys))
			o.append(3)
			fsys.setFault(func(_ int, operation, _ string) error {
				if operation == "sync" {
					return syscall.EIO
				}
				return nil
			})
			if o.append(1) {
				t.Fatal("a payload was acknowledged without a sync")
			}
			fsys = fsys.restart()
			o = o.reopen(t, fsys)
			o.append(1 + random.IntN(3))
			fsys = fsys.crash(random)
			o = o.reopen(t, fsys)
			o.append(1)
			o = o.reopen(t, fsys.restart())
			if err := o.log.Close(); err != nil {
				t.Errorf("Close() = %v", err)
			}
		})
	}
}

// seeded returns numbers that a failure can be found again with.
func seeded(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

// TestKillBeforeTheDirectoryIsSynced kills the owner right after a snapshot got its name, and cuts the power while the next
// one starts: the name may be lost, and what it made obsolete must not be gone then.
func TestKillBeforeTheDirectoryIsSynced(t *testing.T) {
	t.Parallel()
	for cut := 1; cut <= 10; cut++ {
		for seed := range uint64(20) {
			fsys := newMemFS()
			o := mustOpen(t, testConfig(fsys))
			o.append(3)
			killed := false
			fsys.setFault(func(_ int, operation, path string) error {
				if killed {
					return errPower
				}
				killed = operation == "rename" && strings.HasSuffix(path, ".snapshot.tmp")
				return nil
			})
			if err := o.snapshot(); err == nil {
				t.Fatal("the snapshot was not interrupted")
			}
			fsys = fsys.restart()
			fsys.setFault(func(call int, _, _ string) error {
				if call >= cut {
					return errPower
				}
				return nil
			})
			o = o.reopen(t, fsys)
			o = o.reopen(t, fsys.crash(seeded(seed)))
			o.log.Close()
			if t.Failed() {
				t.Fatalf("cut at %d, seed %d", cut, seed)
			}
		}
	}
}
