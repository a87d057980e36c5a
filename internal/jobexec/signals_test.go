//go:build linux

package jobexec_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestSignals: what is sent to the job alone arrives at the command, once each.
func TestSignals(t *testing.T) {
	t.Parallel()
	s := newSessionJob(t, self("signals")...)
	s.wantLine(t, "ready")
	for _, sig := range []syscall.Signal{
		syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM, syscall.SIGTERM,
	} {
		if err := s.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		s.wantLine(t, sig.String())
	}
	if rest, code := s.end(t); rest != "" || code != 7 {
		t.Errorf("the command says also %q, exit code %d, want nothing and 7", rest, code)
	}
	if values := valuesOf(t, s.pushes(t)[0]); values["job_exit_code"] != 7 {
		t.Errorf("pushed exit code %v", values["job_exit_code"])
	}
}

// newSessionJob starts a job without a terminal, as cron does.
func newSessionJob(t *testing.T, command ...string) *started {
	t.Helper()
	s := newJob(t, nil, command...)
	s.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return s.begin(t)
}

func TestSignalThatEndsTheCommand(t *testing.T) {
	t.Parallel()
	s := newSessionJob(t, "/bin/sh", "-c", "echo ready; exec sleep 600")
	s.wantLine(t, "ready")
	s.Process.Signal(syscall.SIGTERM)
	if _, code := s.end(t); code != 128+15 {
		t.Errorf("exit code %d, want 143", code)
	}
	if values := valuesOf(t, s.pushes(t)[0]); values["job_exit_code"] != 143 {
		t.Errorf("pushed exit code %v", values["job_exit_code"])
	}
}

// TestIgnoredSignals: what nohup made the job ignore, the command ignores.
func TestIgnoredSignals(t *testing.T) {
	t.Parallel()
	s := newJob(t, nil)
	s.Args = []string{"sh", "-c", `trap "" HUP; exec "$0" "$@"`, os.Args[0], os.Args[0], "signals"}
	s.Path = "/bin/sh"
	s.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	s.begin(t).wantLine(t, "ready")
	syscall.Kill(-s.Process.Pid, syscall.SIGHUP) // also the command, directly
	s.Process.Signal(syscall.SIGUSR1)
	s.wantLine(t, syscall.SIGUSR1.String())
	s.end(t)
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		command []string
		atLeast time.Duration
	}{
		{"a command that ends", []string{"/bin/sh", "-c", "echo ready; exec sleep 600"}, 0},
		{"one that says it succeeded", []string{"/bin/sh", "-c", `trap "exit 0" TERM; echo ready; while :; do sleep 0.1; done`}, 0},
		{"one that is stopped", []string{"/bin/sh", "-c", "echo ready; kill -STOP $$; exec sleep 600"}, 0},
		{"one that does not want to", self("stubborn"), 10 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if testing.Short() && tt.atLeast > 0 {
				t.Skip("takes seconds")
			}
			s := newJob(t, []string{timeoutVariable + "=1s"}, tt.command...).begin(t)
			s.wantLine(t, "ready")
			began := time.Now()
			_, code := s.end(t)
			if code != 124 {
				t.Errorf("exit code %d, want 124", code)
			}
			if took := time.Since(began); took < tt.atLeast || took > tt.atLeast+9*time.Second {
				t.Errorf("it took %v", took)
			}
			if pushed := s.pushes(t)[0]; !strings.HasPrefix(pushed, "# failed: its time was over (--timeout)\n") {
				t.Errorf("pushed %q", pushed)
			}
			values := valuesOf(t, s.pushes(t)[0])
			if _, succeeded := values["job_last_success_timestamp_seconds"]; succeeded || values["job_exit_code"] != 124 {
				t.Errorf("pushed %v", values)
			}
			if !strings.Contains(s.stderr.String(), "did not end within 1s") {
				t.Errorf("it reports %q", s.stderr.String())
			}
		})
	}
}

// TestImpatience: whoever waits at a keyboard need not wait for the push.
func TestImpatience(t *testing.T) {
	t.Parallel()
	s := newJob(t, []string{refuseVariable + "=never answers"}, "/bin/sh", "-c", "echo ready; exec 1>&-; exit 3").begin(t)
	s.wantLine(t, "ready")
	began := time.Now()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.Process.Wait()
	}()
	for {
		select {
		case <-ticker.C:
			s.Process.Signal(os.Interrupt)
			continue
		case <-ended:
		}
		break
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}

// runShell is a shell with job control on the terminal that is its standard input: it runs one job in the foreground, tells
// when it stops, and continues it when it is told to.
func runShell() int {
	signal.Ignore(syscall.SIGTTOU) // it takes the terminal back from the background
	os.Setenv(roleVariable, "job")
	job := exec.Command(os.Args[0], os.Args[1:]...)
	job.Stdin, job.Stdout, job.Stderr = os.Stdin, os.Stdout, os.Stderr
	job.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Foreground: true, Ctty: 0}
	if err := job.Start(); err != nil {
		fmt.Println(err)
		return 1
	}
	for {
		var status syscall.WaitStatus
		if _, err := syscall.Wait4(job.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil {
			fmt.Println(err)
			return 1
		}
		if !status.Stopped() {
			fmt.Println("ended with", status.ExitStatus())
			return 0
		}
		unix.IoctlSetPointerInt(0, unix.TIOCSPGRP, syscall.Getpgrp())
		for !standsStill(job.Process.Pid) { // or the command, still in its read, may get the next line instead of us
			<-time.After(time.Millisecond)
		}
		fmt.Println("stopped by", status.StopSignal())
		bufio.NewReader(os.Stdin).ReadString('\n')
		unix.IoctlSetPointerInt(0, unix.TIOCSPGRP, job.Process.Pid)
		syscall.Kill(-job.Process.Pid, syscall.SIGCONT)
		fmt.Println("continued")
	}
}

// standsStill says whether a process and its children are stopped with all their threads. A signal of the terminal reaches one after
// the other, and the kernel reports the first that stops.
func standsStill(pid int) bool {
	stats, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, file := range stats {
		stat, _ := os.ReadFile(file)
		if _, state, _ := strings.Cut(string(stat), ") "); !strings.HasPrefix(state, "T") {
			return false
		}
		children, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "children"))
		for child := range strings.FieldsSeq(string(children)) {
			if number, err := strconv.Atoi(child); err != nil || !standsStill(number) {
				return false
			}
		}
	}
	return true
}

// A terminal is the side of a pseudo terminal at which a person sits.
type terminal struct {
	*started
	keys *os.File
}

// newTerminal runs a job in the shell of a terminal.
func newTerminal(t *testing.T, command ...string) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer slave.Close()
	mode, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	mode.Lflag &^= unix.ECHO
	mode.Oflag &^= unix.OPOST
	if err := unix.IoctlSetTermios(int(slave.Fd()), unix.TCSETS, mode); err != nil {
		t.Fatal(err)
	}
	s := newJob(t, []string{roleVariable + "=shell"}, command...)
	s.Stdin, s.Stdout, s.Stderr = slave, slave, slave
	s.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	s.lines = bufio.NewReader(master)
	t.Cleanup(func() {
		s.Process.Kill()
		s.Wait()
	})
	return &terminal{s, master}
}

func (p *terminal) press(t *testing.T, keys string) {
	t.Helper()
	if _, err := p.keys.WriteString(keys); err != nil {
		t.Fatal(err)
	}
}

const (
	ctrlC         = "\x03"
	ctrlD         = "\x04"
	ctrlZ         = "\x1a"
	ctrlBackslash = "\x1c"
)

// TestTerminal: keys reach the command once, it is stopped and continued with its job, and what is sent to the job alone
// still arrives.
func TestTerminal(t *testing.T) {
	t.Parallel()
	p := newTerminal(t, self("signals")...)
	p.wantLine(t, "ready")
	p.press(t, ctrlC)
	p.wantLine(t, "interrupt")
	p.press(t, ctrlBackslash)
	p.wantLine(t, "quit")
	p.press(t, ctrlZ)
	p.wantLine(t, "stopped by stopped")
	p.press(t, "\n")
	p.wantLine(t, "continued")
	p.press(t, ctrlC)
	p.wantLine(t, "interrupt")
	job := p.job(t)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1} {
		syscall.Kill(job, sig)
		p.wantLine(t, sig.String())
	}
	p.press(t, ctrlD)
	p.wantLine(t, "ended with 7")
}

// job returns the process id of the job: the only child of the shell.
func (p *terminal) job(t *testing.T) int {
	t.Helper()
	// A child is listed with the thread that started it, whichever that was.
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", p.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	var children []byte
	for _, list := range lists {
		of, _ := os.ReadFile(list) // a thread may have ended meanwhile
		children = append(children, of...)
	}
	var pid int
	if _, err := fmt.Sscan(string(children), &pid); err != nil {
		t.Fatal(err)
	}
	return pid
}

// TestTerminalThatHangsUp: the kernel tells the whole group.
func TestTerminalThatHangsUp(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := newTerminal(t, "/bin/sh", "-c", `trap "echo hangup >>$0" HUP; echo ready; while :; do sleep 0.1; done`, dir+"/told")
	p.wantLine(t, "ready")
	job := p.job(t)
	t.Cleanup(func() { syscall.Kill(-job, syscall.SIGKILL) })
	p.Process.Kill() // the shell, and with it the session's leader
	p.Wait()
	deadline := time.After(10 * time.Second)
	for {
		told, _ := os.ReadFile(dir + "/told")
		if len(told) > 0 {
			break
		}
		select {
		case <-deadline:
			t.Fatal("the command was not told")
		case <-time.After(50 * time.Millisecond):
		}
	}
	<-time.After(500 * time.Millisecond) // for a second signal, which must not come
	if told, _ := os.ReadFile(dir + "/told"); string(told) != "hangup\n" {
		t.Errorf("the command was told %q", told)
	}
}
