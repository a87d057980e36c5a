//go:build linux

package e2e_test

import (
	"bytes"
	"errors"
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
)

// stopTimeout is how long a program may take to end after SIGTERM: more than the relay's own --shutdown.timeout.
const stopTimeout = 30 * time.Second

// A command is a program to start. Dir defaults to a fresh directory, so that what it writes beside itself is seen.
type command struct {
	path string
	args []string
	dir  string
	// netns is the network namespace to run in, by name; empty for that of the test.
	netns string
	// env are variables of its environment beside those of the test, as in "NAME=value".
	env []string
	// files bounds its file descriptors; 0 for as many as the test may have.
	files int
}

func (c command) cmd(t testing.TB) *exec.Cmd {
	t.Helper()
	argv := append([]string{c.path}, c.args...)
	if c.files != 0 {
		argv = append([]string{"sh", "-c", `ulimit -n "$0" && exec "$@"`, strconv.Itoa(c.files)}, argv...)
	}
	if c.netns != "" {
		// ip replaces itself by the program: signals reach it as they should.
		argv = append([]string{"ip", "netns", "exec", c.netns}, argv...)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = c.dir
	if cmd.Dir == "" {
		cmd.Dir = t.TempDir()
	}
	// The default data directories follow this variable where the tests themselves run as a service.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "STATE_DIRECTORY=") })
	cmd.Env = append(cmd.Env, c.env...)
	return cmd
}

// A process is a program that runs. Cleanup ends it, and shows what it logged if the test failed.
type process struct {
	name string
	cmd  *exec.Cmd
	log  logBuffer
	done chan struct{} // closed once the process has ended and its log is complete
}

// start starts a program. Nothing is known about its readiness yet: see the starters of the single programs.
func start(t testing.TB, c command) *process {
	t.Helper()
	p := &process{name: filepath.Base(c.path), cmd: c.cmd(t), done: make(chan struct{})}
	p.cmd.Stdout = &p.log
	p.cmd.Stderr = &p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("starting %s: %v", p.name, err)
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // the exit code is in ProcessState
	}()
	t.Cleanup(func() { p.cleanup(t) })
	return p
}

func (p *process) cleanup(t testing.TB) {
	t.Helper()
	if p.running() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		if !p.ended(stopTimeout) {
			_ = p.cmd.Process.Kill()
			<-p.done
			t.Errorf("%s did not end within %v of SIGTERM", p.name, stopTimeout)
		}
	}
	log := p.log.String()
	if strings.Contains(log, "panic:") || strings.Contains(log, "fatal error:") {
		t.Errorf("%s panicked", p.name)
	}
	if t.Failed() {
		t.Logf("log of %s (%s):\n%s", p.name, p.cmd.ProcessState, tail(log, 200))
	}
}

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

func (p *process) ended(within time.Duration) bool {
	select {
	case <-p.done:
		return true
	case <-time.After(within):
		return false
	}
}

// waitReady waits until a relay or an agent says that it is ready.
func waitReady(t testing.TB, p *process, url string) {
	t.Helper()
	eventually(t, 20*time.Second, p.name+" ready", func() error {
		if !p.running() {
			t.Fatalf("%s ended: %s", p.name, p.cmd.ProcessState)
		}
		_, err := wantOK(url + "/-/ready")
		return err
	})
}

// signal sends a signal to a running process.
func (p *process) signal(t testing.TB, s os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatalf("sending %v to %s: %v", s, p.name, err)
	}
}

// suspend stops a running process until it gets a SIGCONT. It returns when every thread of it stands: the kernel tells them
// one after the other, and until then another thread goes on and may answer.
func (p *process) suspend(t testing.TB) {
	t.Helper()
	p.signal(t, syscall.SIGSTOP)
	eventually(t, 20*time.Second, p.name+" stands", func() error {
		var stopped unix.Siginfo
		if err := unix.Waitid(unix.P_PID, p.cmd.Process.Pid, &stopped, unix.WSTOPPED|unix.WNOHANG, nil); err != nil {
			return err
		}
		if stopped.Signo == 0 {
			return errRuns
		}
		return nil
	})
}

var errRuns = errors.New("it runs")

// kill ends the process as a power cut would, and returns when it is gone.
func (p *process) kill(t testing.TB) {
	t.Helper()
	p.signal(t, syscall.SIGKILL)
	<-p.done
}

// stop ends the process as a service manager does. Our own programs must exit with 0.
func (p *process) stop(t testing.TB) {
	t.Helper()
	p.signal(t, syscall.SIGTERM)
	p.wantExit(t, 0)
}

// wantExit waits for the process to end by itself.
func (p *process) wantExit(t testing.TB, code int) {
	t.Helper()
	if !p.ended(stopTimeout) {
		t.Fatalf("%s still runs after %v", p.name, stopTimeout)
	}
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		t.Errorf("%s ended with %v, want exit code %d", p.name, p.cmd.ProcessState, code)
	}
}

// A result is what a program that ended has left.
type result struct {
	code           int
	stdout, stderr string
}

// output runs a program to its end and returns what it printed.
func output(t testing.TB, c command) result {
	t.Helper()
	return outputWithInput(t, c, "")
}

func outputWithInput(t testing.TB, c command, stdin string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := c.cmd(t)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	timeout := time.AfterFunc(stopTimeout, func() { _ = cmd.Process.Kill() })
	defer timeout.Stop()
	err := cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatalf("running %s: %v", c.path, err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// mustOutput runs a program that has to succeed and returns its standard output.
func mustOutput(t testing.TB, c command) string {
	t.Helper()
	r := output(t, c)
	if r.code != 0 {
		t.Fatalf("%s %s: exit code %d\n%s%s", c.path, strings.Join(c.args, " "), r.code, r.stdout, r.stderr)
	}
	return r.stdout
}

// A logBuffer keeps what a program prints.
type logBuffer struct {
	mu  sync.Mutex // guards buf: the program writes while the test reads
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func tail(s string, lines int) string {
	all := strings.SplitAfter(s, "\n")
	return strings.Join(all[max(0, len(all)-lines):], "")
}
