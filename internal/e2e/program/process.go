//go:build linux

package program

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pushrelay/internal/e2e/client"
)

// StopTimeout is how long a program may take to end after SIGTERM: more than the relay's own --shutdown.timeout.
const StopTimeout = 30 * time.Second

// A Command is a program to start. Dir defaults to a fresh directory, so that what it writes beside itself is seen.
type Command struct {
	Path string
	Args []string
	Dir  string
	// netns is the network namespace to run in, by name; empty for that of the test.
	Netns string
	// env are variables of its environment beside those of the test, as in "NAME=value".
	Env []string
	// files bounds its file descriptors; 0 for as many as the test may have.
	Files int
}

// Cmd is the command for whoever starts it otherwise.
func (c Command) Cmd(t testing.TB) *exec.Cmd {
	t.Helper()
	argv := append([]string{c.Path}, c.Args...)
	if c.Files != 0 {
		argv = append([]string{"sh", "-c", `ulimit -n "$0" && exec "$@"`, strconv.Itoa(c.Files)}, argv...)
	}
	if c.Netns != "" {
		// ip replaces itself by the program: signals reach it as they should.
		argv = append([]string{"ip", "netns", "exec", c.Netns}, argv...)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = c.Dir
	if cmd.Dir == "" {
		cmd.Dir = t.TempDir()
	}
	// The default data directories follow this variable where the tests themselves run as a service.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "STATE_DIRECTORY=") })
	cmd.Env = append(cmd.Env, c.Env...)
	return cmd
}

// A Process is a program that runs. Cleanup ends it, and shows what it logged if the test failed.
type Process struct {
	Name string
	Cmd  *exec.Cmd
	Log  LogBuffer
	done chan struct{} // closed once the process has ended and its log is complete
}

// Start starts a program. Nothing is known about its readiness yet: see the starters of the single programs.
func Start(t testing.TB, c Command) *Process {
	t.Helper()
	p := &Process{Name: filepath.Base(c.Path), Cmd: c.Cmd(t), done: make(chan struct{})}
	p.Cmd.Stdout = &p.Log
	p.Cmd.Stderr = &p.Log
	if err := p.Cmd.Start(); err != nil {
		t.Fatalf("starting %s: %v", p.Name, err)
	}
	go func() {
		defer close(p.done)
		_ = p.Cmd.Wait() // the exit code is in ProcessState
	}()
	t.Cleanup(func() { p.cleanup(t) })
	return p
}

func (p *Process) cleanup(t testing.TB) {
	t.Helper()
	if p.Running() {
		_ = p.Cmd.Process.Signal(syscall.SIGTERM)
		if !p.Ended(StopTimeout) {
			_ = p.Cmd.Process.Kill()
			<-p.done
			t.Errorf("%s did not end within %v of SIGTERM", p.Name, StopTimeout)
		}
	}
	log := p.Log.String()
	if strings.Contains(log, "panic:") || strings.Contains(log, "fatal error:") {
		t.Errorf("%s panicked", p.Name)
	}
	if t.Failed() {
		t.Logf("log of %s (%s):\n%s", p.Name, p.Cmd.ProcessState, Tail(log, 200))
	}
}

// Running reports whether the process has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Ended waits for the end of the process, and reports whether it came in time.
func (p *Process) Ended(within time.Duration) bool {
	select {
	case <-p.done:
		return true
	case <-time.After(within):
		return false
	}
}

// WaitReady waits until a relay or an agent says that it is ready.
func WaitReady(t testing.TB, p *Process, url string) {
	t.Helper()
	client.Eventually(t, 20*time.Second, p.Name+" ready", func() error {
		if !p.Running() {
			t.Fatalf("%s ended: %s", p.Name, p.Cmd.ProcessState)
		}
		_, err := client.WantOK(url + "/-/ready")
		return err
	})
}

// Signal sends a signal to a running process.
func (p *Process) Signal(t testing.TB, s os.Signal) {
	t.Helper()
	if err := p.Cmd.Process.Signal(s); err != nil {
		t.Fatalf("sending %v to %s: %v", s, p.Name, err)
	}
}

// Suspend stops a running process until it gets a SIGCONT. It returns when every thread of it stands: the kernel tells them
// one after the other, and until then another thread goes on and may answer.
func (p *Process) Suspend(t testing.TB) {
	t.Helper()
	p.Signal(t, syscall.SIGSTOP)
	client.Eventually(t, 20*time.Second, p.Name+" stands", func() error {
		var stopped unix.Siginfo
		if err := unix.Waitid(unix.P_PID, p.Cmd.Process.Pid, &stopped, unix.WSTOPPED|unix.WNOHANG, nil); err != nil {
			return err
		}
		if stopped.Signo == 0 {
			return errRuns
		}
		return nil
	})
}

var (
	errRuns = errors.New("it runs")
	errLog  = errors.New("log")
)

// Kill ends the process as a power cut would, and returns when it is gone.
func (p *Process) Kill(t testing.TB) {
	t.Helper()
	p.Signal(t, syscall.SIGKILL)
	<-p.done
}

// Stop ends the process as a service manager does. Our own programs must exit with 0.
func (p *Process) Stop(t testing.TB) {
	t.Helper()
	p.Signal(t, syscall.SIGTERM)
	p.WantExit(t, 0)
}

// WantExit waits for the process to end by itself.
func (p *Process) WantExit(t testing.TB, code int) {
	t.Helper()
	if !p.Ended(StopTimeout) {
		t.Fatalf("%s still runs after %v", p.Name, StopTimeout)
	}
	if got := p.Cmd.ProcessState.ExitCode(); got != code {
		t.Errorf("%s ended with %v, want exit code %d", p.Name, p.Cmd.ProcessState, code)
	}
}

// A Result is what a program that ended has left.
type Result struct {
	Code           int
	Stdout, Stderr string
}

// Output runs a program to its end and returns what it printed.
func Output(t testing.TB, c Command) Result {
	t.Helper()
	return OutputWithInput(t, c, "")
}

// OutputWithInput is Output for a program that reads its standard input.
func OutputWithInput(t testing.TB, c Command, stdin string) Result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := c.Cmd(t)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	timeout := time.AfterFunc(StopTimeout, func() { _ = cmd.Process.Kill() })
	defer timeout.Stop()
	err := cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatalf("running %s: %v", c.Path, err)
	}
	return Result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// MustOutput runs a program that has to succeed and returns its standard output.
func MustOutput(t testing.TB, c Command) string {
	t.Helper()
	r := Output(t, c)
	if r.Code != 0 {
		t.Fatalf("%s %s: exit code %d\n%s%s", c.Path, strings.Join(c.Args, " "), r.Code, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

// A LogBuffer keeps what a program prints.
type LogBuffer struct {
	mu  sync.Mutex // guards buf: the program writes while the test reads
	buf bytes.Buffer
}

func (l *LogBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *LogBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// Tail returns the last lines of a text.
func Tail(s string, lines int) string {
	all := strings.SplitAfter(s, "\n")
	return strings.Join(all[max(0, len(all)-lines):], "")
}

// WantLogged waits until all of this is in the log of the process: what it prints arrives here a little later.
func (p *Process) WantLogged(t testing.TB, parts ...string) {
	t.Helper()
	client.Eventually(t, 10*time.Second, "the log tells of it", func() error {
		for _, part := range parts {
			if !strings.Contains(p.Log.String(), part) {
				return fmt.Errorf("%w: it does not say %q", errLog, part)
			}
		}
		return nil
	})
}

// WantSaid waits until one line of the log has all of this.
func (p *Process) WantSaid(t testing.TB, parts ...string) {
	t.Helper()
	client.Eventually(t, client.Patience, "the log tells of it", func() error {
		for line := range strings.Lines(p.Log.String()) {
			all := true
			for _, part := range parts {
				all = all && strings.Contains(line, part)
			}
			if all {
				return nil
			}
		}
		return fmt.Errorf("%w: no line with %q", errLog, parts)
	})
}

// PeakBytes is the most memory that a process ever had.
func (p *Process) PeakBytes(t testing.TB) int64 {
	t.Helper()
	return p.StatusBytes(t, "VmHWM:")
}

// StatusBytes reads a size from /proc/PID/status; the name is with its colon.
func (p *Process) StatusBytes(t testing.TB, name string) int64 {
	t.Helper()
	for line := range strings.Lines(client.ReadFile(t, fmt.Sprintf("/proc/%d/status", p.Cmd.Process.Pid))) {
		if kilobytes, ok := strings.CutPrefix(line, name); ok {
			n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(kilobytes), " kB"), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatalf("no %s of %s", name, p.Name)
	return 0
}
