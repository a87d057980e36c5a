//go:build linux

package docs_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/netns"
	"pushrelay/internal/e2e/program"
	"pushrelay/internal/need"
)

// A unit is what systemd would run: the settings of a unit file, and the arguments after the defaults file was read.
type unit struct {
	settings map[string]string
	program  string
	args     []string
}

// debianUnit reads Debian's unit of the Pushgateway, which nobody has edited, and the defaults that it names.
func debianUnit(t testing.TB) unit {
	t.Helper()
	path := program.RequireProgram(t, "/lib/systemd/system/prometheus-pushgateway.service", "prometheus-pushgateway")
	u := unit{settings: settingsOf(t, path)}
	environment := settingsOf(t, u.settings["EnvironmentFile"])
	command := strings.Fields(os.Expand(u.settings["ExecStart"], func(name string) string { return strings.Trim(environment[name], `"'`) }))
	if len(command) == 0 {
		t.Fatalf("%s has no ExecStart", path)
	}
	u.program, u.args = command[0], command[1:]
	return u
}

// settingsOf reads the lines NAME=value of a file.
func settingsOf(t testing.TB, path string) map[string]string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{}
	for line := range strings.Lines(string(content)) {
		line = strings.TrimSpace(line)
		if name, value, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") {
			settings[name] = value
		}
	}
	return settings
}

// TestSwapDay: the unit of Debian's Pushgateway runs with nothing but the program exchanged: its user, its arguments, no
// working directory, the ports that are the default. It does so in a network of its own, where those ports are free.
func TestSwapDay(t *testing.T) {
	t.Parallel()
	program.RequireRoot(t)
	program.RequireProgram(t, "/usr/bin/ip", "iproute2")
	program.RequireProgram(t, "/usr/bin/curl", "curl")
	u := debianUnit(t)
	if u.settings["User"] == "" || u.settings["WorkingDirectory"] != "" || filepath.Base(u.program) != "prometheus-pushgateway" {
		t.Fatalf("the unit is not what this test is about: %v", u.settings)
	}
	if out, err := exec.Command("id", "-u", u.settings["User"]).CombinedOutput(); err != nil || strings.TrimSpace(string(out)) == "0" {
		t.Fatalf("the unit's user %s: %v %s", u.settings["User"], err, out)
	}
	var n netns.Network
	namespace := fmt.Sprintf("pushrelay-%d-swap", os.Getpid())
	if r := program.Output(t, program.Command{Path: "ip", Args: []string{"netns", "add", namespace}}); r.Code != 0 {
		need.Missing(t, "no network namespace can be made here: %s", r.Stderr)
	}
	t.Cleanup(func() { program.Output(t, program.Command{Path: "ip", Args: []string{"netns", "delete", namespace}}) })
	n.IP(t, namespace, "link", "set", "lo", "up")

	const url = "http://127.0.0.1:9091"
	service := program.Command{
		Path: "setpriv", Netns: namespace, Dir: "/",
		Args: append([]string{"--reuid=" + u.settings["User"], "--regid=" + u.settings["User"], "--init-groups", program.ForAnybody(t, program.RelayServer())}, u.args...),
	}
	serve := func() *program.Process {
		p := program.Start(t, service)
		client.Eventually(t, 20*time.Second, "the relay is ready", func() error { _, err := n.Get(t, namespace, url+"/-/ready"); return err })
		return p
	}
	curl := func(args ...string) string {
		t.Helper()
		return program.MustOutput(t, program.Command{Path: "/usr/bin/curl", Netns: namespace, Args: append([]string{"--silent", "--show-error", "--fail-with-body"}, args...)})
	}

	p := serve()
	curl("--request", "PUT", "--data-binary", "# TYPE done gauge\ndone 1\n", url+"/metrics/job/cron/instance/host-1")
	curl("--request", "POST", "--data-binary", "rows 7\n", url+"/metrics/job/cron/instance/host-1")
	wantPage := func(lines ...string) {
		t.Helper()
		page := curl(url + "/metrics")
		for _, line := range lines {
			if !slices.Contains(strings.Split(page, "\n"), line) {
				t.Errorf("the exposition does not have %s", line)
			}
		}
	}
	wantPage(`done{instance="host-1",job="cron"} 1`, `rows{instance="host-1",job="cron"} 7`)

	// That it may not write anywhere is said in one line, with what that means for agents, and the rest of the log is no reason to look.
	var complaints []string
	for line := range strings.Lines(p.Log.String()) {
		if strings.Contains(line, "level=WARN") || strings.Contains(line, "level=ERROR") {
			complaints = append(complaints, line)
		}
	}
	if len(complaints) != 1 || !strings.Contains(complaints[0], "nothing is kept over a restart") || !strings.Contains(complaints[0], "agents cannot dial in") {
		t.Errorf("the relay warns %d times, want once that nothing is kept:\n%s", len(complaints), strings.Join(complaints, ""))
	}
	if _, err := os.Stat("/data"); err == nil {
		t.Error("the relay has made /data")
	}

	// systemctl reload and restart, as the unit has them.
	if got := u.settings["ExecReload"]; got != "/bin/kill -HUP $MAINPID" {
		t.Fatalf("the unit reloads by %q", got)
	}
	p.Signal(t, syscall.SIGHUP)
	wantPage(`done{instance="host-1",job="cron"} 1`)
	limit, err := time.ParseDuration(u.settings["TimeoutStopSec"])
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	p.Stop(t)
	if took := time.Since(began); took > limit {
		t.Errorf("the relay took %v to end, the unit waits %v", took, limit)
	}

	serve()
	curl("--request", "PUT", "--data-binary", "again 1\n", url+"/metrics/job/cron/instance/host-1")
	wantPage(`again{instance="host-1",job="cron"} 1`)
}
