//go:build linux

package scrape_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/exporter"
	"pushrelay/internal/e2e/house"
	"pushrelay/internal/e2e/program"
	"pushrelay/internal/e2e/promserver"
)

// TestPolicyWithPrometheus: a Prometheus with a password finds, scrapes and reads what its rule allows and nothing else; a pusher with another one
// pushes and does not read; an agent serves what it may. SIGHUP takes it away at once, and a wrong file keeps the relay from starting.
func TestPolicyWithPrometheus(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	policy, web := filepath.Join(dir, "policy.yml"), filepath.Join(dir, "web.yml")
	const agents = "agents:\n- {name: site-*, push: '{job=\"backup\"}', serve: node}\n"
	const users = agents + "users:\n- {user: prometheus, read: '{team=\"web\"}', scrape: '{agent=\"site-a\"}', status: true}\n- {user: ci, push: '{job=\"ci\"}'}\n"
	client.WriteFile(t, policy, agents)
	client.WriteFile(t, web, "# no passwords yet\n")
	r := house.StartRelay(t, "--policy.file="+policy, "--web.config.file="+web)
	target := exporter.Serve(t, &exporter.Rows{})
	config := "scrape_configs:\n"
	for _, job := range []string{"node", "secret"} {
		config += fmt.Sprintf("- job_name: %s\n  static_configs: [{targets: [%q]}]\n", job, target)
	}
	a := house.StartAgent(t, r, "site-a", config)
	house.StartAgent(t, r, "site-b", config)
	client.Push(t, a.URL+"/metrics/job/backup/team/web", "mine 1\n")
	client.Push(t, r.URL+"/metrics/job/other/team/db", "others 1\n")
	if got, err := client.Fetch(http.MethodPost, a.URL+"/metrics/job/x", strings.NewReader("m 1\n")); err != nil || got.Status != http.StatusForbidden || !strings.Contains(got.Body, `denied by policy.yml:2: agent "site-a" may not push to group {job="x",agent="site-a"}`) {
		t.Errorf("a push that is denied: %d %s %v", got.Status, got.Body, err)
	}
	if status := program.MustOutput(t, a.At("status")); !strings.Contains(status, "targets that it does not list: 1 (secret-"+target+"): policy.yml:2: ") {
		t.Errorf("the agent's status says\n%s", status)
	}

	// The passwords of all users are their names.
	text := "basic_auth_users:\n"
	for _, user := range []string{"prometheus", "ci"} {
		hash, err := bcrypt.GenerateFromPassword([]byte(user), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		text += fmt.Sprintf("  %s: %s\n", user, hash)
	}
	client.WriteFile(t, web, text)
	client.WriteFile(t, policy, users)
	r.Signal(t, syscall.SIGHUP)
	address := strings.TrimPrefix(r.URL, "http://")
	as := func(user string) string { return "http://" + user + ":" + user + "@" + address }
	client.Eventually(t, client.Patience, "the rules for users hold", func() error {
		got, err := client.Fetch(http.MethodPut, as("prometheus")+"/metrics/job/ci", strings.NewReader("m 1\n"))
		if err == nil && got.Status != http.StatusForbidden {
			err = fmt.Errorf("a scraper's push is %d %s", got.Status, got.Body)
		}
		return err
	})
	if got, err := client.Fetch(http.MethodPut, as("ci")+"/metrics/job/ci/team/web", strings.NewReader("pushed 1\n")); err != nil || got.Status != http.StatusOK {
		t.Errorf("a pusher's push: %d %s %v", got.Status, got.Body, err)
	}
	if got, err := client.Fetch(http.MethodGet, as("ci")+"/metrics", nil); err != nil || got.Status != http.StatusForbidden || got.Body != "denied by policy.yml:5: user \"ci\" may not read metrics\n" {
		t.Errorf("a pusher's scrape: %d %s %v", got.Status, got.Body, err)
	}
	const password = "    basic_auth: {username: prometheus, password: prometheus}\n"
	p := promserver.StartWith(t, fmt.Sprintf(`
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
  - job_name: relay
    honor_labels: true
%[2]s    static_configs: [{targets: [%[1]q]}]
  - job_name: tunnelled
%[2]s    http_sd_configs:
      - url: http://%[1]s/sd/targets
        refresh_interval: 1s
        basic_auth: {username: prometheus, password: prometheus}
`, address, password))
	p.WantValue(t, `up{agent="site-a",job="node"}`, 1)
	p.WantValue(t, `count(up{agent!=""})`, 1)
	p.WantValue(t, `mine{team="web"}`, 1)
	p.WantValue(t, `pushed{job="ci"}`, 1)
	p.WantValue(t, `relay_policy_refusals_total{action="serve"}`, 2)
	if found, err := p.Query(`others`); err != nil || len(found) != 0 {
		t.Errorf("what it may not read is there: %v %v", found, err)
	}

	for _, tt := range []struct {
		args string
		code int
		says string
	}{
		{"scrape --user=prometheus site-a node-" + target, 0, "allowed by policy.yml:4"},
		{"scrape --user=prometheus site-b node-" + target, 1, "denied by policy.yml:4"},
		{"push --agent=site-a job=backup instance=db1", 0, "allowed by policy.yml:2"},
		{"read job=backup", 1, "denied by policy.yml:3: it has no rule for anonymous"},
	} {
		got := program.Output(t, program.Command{Path: program.RelayServer(), Args: append([]string{"--data.dir=" + r.DataDir, "explain"}, strings.Fields(tt.args)...)})
		if got.Code != tt.code || !strings.Contains(got.Stdout, tt.says) {
			t.Errorf("explain %s: exit code %d, want %d with %q\n%s%s", tt.args, got.Code, tt.code, tt.says, got.Stdout, got.Stderr)
		}
	}

	client.WriteFile(t, policy, strings.Replace(users, "scrape: '{agent=\"site-a\"}'", "scrape: '{agent=\"site-b\"}'", 1))
	r.Signal(t, syscall.SIGHUP)
	p.WantValue(t, `up{agent="site-b",job="node"}`, 1)
	p.WantValue(t, `count(up{agent!=""})`, 1)

	client.WriteFile(t, policy, users+"- {user: late, reads: x}\n")
	r.Signal(t, syscall.SIGHUP)
	client.Eventually(t, client.Patience, "the log says that the file is wrong", func() error {
		if log := r.Log.String(); !strings.Contains(log, "line 6: unknown key") || !strings.Contains(log, "the relay would not start with these files") {
			return os.ErrNotExist
		}
		return nil
	})
	p.WantValue(t, `relay_config_last_reload_successful`, 0)
	p.WantValue(t, `up{agent="site-b",job="node"}`, 1)
	r.Stop(t)
	if got := program.Output(t, r.Command); got.Code != 1 || !strings.Contains(got.Stderr, "--policy.file: policy "+policy+": line 6: unknown key \"reads\" in a rule for users") {
		t.Errorf("a start with a wrong policy: exit code %d\n%s", got.Code, got.Stderr)
	}
}
