package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pushrelay/internal/relayapi"
	"pushrelay/internal/relaytest"
)

const explained = `agents:
- name: site-a
  push: '{job="backup"}'
  serve: node
users:
- user: ci
  push: '{job="x"}'
- user: prometheus
  read: '{job="backup"}'
  scrape: '{job=~"node|app"}'
- certificate: ops.example.org
  admin: true
  status: true
- anonymous: true
  delete: '{job="y"}'
`

// TestExplain: the relay that runs and a file say the same, in the words of a refusal.
func TestExplain(t *testing.T) {
	address := listenNowhere(t)
	dir := t.TempDir()
	config, file := filepath.Join(dir, "agent.yml"), filepath.Join(dir, "policy.yml")
	for name, text := range map[string]string{
		config: "scrape_configs:\n- job_name: node\n  static_configs: [{targets: [\"" + address + "\"]}]\n- job_name: app\n  static_configs: [{targets: [\"" + address + "\"]}]\n",
		file:   "agents:\n- {name: site-a, serve: '*'}\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	opts := relaytest.Options(t)
	opts.PolicyFile = file
	running := relaytest.Start(t, opts)
	running.StartAgent(t, "site-a", config)
	if err := os.WriteFile(file, []byte(explained), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := running.Reload(); err != nil {
		t.Fatal(err)
	}
	node, app := "node-"+address, "app-"+address
	for _, tt := range []struct {
		args string
		code int
		want string
	}{
		{"push --agent=site-a job=backup instance=db1", 0, "allowed by policy.yml:2"},
		{"push --agent=site-a job=x", 1, `denied by policy.yml:2: agent "site-a" may not push to group {job="x",agent="site-a"} or delete it`},
		{"push --agent=site-b job=backup", 1, `denied by policy.yml:1: it has no rule for agent "site-b", who may not push`},
		{"push --agent=site-a job=backup agent=x", 1, "the relay adds the label agent"},
		{"push --user=ci job=x", 0, "allowed by policy.yml:6"},
		{"push --user=ci job=y", 1, `denied by policy.yml:6: user "ci" may not push to group {job="y"}`},
		{"push instance=x", 1, "job name is required"},
		{"push job", 2, `"job" is no label`},
		{"push --user=ci --agent=site-a job=x", 2, "ask about one of them"},
		{"push", 2, "required argument 'label' not provided"},
		{"delete job=y", 0, "allowed by policy.yml:14"},
		{"delete --user=ci job=x", 1, "denied by policy.yml:6"},
		{"read --user=prometheus job=backup agent=site-a", 0, "allowed by policy.yml:8"},
		{"read job=backup", 1, "denied by policy.yml:14: anonymous may not read group"},
		{"scrape --user=prometheus site-a " + node, 0, "allowed by policy.yml:8"},
		{"scrape --user=prometheus site-a " + app, 1, `denied by policy.yml:2: agent "site-a" may not serve targets of job "app"`},
		{"scrape --user=ci site-a " + node, 1, `denied by policy.yml:6: user "ci" may not scrape target "` + node + `" of agent "site-a"`},
		{"scrape --user=prometheus site-a job=node instance=x:1", 0, "allowed by policy.yml:8"},
		{"scrape --user=prometheus site-a none", 1, `agent "site-a" has announced no target "none" here: give labels`},
		{"serve --agent=site-a node", 0, "allowed by policy.yml:2"},
		{"serve --agent=site-a app", 1, "denied by policy.yml:2"},
		{"serve node", 2, "'--agent' not provided"},
		{"admin --certificate=x --certificate=ops.example.org", 0, "allowed by policy.yml:11"},
		{"admin --user=ops.example.org", 1, "denied by policy.yml:5: it has no rule for user"},
		{"status --certificate=ops.example.org", 0, "allowed by policy.yml:11"},
		{"status --user=ci", 1, "may not read the relay's own metrics and status"},
	} {
		for _, from := range []string{"", " --policy.file=" + file} {
			stdout, stderr, code := command(append([]string{"--data.dir=" + opts.DataDir, "explain"}, strings.Fields(tt.args+from)...)...)
			if from != "" && strings.HasPrefix(tt.args, "scrape") && strings.Contains(tt.args, address) {
				continue // the relay writes which targets there are later
			}
			if code != tt.code || !strings.Contains(stdout+stderr, tt.want) {
				t.Errorf("explain %s%s: exit code %d, want %d and %q\nstdout %s\nstderr %s", tt.args, from, code, tt.code, tt.want, stdout, stderr)
			}
		}
	}
	stdout, _, code := command("--data.dir="+opts.DataDir, "explain", "push", "--user=ci", "job=y", "--output=json")
	var got relayapi.Explained
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != 1 || got.Allowed || got.Rule != "policy.yml:6" || !strings.HasPrefix(got.Reason, "denied by policy.yml:6") {
		t.Errorf("in JSON: %d %v %s", code, err, stdout)
	}

	running.Stop()
	for _, tt := range []struct {
		args string
		code int
		want string
	}{
		{"push --user=ci job=x", 3, "no relay runs on it, and this needs one: name a file with --policy.file"},
		{"push --user=ci job=x --policy.file=" + file, 0, "allowed by policy.yml:6"},
		{"scrape --user=prometheus site-a " + node + " --policy.file=" + file, 0, "allowed by policy.yml:8"},
		{"scrape --user=prometheus site-a " + app + " --policy.file=" + file, 1, "denied by policy.yml:2"},
		{"push job=x --policy.file=" + config, 1, "unknown key"},
	} {
		stdout, stderr, code := command(append([]string{"--data.dir=" + opts.DataDir, "explain"}, strings.Fields(tt.args)...)...)
		if code != tt.code || !strings.Contains(stdout+stderr, tt.want) {
			t.Errorf("without a relay, explain %s: exit code %d, want %d and %q\nstdout %s\nstderr %s", tt.args, code, tt.code, tt.want, stdout, stderr)
		}
	}
}

// TestExplainWithoutAPolicy: of a relay that forbids nothing.
func TestExplainWithoutAPolicy(t *testing.T) {
	opts := relaytest.Options(t)
	relaytest.Start(t, opts)
	stdout, stderr, code := command("--data.dir="+opts.DataDir, "explain", "push", "job=x")
	if code != 0 || stdout != "allowed: there is no policy file\n" {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
}

// listenNowhere returns an address of this machine.
func listenNowhere(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return fmt.Sprint(l.Addr())
}
