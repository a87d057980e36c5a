//go:build linux

package jobexec_test

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"pushrelay/internal/jobexec"
)

// valuesOf parses an exposition with Prometheus' own parser.
func valuesOf(t *testing.T, exposition string) map[string]float64 {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(exposition))
	if err != nil {
		t.Fatalf("%v in\n%s", err, exposition)
	}
	values := map[string]float64{}
	for name, family := range families {
		values[name] = family.GetMetric()[0].GetGauge().GetValue()
	}
	return values
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	plain, script := filepath.Join(dir, "plain"), filepath.Join(dir, "script")
	for file, mode := range map[string]fs.FileMode{plain: 0o644, script: 0o755} {
		if err := os.WriteFile(file, []byte("#!/nowhere/interpreter\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name    string
		command []string
		code    int
		report  string
		failed  string // what the push says
	}{
		{"success", self("exit", "0"), 0, "", ""},
		{"failure", self("exit", "3"), 3, "", "exit status 3"},
		{"largest", self("exit", "255"), 255, "", "exit status 255"},
		{"SIGTERM", self("die", "15"), 143, "", "signal: terminated"},
		{"SIGKILL", self("die", "9"), 137, "", "signal: killed"},
		{"SIGSEGV", []string{"/bin/sh", "-c", "ulimit -c 0; kill -SEGV $$"}, 139, "", "signal: segmentation fault"},
		{"unknown name", []string{"no-such-command"}, 127, "not found", `starting the command: exec: "no-such-command": executable file not found in $PATH`},
		{"unknown path", []string{"/nowhere/command"}, 127, "no such file", "starting the command: fork/exec /nowhere/command: no such file or directory"},
		{"not executable", []string{plain}, 126, "permission denied", "starting the command: "},
		{"directory", []string{dir}, 126, "permission denied", "starting the command: "},
		{"missing interpreter", []string{script}, 127, "no such file", "starting the command: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newJob(t, nil, tt.command...)
			_, code := s.run(t)
			if code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			if said := s.stderr.String(); !strings.Contains(said, tt.report) || strings.Count(said, "\n") > 1 || tt.report == "" && said != "" {
				t.Errorf("it reports %q, want one line with %q", said, tt.report)
			}
			pushes := s.pushes(t)
			values := valuesOf(t, pushes[0])
			if len(pushes) != 1 || values["job_exit_code"] != float64(tt.code) {
				t.Errorf("pushed exit code %v in %d pushes", values["job_exit_code"], len(pushes))
			}
			if first, _, _ := strings.Cut(pushes[0], "\n"); !strings.HasPrefix(first, strings.TrimSpace(failedLine(tt.failed))) || strings.HasPrefix(first, "# failed") != (tt.code != 0) {
				t.Errorf("the push begins with %q, want that it failed: %q", first, tt.failed)
			}
			if _, there := values["job_running"]; there {
				t.Error("nobody asked whether it runs, and it is told")
			}
			if at := values["job_last_run_timestamp_seconds"]; time.Since(time.UnixMilli(int64(at*1000))).Abs() > time.Minute {
				t.Errorf("the last run was at %f", at)
			}
			if _, succeeded := values["job_last_success_timestamp_seconds"]; succeeded != (tt.code == 0) {
				t.Errorf("a last success is pushed: %v", succeeded)
			}
			if _, measured := values["job_cpu_seconds"]; measured == (tt.report != "") {
				t.Errorf("processor time is pushed: %v", measured)
			}
		})
	}
}

// TestMeasures: the run of a child that a shell waited for counts as well.
func TestMeasures(t *testing.T) {
	t.Parallel()
	s := newJob(t, []string{"SELF=" + os.Args[0]}, "/bin/sh", "-c", `"$SELF" work`)
	if _, code := s.run(t); code != 0 {
		t.Fatalf("exit code %d: %s", code, s.stderr.String())
	}
	exposition := s.pushes(t)[0]
	values := valuesOf(t, exposition)
	if got := values["job_max_resident_memory_bytes"]; got < 200<<20 || got > 2<<30 {
		t.Errorf("job_max_resident_memory_bytes = %v, want a little above 200 MiB", got)
	}
	if got := values["job_cpu_seconds"]; got < 0.05 || got > 60 {
		t.Errorf("job_cpu_seconds = %v", got)
	}
	if got := values["job_duration_seconds"]; got < 0.2 || got > 60 {
		t.Errorf("job_duration_seconds = %v", got)
	}
	if values["job_last_success_timestamp_seconds"] != values["job_last_run_timestamp_seconds"] {
		t.Error("the last run is not the last success")
	}
	problems, err := promlint.New(strings.NewReader(exposition)).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
}

// TestMemoryOfSmallCommands: this process is larger than they are, and does not count.
func TestMemoryOfSmallCommands(t *testing.T) {
	t.Parallel()
	const atMost = 8 << 20
	if own := ownMemory(t); own <= atMost {
		t.Fatalf("this process needs %d bytes: the test shows nothing", own)
	}
	for _, tt := range []struct {
		name    string
		command []string
		seen    bool // it lives long enough
	}{
		{"at once", []string{"/bin/true"}, false},
		{"a moment", []string{"/bin/sleep", "0.2"}, true},
		{"a child of a shell", []string{"/bin/sh", "-c", "/bin/sleep 0.2; exit 0"}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newJob(t, nil, tt.command...)
			if _, code := s.run(t); code != 0 {
				t.Fatalf("exit code %d: %s", code, s.stderr.String())
			}
			got, there := valuesOf(t, s.pushes(t)[0])["job_max_resident_memory_bytes"]
			if got >= atMost || tt.seen && (!there || got < 100<<10) {
				t.Errorf("job_max_resident_memory_bytes = %v, there: %v, want that of a small program", got, there)
			}
		})
	}
}

// ownMemory is the most resident memory that this process had.
func ownMemory(t *testing.T) int64 {
	t.Helper()
	var own syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &own); err != nil {
		t.Fatal(err)
	}
	return own.Maxrss << 10
}

func TestArguments(t *testing.T) {
	t.Parallel()
	args := []string{"", " ", "a b", `"quoted" 'too'`, "$HOME", "`id`", "\\", "new\nline", "\xff\xfe", "--flag", "--", "-", "@file", "*", "ä"}
	want := ""
	for _, arg := range args {
		want += fmt.Sprintf("%d:%s", len(arg), arg)
	}
	if got, code := newJob(t, nil, append(self("echo"), args...)...).run(t); code != 0 || got != want {
		t.Errorf("the arguments arrived as %q, %d, want %q", got, code, want)
	}
	quoted := `sh -c 'printf "%s|" "$@"' x "a  b" 'it'\''s'`
	if got, code := newJob(t, nil, "/bin/sh", "-c", quoted).run(t); code != 0 || got != "a  b|it's|" {
		t.Errorf("nested quoting = %q, %d", got, code)
	}
}

// noise is a reader of bytes that do not repeat.
type noise struct{ *rand.PCG }

func (n noise) Read(p []byte) (int, error) {
	whole := len(p) &^ 7
	for i := 0; i < whole; i += 8 {
		binary.LittleEndian.PutUint64(p[i:], n.Uint64())
	}
	return max(whole, min(len(p), 1)), nil
}

// TestHugeStreams: hundreds of megabytes go in and out byte by byte, and nobody keeps them.
func TestHugeStreams(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes seconds")
	}
	const size = 300 << 20
	s := newJob(t, nil, self("copy")...).begin(t)
	sent := sha256.New()
	go func() {
		io.CopyN(s.stdin, io.TeeReader(noise{rand.NewPCG(1, 2)}, sent), size)
		s.stdin.Close()
	}()
	received := sha256.New()
	n, err := io.Copy(received, s.lines)
	if err != nil || n != size {
		t.Fatalf("%d bytes came, %v, want %d", n, err, size)
	}
	s.Wait()
	if string(sent.Sum(nil)) != string(received.Sum(nil)) {
		t.Error("the bytes differ")
	}
	if r, ok := s.ProcessState.SysUsage().(*syscall.Rusage); !ok || r.Maxrss > 100<<10 {
		t.Errorf("the job needed %d KiB", r.Maxrss)
	}
}

func TestMetricsFile(t *testing.T) {
	t.Parallel()
	const good = "# HELP rows Rows.\n# TYPE rows gauge\nrows{table=\"a\"} 12"
	for _, tt := range []struct{ name, content, report string }{
		{"good, without the last newline", good, ""},
		{"good, from another system", "\uFEFF" + strings.ReplaceAll(good, "\n", "\r\n"), ""},
		{"UTF-16", "\xFE\xFF=", "the file is UTF-16"},
		{"empty", "", ""},
		{"removed", "nothing", ""},
		{"malformed", "rows 1\nrows", "line 2"},
		{"with a name that none can have", "a{job.name=\"x\"} 1\n", "line 1"},
		{"of the run", "rows 1\njob_exit_code 0\n", "job_exit_code is a metric of the run itself"},
		{"a pipe", "pipe", "no file"},
		{"huge", "huge", "larger than"},
		{"refused by the agent", "refuse_me 1\n", "refused"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			// That of a job around this one must not be written to.
			s := newJob(t, []string{jobexec.MetricsFileVariable + "=/outer", refuseVariable + "=refuse_me"}, self("write", tt.content)...)
			file, code := s.run(t)
			if code != 0 {
				t.Fatalf("exit code %d: %s%s", code, file, s.stderr.String())
			}
			said := s.stderr.String()
			if tt.report == "" && said != "" || strings.Count(said, "\n") > 1 || !strings.Contains(said, tt.report) {
				t.Errorf("it reports %q, want one line with %q", said, tt.report)
			}
			if tt.report != "" && !strings.Contains(said, jobexec.MetricsFileVariable+" is not pushed") {
				t.Errorf("it reports %q, which does not name the file", said)
			}
			pushes := s.pushes(t)
			if valuesOf(t, pushes[0])["job_duration_seconds"] <= 0 {
				t.Errorf("the run was not pushed: %q", pushes)
			}
			if want := strings.HasPrefix(tt.name, "good"); want != (len(pushes) == 2) || want && pushes[1] != good+"\n" {
				t.Errorf("pushed %q", pushes[1:])
			}
			if _, err := os.Lstat(file); err == nil {
				t.Errorf("the file %s is left behind", file)
			}
		})
	}
}

// TestBothPushesSayThatItFailed: the second one would take back what the first one said.
func TestBothPushesSayThatItFailed(t *testing.T) {
	t.Parallel()
	s := newJob(t, nil, "/bin/sh", "-c", `echo 'rows 1' >"$RELAY_METRICS_FILE"; exit 4`)
	if _, code := s.run(t); code != 4 {
		t.Errorf("exit code %d: %s", code, s.stderr.String())
	}
	pushes := s.pushes(t)
	for _, p := range pushes {
		if !strings.HasPrefix(p, "# failed: exit status 4\n") {
			t.Errorf("pushed %q", p)
		}
	}
	if len(pushes) != 2 {
		t.Errorf("%d pushes", len(pushes))
	}
}

// TestReportStart: a run is pushed before it starts, and after its end it runs no more.
func TestReportStart(t *testing.T) {
	t.Parallel()
	for _, command := range [][]string{self("exit", "0"), self("exit", "3"), {"no-such-command"}, self("write", "job_running 1\n")} {
		s := newJob(t, []string{startVariable + "=yes"}, command...)
		before := time.Now().Truncate(time.Millisecond)
		s.run(t)
		pushes := s.pushes(t)
		if len(pushes) != 2 {
			t.Fatalf("%q: pushed %q", command, pushes)
		}
		started, ended := valuesOf(t, pushes[0]), valuesOf(t, pushes[1])
		at := started["job_last_start_timestamp_seconds"]
		if started["job_running"] != 1 || len(started) != 2 || time.UnixMilli(int64(at*1000+0.5)).Before(before) || strings.Contains(pushes[0], "failed") {
			t.Errorf("%q: at the start %q", command, pushes[0])
		}
		if runs, there := ended["job_running"]; runs != 0 || !there || ended["job_last_start_timestamp_seconds"] != at || ended["job_last_run_timestamp_seconds"] < at {
			t.Errorf("%q: at the end %q", command, pushes[1])
		}
		problems, err := promlint.New(strings.NewReader(pushes[1])).Lint()
		if err != nil || len(problems) > 0 {
			t.Errorf("lint: %v, %v", problems, err)
		}
	}
}

// TestStartThatIsNotPushed: the command runs all the same, and no later than a few seconds.
func TestStartThatIsNotPushed(t *testing.T) {
	t.Parallel()
	refused := newJob(t, []string{startVariable + "=yes", refuseVariable + "=job_running 1"}, self("exit", "6")...)
	if _, code := refused.run(t); code != 6 || refused.stderr.String() != "report: the start is not pushed: refused\n" || len(refused.pushes(t)) != 1 {
		t.Errorf("exit code %d, it reports %q, pushed %q", code, refused.stderr.String(), refused.pushes(t))
	}
	silent := newJob(t, []string{startVariable + "=waits"}, self("exit", "6")...)
	began := time.Now()
	if _, code := silent.run(t); code != 6 || silent.stderr.String() != "report: the start is not pushed: context deadline exceeded\n" || time.Since(began) > 15*time.Second {
		t.Errorf("exit code %d after %s, it reports %q", code, time.Since(began), silent.stderr.String())
	}
}

// TestSignalDuringTheStart: what comes while the start is pushed is meant for the command.
func TestSignalDuringTheStart(t *testing.T) {
	t.Parallel()
	s := newJob(t, []string{startVariable + "=waits"}, "/bin/sleep", "600").begin(t)
	s.wantLine(t, "pushing")
	if err := s.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if rest, code := s.end(t); code != 143 || rest != "" {
		t.Errorf("exit code %d, %q: %s", code, rest, s.stderr.String())
	}
	if pushes := s.pushes(t); len(pushes) != 1 || !strings.HasPrefix(pushes[0], "# failed: signal: terminated\n") {
		t.Errorf("pushed %q", pushes)
	}
}

// TestPushThatFails: the exit code is the command's whatever becomes of the push.
func TestPushThatFails(t *testing.T) {
	t.Parallel()
	for _, code := range []int{0, 5} {
		s := newJob(t, []string{refuseVariable + "=job_"}, self("exit", strconv.Itoa(code))...)
		if _, got := s.run(t); got != code {
			t.Errorf("exit code %d, want %d", got, code)
		}
		if got := s.stderr.String(); got != "report: the run is not pushed: refused\n" {
			t.Errorf("it reports %q", got)
		}
	}
}

func TestProcessLeftBehind(t *testing.T) {
	t.Parallel()
	pidFile := filepath.Join(t.TempDir(), "pid")
	s := newJob(t, nil, "/bin/sh", "-c", `sleep 600 & echo $! >"$0"`, pidFile).begin(t)
	t.Cleanup(func() {
		raw, err := os.ReadFile(pidFile)
		if err != nil {
			t.Fatal(err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
		if err != nil {
			t.Fatal(err)
		}
		syscall.Kill(pid, syscall.SIGKILL)
	})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.Process.Wait() // and not the end of its standard output, which the process holds
	}()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Error("the job waits for a process that its command left behind")
		s.Process.Kill()
		<-ended
	}
}
