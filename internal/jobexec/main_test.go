//go:build linux

package jobexec_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"pushrelay/internal/jobexec"
)

// The test starts itself as a job, as its command, and as a shell around it: role says as which.
const roleVariable = "JOBEXEC_TEST_ROLE"

// pushedVariable names the file to which a job appends what it pushes, refuseVariable a word that its agent refuses.
const (
	pushedVariable  = "JOBEXEC_TEST_PUSHED"
	refuseVariable  = "JOBEXEC_TEST_REFUSE"
	timeoutVariable = "JOBEXEC_TEST_TIMEOUT"
	startVariable   = "JOBEXEC_TEST_REPORT_START"
)

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "job":
		os.Exit(runJob())
	case "shell":
		os.Exit(runShell())
	case "command":
		os.Exit(runCommand(os.Args[1], os.Args[2:]))
	default:
		heed(syscall.SIGHUP, syscall.SIGINT)
		os.Exit(m.Run())
	}
}

// heed takes back what was ignored when the tests began, as nohup and a shell's & make it: jobs would inherit that, and those that
// send them such a signal would wait for ever.
func heed(signals ...os.Signal) {
	for _, sig := range signals {
		if signal.Ignored(sig) {
			signal.Notify(make(chan os.Signal, 1), sig)
		}
	}
}

var errRefused = errors.New("refused")

// runJob is a program around jobexec, as relay-agent is one. Its arguments are the command.
func runJob() int {
	timeout, _ := time.ParseDuration(os.Getenv(timeoutVariable))
	refuse := os.Getenv(refuseVariable)
	os.Setenv(roleVariable, "command")
	job := jobexec.Job{
		Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Timeout: timeout, ReportStart: os.Getenv(startVariable) != "",
		Push: func(ctx context.Context, p jobexec.Push) error {
			if os.Getenv(startVariable) == "waits" && bytes.Contains(p.Exposition, []byte("job_running 1\n")) {
				fmt.Println("pushing")
				<-ctx.Done()
				return ctx.Err()
			}
			if refuse == "never answers" {
				<-ctx.Done()
				return ctx.Err()
			}
			if refuse != "" && bytes.Contains(p.Exposition, []byte(refuse)) {
				return errRefused
			}
			f, err := os.OpenFile(os.Getenv(pushedVariable), os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = fmt.Fprintf(f, "%s%s--\n", failedLine(p.Failed), p.Exposition)
			return err
		},
		Report: func(line string) { fmt.Fprintln(os.Stderr, "report:", line) },
	}
	return job.Run()
}

// failedLine is how the file of pushes tells of a failure.
func failedLine(why string) string {
	if why == "" {
		return ""
	}
	return "# failed: " + why + "\n"
}

// runCommand is the command of a job.
func runCommand(name string, args []string) int {
	switch name {
	case "echo": // the arguments, each with its length
		for _, arg := range args {
			fmt.Printf("%d:%s", len(arg), arg)
		}
	case "exit":
		code, _ := strconv.Atoi(args[0])
		return code
	case "die":
		number, _ := strconv.Atoi(args[0])
		signal.Reset()
		syscall.Kill(os.Getpid(), syscall.Signal(number))
		select {}
	case "copy":
		if _, err := io.Copy(os.Stdout, os.Stdin); err != nil {
			return 1
		}
	case "write": // its argument into the file for metrics
		return write(args[0])
	case "write as nobody": // after it has changed its user
		const nobody = 65534
		if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(nobody), syscall.Setuid(nobody)); err != nil {
			fmt.Println(err)
			return 1
		}
		if err := os.WriteFile(os.Getenv(jobexec.MetricsFileVariable), []byte(args[0]), 0o600); err != nil {
			fmt.Println(err)
			return 1
		}
	case "signals":
		return tellSignals()
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("ready")
		select {}
	case "work": // processor time and memory
		memory := make([]byte, 200<<20)
		for began := time.Now(); time.Since(began) < 200*time.Millisecond; {
			for i := 0; i < len(memory); i += 4096 {
				memory[i]++
			}
		}
	}
	return 0
}

func write(what string) int {
	file := os.Getenv(jobexec.MetricsFileVariable)
	dir, dirErr := os.Stat(filepath.Dir(file))
	if found, err := os.Stat(file); err != nil || dirErr != nil || dir.Mode().Perm() != 0o711 || found.Mode() != 0o666 || found.Size() != 0 || !filepath.IsAbs(file) {
		fmt.Println("the file is not as it should be:", file, found, err)
		return 1
	}
	os.Remove(file)
	switch what {
	case "nothing":
	case "pipe":
		syscall.Mkfifo(file, 0o600)
	case "huge":
		os.WriteFile(file, make([]byte, 17<<20), 0o600)
	default:
		os.WriteFile(file, []byte(what), 0o600)
	}
	fmt.Print(file)
	return 0
}

// tellSignals tells every signal that arrives, until its input ends.
func tellSignals() int {
	caught := make(chan os.Signal, 64)
	for number := syscall.Signal(1); number < 32; number++ {
		switch number {
		case syscall.SIGURG, syscall.SIGCHLD, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU, syscall.SIGCONT, syscall.SIGWINCH:
		default:
			if !signal.Ignored(number) {
				signal.Notify(caught, number)
			}
		}
	}
	ended := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	fmt.Println("ready")
	for {
		select {
		case s := <-caught:
			fmt.Println(s)
		case <-ended:
			return 7
		}
	}
}

// A started job runs beside the test.
type started struct {
	*exec.Cmd
	stdin  io.WriteCloser
	lines  *bufio.Reader
	stderr bytes.Buffer
	pushed string // file
}

// newJob returns a job that runs a command, as a process of its own that is not started yet.
func newJob(t *testing.T, env []string, command ...string) *started {
	t.Helper()
	s := &started{Cmd: exec.CommandContext(t.Context(), os.Args[0], command...), pushed: filepath.Join(t.TempDir(), "pushed")}
	s.Env = append(append(os.Environ(), roleVariable+"=job", pushedVariable+"="+s.pushed), env...)
	s.Dir = t.TempDir()
	s.Stderr = &s.stderr
	s.WaitDelay = 20 * time.Second
	return s
}

// self is a command of a job that this test program itself is.
func self(command ...string) []string { return append([]string{os.Args[0]}, command...) }

// begin starts the job, whose standard streams the test holds.
func (s *started) begin(t *testing.T) *started {
	t.Helper()
	var err error
	if s.stdin, err = s.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.lines = bufio.NewReader(stdout)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *started) wantLine(t *testing.T, want string) {
	t.Helper()
	if line, err := s.lines.ReadString('\n'); err != nil || line != want+"\n" {
		t.Fatalf("the command says %q, %v, want %q\n%s", line, err, want, s.stderr.String())
	}
}

// end closes the input of the command and returns what else it said, and the exit code.
func (s *started) end(t *testing.T) (rest string, code int) {
	t.Helper()
	s.stdin.Close()
	all, err := io.ReadAll(s.lines)
	if err != nil {
		t.Fatal(err)
	}
	s.Wait()
	return string(all), s.ProcessState.ExitCode()
}

// run runs a job to its end.
func (s *started) run(t *testing.T) (stdout string, code int) {
	t.Helper()
	var out bytes.Buffer
	s.Stdout = &out
	if err := s.Run(); err != nil {
		if _, ok := errors.AsType[*exec.ExitError](err); !ok {
			t.Fatal(err)
		}
	}
	return out.String(), s.ProcessState.ExitCode()
}

// pushes returns what the job pushed.
func (s *started) pushes(t *testing.T) []string {
	t.Helper()
	content, err := os.ReadFile(s.pushed)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(content), "--\n"), "--\n")
}
