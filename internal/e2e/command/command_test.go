//go:build linux

package command_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/house"
	"pushrelay/internal/e2e/program"
)

// wantResult checks how a program ended, and that each stream has the words. No words: the stream has to be empty.
func wantResult(t testing.TB, got program.Result, code int, stdout, stderr string) {
	t.Helper()
	if got.Code != code {
		t.Errorf("exit code %d, want %d\n%s%s", got.Code, code, got.Stdout, got.Stderr)
	}
	for _, stream := range []struct{ name, got, want string }{{"output", got.Stdout, stdout}, {"error", got.Stderr, stderr}} {
		if !strings.Contains(stream.got, stream.want) || stream.want == "" && stream.got != "" {
			t.Errorf("standard %s is %q, want %q in it", stream.name, stream.got, stream.want)
		}
	}
	if strings.Count(got.Stderr, "\n") > 1 {
		t.Errorf("standard error has more than one line: %q", got.Stderr)
	}
}

// TestExec: what a wrapped command cost and wrote is on the relay's page, a failure leaves the last success as it was, and
// the command notices nothing.
func TestExec(t *testing.T) {
	t.Parallel()
	relay := house.StartRelay(t)
	agent := house.StartAgent(t, relay, "site-a", "scrape_configs: []\n")
	group := []string{"--job=nightly backup", "--grouping", "path=/var/lib", "--grouping", "empty="}
	series := func(name string) string {
		return fmt.Sprintf(`%s{agent="site-a", empty="", instance="", job="nightly backup", path="/var/lib"}`, name)
	}
	// It runs long enough for its memory to be seen.
	script := `sleep 0.1; cat; echo told >&2; echo 'backup_bytes{disk="a b"} 4711' >"$RELAY_METRICS_FILE"; exit "$0"`

	got := program.OutputWithInput(t, agent.Exec(group, "/bin/sh", "-c", script, "0"), "in\x00out")
	wantResult(t, got, 0, "in\x00out", "told\n")
	client.WantSeries(t, relay.URL, series("job_exit_code"), 0)
	client.WantSeries(t, relay.URL, `backup_bytes{agent="site-a", disk="a b", empty="", instance="", job="nightly backup", path="/var/lib"}`, 4711)
	succeeded, ok, err := client.ValueOf(relay.URL, series("job_last_success_timestamp_seconds"))
	if err != nil || !ok || time.Since(time.UnixMilli(int64(succeeded*1000))).Abs() > time.Minute {
		t.Errorf("job_last_success_timestamp_seconds = %f, %v, %v", succeeded, ok, err)
	}
	for _, name := range []string{"job_duration_seconds", "job_cpu_seconds", "job_max_resident_memory_bytes"} {
		if value, ok, err := client.ValueOf(relay.URL, series(name)); err != nil || !ok || value <= 0 {
			t.Errorf("%s = %v, %v, %v", name, value, ok, err)
		}
	}

	got = program.OutputWithInput(t, agent.Exec(group, "/bin/sh", "-c", script, "3"), "")
	wantResult(t, got, 3, "", "told\n")
	client.WantSeries(t, relay.URL, series("job_exit_code"), 3)
	client.WantSeries(t, relay.URL, series("job_last_success_timestamp_seconds"), succeeded)
	if last, _, err := client.ValueOf(relay.URL, series("job_last_run_timestamp_seconds")); err != nil || last <= succeeded {
		t.Errorf("the last run was at %f, %v, the last success at %f", last, err, succeeded)
	}

	t.Run("what the relay refuses in the file costs the file only", func(t *testing.T) {
		client.Push(t, relay.URL+"/metrics/job/owner", "# TYPE taken counter\ntaken 1\n")
		got := program.Output(t, agent.Exec([]string{"--job=clash"}, "/bin/sh", "-c", `printf '# TYPE taken gauge\ntaken 1' >"$RELAY_METRICS_FILE"`))
		wantResult(t, got, 0, "", "relay-agent exec: RELAY_METRICS_FILE is not pushed: ")
		client.WantSeries(t, relay.URL, `job_exit_code{agent="site-a", instance="", job="clash"}`, 0)
		got = program.Output(t, agent.Exec([]string{"--job=late"}, "/bin/sh", "-c", `echo 'rows 1 1700000000000' >"$RELAY_METRICS_FILE"`))
		wantResult(t, got, 0, "", "must not have timestamps")
		client.WantSeries(t, relay.URL, `job_exit_code{agent="site-a", instance="", job="late"}`, 0)
	})
	t.Run("the page stays clean", func(t *testing.T) {
		promtool := program.RequireProgram(t, "/usr/bin/promtool", "prometheus")
		page := ""
		for line := range strings.Lines(client.MustGet(t, relay.URL+"/metrics")) {
			if strings.HasPrefix(line, "job_") || strings.Contains(line, " job_") {
				page += line
			}
		}
		wantResult(t, program.OutputWithInput(t, program.Command{Path: promtool, Args: []string{"check", "metrics"}}, page), 0, "", "")
	})
	t.Run("a timeout", func(t *testing.T) {
		got := program.Output(t, agent.Exec([]string{"--job=slow", "--timeout=500ms"}, "/bin/sleep", "600"))
		wantResult(t, got, 124, "", "did not end within 500ms")
		client.WantSeries(t, relay.URL, `job_exit_code{agent="site-a", instance="", job="slow"}`, 124)
	})
	t.Run("a command that is not there", func(t *testing.T) {
		got := program.Output(t, agent.Exec([]string{"--job=missing"}, "no-such-command"))
		wantResult(t, got, 127, "", `relay-agent exec: starting the command: exec: "no-such-command": executable file not found in $PATH`)
		client.WantSeries(t, relay.URL, `job_exit_code{agent="site-a", instance="", job="missing"}`, 127)
	})
	t.Run("a signal", func(t *testing.T) {
		p := program.Start(t, agent.Exec([]string{"--job=ended"}, "/bin/sh", "-c", "echo ready; exec sleep 600"))
		client.Eventually(t, 10*time.Second, "command ready", func() error {
			if !strings.Contains(p.Log.String(), "ready") {
				return client.ErrStatus
			}
			return nil
		})
		p.Signal(t, syscall.SIGTERM)
		p.WantExit(t, 143)
		client.WantSeries(t, relay.URL, `job_exit_code{agent="site-a", instance="", job="ended"}`, 143)
	})
	t.Run("the agent is down", func(t *testing.T) {
		agent.Stop(t)
		for _, code := range []int{0, 4} {
			got := program.Output(t, agent.Exec([]string{"--job=alone"}, "/bin/sh", "-c", fmt.Sprintf("echo out; exit %d", code)))
			wantResult(t, got, code, "out\n", "relay-agent exec: the run is not pushed: the agent cannot be reached at "+agent.URL)
		}
	})
}

// TestExecArguments: what stands after -- is the command's, whatever it looks like.
func TestExecArguments(t *testing.T) {
	t.Parallel()
	args := []string{"", "a b", `"x" 'y'`, "new\nline", "\xff\xfe", "--job=other", "--", "-h", "@/etc/passwd", "$HOME", "exec"}
	got := program.Output(t, program.Command{Path: program.RelayAgent(), Args: append([]string{
		"exec", "--job=j", "--agent.address=http://127.0.0.1:1", "--", "/usr/bin/printf", `%s\0`,
	}, args...)})
	if want := strings.Join(args, "\x00") + "\x00"; got.Code != 0 || got.Stdout != want {
		t.Errorf("the arguments arrived as %q, exit code %d, want %q", got.Stdout, got.Code, want)
	}
}

func TestPushAndDelete(t *testing.T) {
	t.Parallel()
	relay := house.StartRelay(t)
	agent := house.StartAgent(t, relay, "site-a", "scrape_configs: []\n")
	series := func(name string) string { return name + `{agent="site-a", instance="a/b", job="j"}` }
	group := []string{"--job=j", "--grouping=instance=a/b"}
	file := filepath.Join(t.TempDir(), "metrics.prom")
	client.WriteFile(t, file, "second 2\n")
	run := func(stdin string, args ...string) program.Result {
		return program.OutputWithInput(t, agent.At(append(args[:1:1], append(group, args[1:]...)...)...), stdin)
	}
	wantResult(t, run("\uFEFF# TYPE first gauge\r\nfirst 1\r", "push"), 0, "", "")
	wantResult(t, run("", "push", file), 0, "", "")
	client.WantSeries(t, relay.URL, series("first"), 1)
	client.WantSeries(t, relay.URL, series("second"), 2)
	wantResult(t, run("third 3\n", "push", "--replace", "-"), 0, "", "")
	client.WantSeries(t, relay.URL, series("third"), 3)
	client.WantNoSeries(t, relay.URL, series("first"))

	wantResult(t, run("third x\n", "push"), 1, "", "relay-agent push: text format parsing error in line 1")
	wantResult(t, run("\xFF\xFEt\x00h\x00", "push"), 1, "", "the body is UTF-16")
	wantResult(t, run("", "push"), 1, "", "standard input is empty")
	wantResult(t, run("\uFEFF", "push"), 1, "", "standard input is empty")
	wantResult(t, run("", "push", "/nowhere/file"), 1, "", "/nowhere/file: no such file")
	wantResult(t, run("", "push", t.TempDir()), 1, "", "is a directory")
	client.WantSeries(t, relay.URL, series("third"), 3)

	wantResult(t, run("", "delete"), 0, "", "")
	client.WantNoSeries(t, relay.URL, series("third"))
	wantResult(t, run("", "delete"), 0, "", "")

	relay.Stop(t)
	wantResult(t, run("fourth 4\n", "push"), 0, "kept by the agent until a relay takes it: ", "")
	wantResult(t, program.Output(t, agent.Exec(group, "true")), 0, "", "")
	relay.Start(t)
	client.WantSeries(t, relay.URL, series("fourth"), 4)
	client.WantSeries(t, relay.URL, series("job_exit_code"), 0)
	agent.Stop(t)
	wantResult(t, run("m 1\n", "push"), 3, "", "the agent cannot be reached at "+agent.URL)
	wantResult(t, run("", "delete"), 3, "", "does it run, and does it listen there?")
}

func TestWrongCommandLines(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args   []string
		code   int
		reason string
	}{
		{[]string{"exec", "--job=j", "--"}, 125, "which command?"},
		{[]string{"exec", "--job=j"}, 125, "which command?"},
		{[]string{"exec", "--job=j", "true"}, 125, "after --"},
		{[]string{"exec", "--job=j", "true", "--", "true"}, 125, `"true" stands before --`},
		{[]string{"exec", "--", "true"}, 125, "--job"},
		{[]string{"exec", "--jbo=j", "--", "true"}, 125, "did you mean --job?"},
		{[]string{"exec", "--job=", "--", "true"}, 125, "job name is required"},
		{[]string{"exec", "--job=j", "--timeout=-1s", "--", "true"}, 125, "--timeout is -1s"},
		{[]string{"exec", "--job=j", "--agent.address=localhost", "--", "true"}, 125, "--agent.address"},
		{[]string{"push", "--job=j", "--grouping=x"}, 2, `--grouping "x" is not NAME=VALUE`},
		{[]string{"push", "--job=j", "--grouping=x=1", "--grouping=x=2"}, 2, "given twice"},
		{[]string{"push", "--job=j", "--grouping=job=k"}, 2, "--job"},
		{[]string{"delete", "--job=j", "--grouping=__x=k"}, 2, `improper label name "__x"`},
		{[]string{"delete", "--job=j", "more"}, 2, "more"},
		{[]string{"status", "--agent.address=ftp://x"}, 2, "unix:/run/relay-agent/agent.sock"},
		{[]string{"check-config"}, 2, "file"},
		{[]string{"no-such-command"}, 2, "no-such-command: the commands are"},
		{[]string{"--no-such-flag"}, 2, "--no-such-flag"},
		{[]string{"stauts"}, 2, "did you mean status?"},
		{[]string{"--relay.addres=x"}, 2, "did you mean --relay.address?"},
		{[]string{"push", "--jobb=x"}, 2, "did you mean --job?"},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			t.Parallel()
			wantResult(t, program.Output(t, program.Command{Path: program.RelayAgent(), Args: tt.args}), tt.code, "", tt.reason)
		})
	}
}

// agentTold is what relay-agent status --json tells, as far as these tests read it.
type agentTold struct {
	Data struct {
		Relays []struct {
			Address   string
			Connected bool
		}
		Targets []struct {
			Target     string
			LastScrape *time.Time `json:"last_scrape"`
			LastError  string     `json:"last_error"`
			Labels     map[string]string
		}
	}
}

func TestStatusCommand(t *testing.T) {
	t.Parallel()
	relay := house.StartRelay(t)
	own, gone := strings.TrimPrefix(relay.URL, "http://"), program.FreeAddress(t)
	away := program.FreeAddress(t)
	agent := house.NewAgentVia(t, relay, relay.GRPC, "site-a", fmt.Sprintf("scrape_configs: [{job_name: app, static_configs: [{targets: [%q, %q], labels: {env: prod}}]}]", own, gone))
	agent.Start(t)
	for _, address := range []string{own, gone} {
		if _, err := client.Fetch("GET", relay.URL+"/agents/site-a/targets/app-"+address+"/metrics", nil); err != nil {
			t.Fatal(err)
		}
	}
	got := program.Output(t, agent.At("status"))
	wantResult(t, got, 0, "connected for", "")
	for _, words := range []string{relay.GRPC, "targets  2", "app-" + gone, "target_unreachable", "TARGET ", " ago "} {
		if !strings.Contains(got.Stdout, words) {
			t.Errorf("status says %q, want %q in it", got.Stdout, words)
		}
	}
	var told agentTold
	if err := json.Unmarshal([]byte(program.MustOutput(t, agent.At("status", "--json"))), &told); err != nil {
		t.Fatal(err)
	}
	if len(told.Data.Relays) != 1 || !told.Data.Relays[0].Connected || len(told.Data.Targets) != 2 {
		t.Fatalf("status --json = %+v", told)
	}
	for _, target := range told.Data.Targets {
		if target.LastScrape == nil || target.Labels["env"] != "prod" || strings.HasSuffix(target.Target, gone) != (target.LastError != "") {
			t.Errorf("status --json tells of %+v", target)
		}
	}
	wantResult(t, program.Output(t, program.Command{Path: program.RelayAgent(), Args: []string{"status", "--agent.address=" + relay.URL}}), 1, "", "is no relay-agent")

	agent.Stop(t)
	wantResult(t, program.Output(t, agent.At("status")), 3, "", "cannot be reached")
	agent.Command.Args = append(agent.Command.Args, "--relay.address="+away)
	agent.Start(t)
	got = program.Output(t, agent.At("status"))
	wantResult(t, got, 4, "NOT CONNECTED", "")
	if !strings.Contains(got.Stdout, away) || !strings.Contains(got.Stdout, "connected for") {
		t.Errorf("status says %q, want both relays in it", got.Stdout)
	}
}

func TestCheckConfig(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "agent.yml")
	check := func(config string) program.Result {
		client.WriteFile(t, file, config)
		return program.Output(t, program.Command{Path: program.RelayAgent(), Args: []string{"check-config", file}})
	}
	client.WriteFile(t, filepath.Join(dir, "good.yml"), "[{targets: [db-1:9187], labels: {instance: db-1}}]")
	client.WriteFile(t, filepath.Join(dir, "bad.yml"), "[{targets: [")
	got := check(`scrape_configs:
  - job_name: node
    sample_limit: 5
    static_configs: [{targets: ["localhost:9100"], labels: {env: prod}}]
  - job_name: db
    scheme: https
    file_sd_configs: [{files: [good.yml]}]
`)
	wantResult(t, got, 0, file+" is good", "")
	for _, words := range []string{
		"2 jobs: node, db", "2 targets", "node-localhost:9100  http://localhost:9100/metrics  job=node instance=localhost:9100 env=prod",
		"https://db-1:9187/metrics  job=db instance=db-1", "warning: line 3: sample_limit",
	} {
		if !strings.Contains(got.Stdout, words) {
			t.Errorf("check-config says %q, want %q in it", got.Stdout, words)
		}
	}
	wantResult(t, check("scrape_configs: [{job: x}]"), 1, "", "agent.yml: line 1: unknown key \"job\"")
	wantResult(t, check("scrape_configs: [{job_name: x, tls_config: {ca_file: missing.crt}}]"), 1, "", "missing.crt")
	wantResult(t, check("scrape_configs: [{job_name: x, file_sd_configs: [{files: [bad.yml]}]}]"), 1, "1 job: x", "bad.yml: reading targets: line 1")
	wantResult(t, check("scrape_configs: [{job_name: x, file_sd_configs: [{files: [absent.yml]}]}]"), 1, "0 targets", "absent.yml: reading targets")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	wantResult(t, program.Output(t, program.Command{Path: program.RelayAgent(), Args: []string{"check-config", file}}), 1, "", "no such file")
}

// TestUnixSocket: the agent on a socket of its own, beside a port, for its commands and for curl.
func TestUnixSocket(t *testing.T) {
	t.Parallel()
	curl := program.RequireProgram(t, "/usr/bin/curl", "curl")
	relay := house.StartRelay(t)
	socket := filepath.Join(t.TempDir(), "agent.sock")
	agent := house.NewAgentVia(t, relay, relay.GRPC, "site-a", "scrape_configs: []\n", "--web.listen-address=unix:"+socket)
	agent.Start(t)
	if found, err := os.Stat(socket); err != nil || found.Mode() != os.ModeSocket|0o660 {
		t.Errorf("the socket has mode %v, %v, want 0660", found.Mode(), err)
	}
	over := func(args ...string) program.Command {
		return program.Command{Path: program.RelayAgent(), Args: append(args[:1:1], append([]string{"--agent.address=unix:" + socket}, args[1:]...)...)}
	}
	wantResult(t, program.OutputWithInput(t, over("push", "--job=socket"), "m 1\n"), 0, "", "")
	client.WantSeries(t, relay.URL, `m{agent="site-a", instance="", job="socket"}`, 1)
	wantResult(t, program.Output(t, over("exec", "--job=socket", "--", "true")), 0, "", "")
	client.WantSeries(t, relay.URL, `job_exit_code{agent="site-a", instance="", job="socket"}`, 0)
	wantResult(t, program.Output(t, over("status")), 0, "connected", "")
	wantResult(t, program.Output(t, program.Command{Path: curl, Args: []string{"-sS", "--fail", "--unix-socket", socket, "http://agent/-/healthy"}}), 0, "OK", "")

	second := agent.Command
	second.Args = append(slices.Clip(second.Args), "--web.listen-address="+program.FreeAddress(t))
	wantSecond := program.Output(t, second)
	if wantSecond.Code != 1 || !strings.Contains(wantSecond.Stderr, "address already in use") && !strings.Contains(wantSecond.Stderr, "another process listens on this socket") {
		t.Errorf("a second agent at the same addresses: %+v", wantSecond)
	}
	wantResult(t, program.Output(t, over("status")), 0, "connected", "")

	agent.Kill(t)
	wantResult(t, program.Output(t, over("status")), 3, "", "connection refused")
	agent.Start(t)
	wantResult(t, program.Output(t, over("status")), 0, "connected", "")
	agent.Stop(t)
	if _, err := os.Lstat(socket); !os.IsNotExist(err) {
		t.Errorf("the socket is left behind: %v", err)
	}
}
