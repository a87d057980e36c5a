//go:build linux

package e2e_test

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
)

// at is a command of relay-agent's that speaks to this agent.
func (a *agent) at(args ...string) command {
	return command{path: programs.relayAgent, args: append(args[:1:1], append([]string{"--agent.address=" + a.url}, args[1:]...)...)}
}

// exec is relay-agent exec of a command, below this agent.
func (a *agent) exec(flags []string, run ...string) command {
	return a.at(append(append(append([]string{"exec"}, flags...), "--"), run...)...)
}

// wantResult checks how a program ended, and that each stream has the words. No words: the stream has to be empty.
func wantResult(t testing.TB, got result, code int, stdout, stderr string) {
	t.Helper()
	if got.code != code {
		t.Errorf("exit code %d, want %d\n%s%s", got.code, code, got.stdout, got.stderr)
	}
	for _, stream := range []struct{ name, got, want string }{{"output", got.stdout, stdout}, {"error", got.stderr, stderr}} {
		if !strings.Contains(stream.got, stream.want) || stream.want == "" && stream.got != "" {
			t.Errorf("standard %s is %q, want %q in it", stream.name, stream.got, stream.want)
		}
	}
	if strings.Count(got.stderr, "\n") > 1 {
		t.Errorf("standard error has more than one line: %q", got.stderr)
	}
}

// TestExec: what a wrapped command cost and wrote is on the relay's page, a failure leaves the last success as it was, and
// the command notices nothing.
func TestExec(t *testing.T) {
	t.Parallel()
	relay := startRelay(t)
	agent := startAgent(t, relay, "site-a", "scrape_configs: []\n")
	group := []string{"--job=nightly backup", "--grouping", "path=/var/lib", "--grouping", "empty="}
	series := func(name string) string {
		return fmt.Sprintf(`%s{agent="site-a", empty="", instance="", job="nightly backup", path="/var/lib"}`, name)
	}
	// It runs long enough for its memory to be seen.
	script := `sleep 0.1; cat; echo told >&2; echo 'backup_bytes{disk="a b"} 4711' >"$RELAY_METRICS_FILE"; exit "$0"`

	got := outputWithInput(t, agent.exec(group, "/bin/sh", "-c", script, "0"), "in\x00out")
	wantResult(t, got, 0, "in\x00out", "told\n")
	wantSeries(t, relay.url, series("job_exit_code"), 0)
	wantSeries(t, relay.url, `backup_bytes{agent="site-a", disk="a b", empty="", instance="", job="nightly backup", path="/var/lib"}`, 4711)
	succeeded, ok, err := valueOf(relay.url, series("job_last_success_timestamp_seconds"))
	if err != nil || !ok || time.Since(time.UnixMilli(int64(succeeded*1000))).Abs() > time.Minute {
		t.Errorf("job_last_success_timestamp_seconds = %f, %v, %v", succeeded, ok, err)
	}
	for _, name := range []string{"job_duration_seconds", "job_cpu_seconds", "job_max_resident_memory_bytes"} {
		if value, ok, err := valueOf(relay.url, series(name)); err != nil || !ok || value <= 0 {
			t.Errorf("%s = %v, %v, %v", name, value, ok, err)
		}
	}

	got = outputWithInput(t, agent.exec(group, "/bin/sh", "-c", script, "3"), "")
	wantResult(t, got, 3, "", "told\n")
	wantSeries(t, relay.url, series("job_exit_code"), 3)
	wantSeries(t, relay.url, series("job_last_success_timestamp_seconds"), succeeded)
	if last, _, err := valueOf(relay.url, series("job_last_run_timestamp_seconds")); err != nil || last <= succeeded {
		t.Errorf("the last run was at %f, %v, the last success at %f", last, err, succeeded)
	}

	t.Run("what the relay refuses in the file costs the file only", func(t *testing.T) {
		push(t, relay.url+"/metrics/job/owner", "# TYPE taken counter\ntaken 1\n")
		got := output(t, agent.exec([]string{"--job=clash"}, "/bin/sh", "-c", `printf '# TYPE taken gauge\ntaken 1' >"$RELAY_METRICS_FILE"`))
		wantResult(t, got, 0, "", "relay-agent exec: RELAY_METRICS_FILE is not pushed: ")
		wantSeries(t, relay.url, `job_exit_code{agent="site-a", instance="", job="clash"}`, 0)
		got = output(t, agent.exec([]string{"--job=late"}, "/bin/sh", "-c", `echo 'rows 1 1700000000000' >"$RELAY_METRICS_FILE"`))
		wantResult(t, got, 0, "", "must not have timestamps")
		wantSeries(t, relay.url, `job_exit_code{agent="site-a", instance="", job="late"}`, 0)
	})
	t.Run("the page stays clean", func(t *testing.T) {
		promtool := requireProgram(t, "/usr/bin/promtool", "prometheus")
		page := ""
		for line := range strings.Lines(mustGet(t, relay.url+"/metrics")) {
			if strings.HasPrefix(line, "job_") || strings.Contains(line, " job_") {
				page += line
			}
		}
		wantResult(t, outputWithInput(t, command{path: promtool, args: []string{"check", "metrics"}}, page), 0, "", "")
	})
	t.Run("a timeout", func(t *testing.T) {
		got := output(t, agent.exec([]string{"--job=slow", "--timeout=500ms"}, "/bin/sleep", "600"))
		wantResult(t, got, 124, "", "did not end within 500ms")
		wantSeries(t, relay.url, `job_exit_code{agent="site-a", instance="", job="slow"}`, 124)
	})
	t.Run("a command that is not there", func(t *testing.T) {
		got := output(t, agent.exec([]string{"--job=missing"}, "no-such-command"))
		wantResult(t, got, 127, "", `relay-agent exec: starting the command: exec: "no-such-command": executable file not found in $PATH`)
		wantSeries(t, relay.url, `job_exit_code{agent="site-a", instance="", job="missing"}`, 127)
	})
	t.Run("a signal", func(t *testing.T) {
		p := start(t, agent.exec([]string{"--job=ended"}, "/bin/sh", "-c", "echo ready; exec sleep 600"))
		eventually(t, 10*time.Second, "command ready", func() error {
			if !strings.Contains(p.log.String(), "ready") {
				return errStatus
			}
			return nil
		})
		p.signal(t, syscall.SIGTERM)
		p.wantExit(t, 143)
		wantSeries(t, relay.url, `job_exit_code{agent="site-a", instance="", job="ended"}`, 143)
	})
	t.Run("the agent is down", func(t *testing.T) {
		agent.stop(t)
		for _, code := range []int{0, 4} {
			got := output(t, agent.exec([]string{"--job=alone"}, "/bin/sh", "-c", fmt.Sprintf("echo out; exit %d", code)))
			wantResult(t, got, code, "out\n", "relay-agent exec: the run is not pushed: the agent cannot be reached at "+agent.url)
		}
	})
}

// TestExecArguments: what stands after -- is the command's, whatever it looks like.
func TestExecArguments(t *testing.T) {
	t.Parallel()
	args := []string{"", "a b", `"x" 'y'`, "new\nline", "\xff\xfe", "--job=other", "--", "-h", "@/etc/passwd", "$HOME", "exec"}
	got := output(t, command{path: programs.relayAgent, args: append([]string{
		"exec", "--job=j", "--agent.address=http://127.0.0.1:1", "--", "/usr/bin/printf", `%s\0`,
	}, args...)})
	if want := strings.Join(args, "\x00") + "\x00"; got.code != 0 || got.stdout != want {
		t.Errorf("the arguments arrived as %q, exit code %d, want %q", got.stdout, got.code, want)
	}
}

func TestPushAndDelete(t *testing.T) {
	t.Parallel()
	relay := startRelay(t)
	agent := startAgent(t, relay, "site-a", "scrape_configs: []\n")
	series := func(name string) string { return name + `{agent="site-a", instance="a/b", job="j"}` }
	group := []string{"--job=j", "--grouping=instance=a/b"}
	file := filepath.Join(t.TempDir(), "metrics.prom")
	writeFile(t, file, "second 2\n")
	run := func(stdin string, args ...string) result {
		return outputWithInput(t, agent.at(append(args[:1:1], append(group, args[1:]...)...)...), stdin)
	}
	wantResult(t, run("\uFEFF# TYPE first gauge\r\nfirst 1\r", "push"), 0, "", "")
	wantResult(t, run("", "push", file), 0, "", "")
	wantSeries(t, relay.url, series("first"), 1)
	wantSeries(t, relay.url, series("second"), 2)
	wantResult(t, run("third 3\n", "push", "--replace", "-"), 0, "", "")
	wantSeries(t, relay.url, series("third"), 3)
	wantNoSeries(t, relay.url, series("first"))

	wantResult(t, run("third x\n", "push"), 1, "", "relay-agent push: text format parsing error in line 1")
	wantResult(t, run("\xFF\xFEt\x00h\x00", "push"), 1, "", "the body is UTF-16")
	wantResult(t, run("", "push"), 1, "", "standard input is empty")
	wantResult(t, run("\uFEFF", "push"), 1, "", "standard input is empty")
	wantResult(t, run("", "push", "/nowhere/file"), 1, "", "/nowhere/file: no such file")
	wantResult(t, run("", "push", t.TempDir()), 1, "", "is a directory")
	wantSeries(t, relay.url, series("third"), 3)

	wantResult(t, run("", "delete"), 0, "", "")
	wantNoSeries(t, relay.url, series("third"))
	wantResult(t, run("", "delete"), 0, "", "")

	relay.stop(t)
	wantResult(t, run("fourth 4\n", "push"), 0, "kept by the agent until a relay takes it: ", "")
	wantResult(t, output(t, agent.exec(group, "true")), 0, "", "")
	relay.start(t)
	wantSeries(t, relay.url, series("fourth"), 4)
	wantSeries(t, relay.url, series("job_exit_code"), 0)
	agent.stop(t)
	wantResult(t, run("m 1\n", "push"), 3, "", "the agent cannot be reached at "+agent.url)
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
		{[]string{"status", "--agent.address=ftp://x"}, 2, "unix:/run/relay-agent.sock"},
		{[]string{"check-config"}, 2, "file"},
		{[]string{"no-such-command"}, 2, "no-such-command: the commands are"},
		{[]string{"--no-such-flag"}, 2, "--no-such-flag"},
		{[]string{"stauts"}, 2, "did you mean status?"},
		{[]string{"--relay.addres=x"}, 2, "did you mean --relay.address?"},
		{[]string{"push", "--jobb=x"}, 2, "did you mean --job?"},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			t.Parallel()
			wantResult(t, output(t, command{path: programs.relayAgent, args: tt.args}), tt.code, "", tt.reason)
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
	relay := startRelay(t)
	own, gone := strings.TrimPrefix(relay.url, "http://"), freeAddress(t)
	away := freeAddress(t)
	agent := newAgentVia(t, relay, relay.grpc, "site-a", fmt.Sprintf("scrape_configs: [{job_name: app, static_configs: [{targets: [%q, %q], labels: {env: prod}}]}]", own, gone))
	agent.start(t)
	for _, address := range []string{own, gone} {
		if _, err := fetch("GET", relay.url+"/agents/site-a/targets/app-"+address+"/metrics", nil); err != nil {
			t.Fatal(err)
		}
	}
	got := output(t, agent.at("status"))
	wantResult(t, got, 0, "connected for", "")
	for _, words := range []string{relay.grpc, "targets  2", "app-" + gone, "target_unreachable", "TARGET ", " ago "} {
		if !strings.Contains(got.stdout, words) {
			t.Errorf("status says %q, want %q in it", got.stdout, words)
		}
	}
	var told agentTold
	if err := json.Unmarshal([]byte(mustOutput(t, agent.at("status", "--json"))), &told); err != nil {
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
	wantResult(t, output(t, command{path: programs.relayAgent, args: []string{"status", "--agent.address=" + relay.url}}), 1, "", "is no relay-agent")

	agent.stop(t)
	wantResult(t, output(t, agent.at("status")), 3, "", "cannot be reached")
	agent.command.args = append(agent.command.args, "--relay.address="+away)
	agent.start(t)
	got = output(t, agent.at("status"))
	wantResult(t, got, 4, "NOT CONNECTED", "")
	if !strings.Contains(got.stdout, away) || !strings.Contains(got.stdout, "connected for") {
		t.Errorf("status says %q, want both relays in it", got.stdout)
	}
}

func TestCheckConfig(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "agent.yml")
	check := func(config string) result {
		writeFile(t, file, config)
		return output(t, command{path: programs.relayAgent, args: []string{"check-config", file}})
	}
	writeFile(t, filepath.Join(dir, "good.yml"), "[{targets: [db-1:9187], labels: {instance: db-1}}]")
	writeFile(t, filepath.Join(dir, "bad.yml"), "[{targets: [")
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
		if !strings.Contains(got.stdout, words) {
			t.Errorf("check-config says %q, want %q in it", got.stdout, words)
		}
	}
	wantResult(t, check("scrape_configs: [{job: x}]"), 1, "", "agent.yml: line 1: unknown key \"job\"")
	wantResult(t, check("scrape_configs: [{job_name: x, tls_config: {ca_file: missing.crt}}]"), 1, "", "missing.crt")
	wantResult(t, check("scrape_configs: [{job_name: x, file_sd_configs: [{files: [bad.yml]}]}]"), 1, "1 job: x", "bad.yml: reading targets: line 1")
	wantResult(t, check("scrape_configs: [{job_name: x, file_sd_configs: [{files: [absent.yml]}]}]"), 1, "0 targets", "absent.yml: reading targets")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	wantResult(t, output(t, command{path: programs.relayAgent, args: []string{"check-config", file}}), 1, "", "no such file")
}

// TestUnixSocket: the agent on a socket of its own, beside a port, for its commands and for curl.
func TestUnixSocket(t *testing.T) {
	t.Parallel()
	curl := requireProgram(t, "/usr/bin/curl", "curl")
	relay := startRelay(t)
	socket := filepath.Join(t.TempDir(), "agent.sock")
	agent := newAgentVia(t, relay, relay.grpc, "site-a", "scrape_configs: []\n", "--web.listen-address=unix:"+socket)
	agent.start(t)
	if found, err := os.Stat(socket); err != nil || found.Mode() != os.ModeSocket|0o660 {
		t.Errorf("the socket has mode %v, %v, want 0660", found.Mode(), err)
	}
	over := func(args ...string) command {
		return command{path: programs.relayAgent, args: append(args[:1:1], append([]string{"--agent.address=unix:" + socket}, args[1:]...)...)}
	}
	wantResult(t, outputWithInput(t, over("push", "--job=socket"), "m 1\n"), 0, "", "")
	wantSeries(t, relay.url, `m{agent="site-a", instance="", job="socket"}`, 1)
	wantResult(t, output(t, over("exec", "--job=socket", "--", "true")), 0, "", "")
	wantSeries(t, relay.url, `job_exit_code{agent="site-a", instance="", job="socket"}`, 0)
	wantResult(t, output(t, over("status")), 0, "connected", "")
	wantResult(t, output(t, command{path: curl, args: []string{"-sS", "--fail", "--unix-socket", socket, "http://agent/-/healthy"}}), 0, "OK", "")

	second := agent.command
	second.args = append(slices.Clip(second.args), "--web.listen-address="+freeAddress(t))
	wantSecond := output(t, second)
	if wantSecond.code != 1 || !strings.Contains(wantSecond.stderr, "address already in use") && !strings.Contains(wantSecond.stderr, "another process listens on this socket") {
		t.Errorf("a second agent at the same addresses: %+v", wantSecond)
	}
	wantResult(t, output(t, over("status")), 0, "connected", "")

	agent.kill(t)
	wantResult(t, output(t, over("status")), 3, "", "connection refused")
	agent.start(t)
	wantResult(t, output(t, over("status")), 0, "connected", "")
	agent.stop(t)
	if _, err := os.Lstat(socket); !os.IsNotExist(err) {
		t.Errorf("the socket is left behind: %v", err)
	}
}
