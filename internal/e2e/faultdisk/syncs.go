//go:build linux

package faultdisk

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/program"
)

// syncsVariable names the program that the test binary becomes once its syncs are somebody else's to let pass.
const syncsVariable = "PUSHRELAY_TEST_SYNCS"

// syncsFD is where such a program has the kernel's questions: the test takes them from there.
const syncsFD = 200

// Syncs are those of one program, as a disk takes them that the test makes slow.
type Syncs struct {
	delay atomic.Int64 // nanoseconds
	asked sync.WaitGroup
}

// NewSyncs has a command start its program so that the test decides how long each sync of a file takes. The TestMain of the package must begin with [ExecSyncing].
func NewSyncs(t testing.TB, of *program.Command) *Syncs {
	t.Helper()
	program.RequireRoot(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	of.Path, of.Env = self, append(of.Env, syncsVariable+"="+of.Path)
	s := &Syncs{}
	t.Cleanup(s.asked.Wait) // by then its processes have ended
	return s
}

// Take lets every sync of a process last as long as a slow disk would, from now on. 0 is for a fast one.
func (s *Syncs) Take(by time.Duration) { s.delay.Store(int64(by)) }

// Serve answers the kernel's questions about a process that was started just now, until it ends.
func (s *Syncs) Serve(t testing.TB, p *program.Process) {
	t.Helper()
	var listener int
	client.Eventually(t, client.Patience, "the process asks about its syncs", func() error {
		fd, err := unix.PidfdOpen(p.Cmd.Process.Pid, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		listener, err = unix.PidfdGetfd(fd, syncsFD, 0)
		return err
	})
	s.asked.Go(func() {
		defer unix.Close(listener)
		s.serve(listener)
	})
	t.Cleanup(func() { s.Take(0) }) // before the process is to end
}

// The structures of seccomp(2) for who is asked.
type (
	question struct {
		id         uint64
		pid, flags uint32
		nr         int32
		arch       uint32
		pointer    uint64
		arguments  [6]uint64
	}
	answer struct {
		id    uint64
		value int64
		errno int32
		flags uint32
	}
)

func (s *Syncs) serve(listener int) {
	for {
		ready := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
		if _, err := unix.Poll(ready, -1); err != nil {
			continue // it was interrupted
		}
		if ready[0].Revents&unix.POLLIN == 0 {
			return // nobody is left who could ask
		}
		var q question
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(listener), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&q))); errno != 0 {
			continue // who asked has died
		}
		s.asked.Go(func() {
			for begun := time.Now(); time.Since(begun) < time.Duration(s.delay.Load()); {
				time.Sleep(10 * time.Millisecond) //nolint:forbidigo // as a disk that takes so long
			}
			a := answer{id: q.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
			unix.Syscall(unix.SYS_IOCTL, uintptr(listener), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&a)))
		})
	}
}

// ExecSyncing becomes the program that [NewSyncs] was for, if this process is to. It is to be called before anything else.
func ExecSyncing() {
	path, found := os.LookupEnv(syncsVariable)
	if !found {
		return
	}
	runtime.LockOSThread() // the filter is this thread's, and that of the program that it becomes
	fmt.Fprintln(os.Stderr, becomeSyncing(path))
	os.Exit(1)
}

func becomeSyncing(path string) error {
	ask := func(call uint32) []unix.SockFilter {
		return []unix.SockFilter{{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: call}, {Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF}}
	}
	filter := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}} // the number of the call
	filter = append(append(filter, ask(unix.SYS_FSYNC)...), ask(unix.SYS_FDATASYNC)...)
	filter = append(filter, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW})
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return fmt.Errorf("having syncs asked about: %w", errno)
	}
	if err := unix.Dup3(int(fd), syncsFD, 0); err != nil {
		return err
	}
	return syscall.Exec(path, append([]string{path}, os.Args[1:]...), os.Environ())
}
