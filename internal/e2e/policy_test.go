//go:build linux

package e2e_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

// TestPolicyWithPrometheus: a Prometheus with a password finds, scrapes and reads what its rule allows and nothing else; a pusher with another one
// pushes and does not read; an agent serves what it may. SIGHUP takes it away at once, and a wrong file keeps the relay from starting.
func TestPolicyWithPrometheus(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	policy, web := filepath.Join(dir, "policy.yml"), filepath.Join(dir, "web.yml")
	const agents = "agents:\n- {name: site-*, push: '{job=\"backup\"}', serve: node}\n"
	const users = agents + "users:\n- {user: prometheus, read: '{team=\"web\"}', scrape: '{agent=\"site-a\"}', status: true}\n- {user: ci, push: '{job=\"ci\"}'}\n"
	writeFile(t, policy, agents)
	writeFile(t, web, "# no passwords yet\n")
	r := startRelay(t, "--policy.file="+policy, "--web.config.file="+web)
	target := serveHandler(t, &rowsTarget{})
	config := "scrape_configs:\n"
	for _, job := range []string{"node", "secret"} {
		config += fmt.Sprintf("- job_name: %s\n  static_configs: [{targets: [%q]}]\n", job, target)
	}
	a := startAgent(t, r, "site-a", config)
	startAgent(t, r, "site-b", config)
	push(t, a.url+"/metrics/job/backup/team/web", "mine 1\n")
	push(t, r.url+"/metrics/job/other/team/db", "others 1\n")
	if got, err := fetch(http.MethodPost, a.url+"/metrics/job/x", strings.NewReader("m 1\n")); err != nil || got.status != http.StatusForbidden || !strings.Contains(got.body, `denied by policy.yml:2: agent "site-a" may not push to group {job="x",agent="site-a"}`) {
		t.Errorf("a push that is denied: %d %s %v", got.status, got.body, err)
	}
	if status := mustOutput(t, a.at("status")); !strings.Contains(status, "targets that it does not list: 1 (secret-"+target+"): policy.yml:2: ") {
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
	writeFile(t, web, text)
	writeFile(t, policy, users)
	r.signal(t, syscall.SIGHUP)
	address := strings.TrimPrefix(r.url, "http://")
	as := func(user string) string { return "http://" + user + ":" + user + "@" + address }
	eventually(t, patience, "the rules for users hold", func() error {
		got, err := fetch(http.MethodPut, as("prometheus")+"/metrics/job/ci", strings.NewReader("m 1\n"))
		if err == nil && got.status != http.StatusForbidden {
			err = fmt.Errorf("a scraper's push is %d %s", got.status, got.body)
		}
		return err
	})
	if got, err := fetch(http.MethodPut, as("ci")+"/metrics/job/ci/team/web", strings.NewReader("pushed 1\n")); err != nil || got.status != http.StatusOK {
		t.Errorf("a pusher's push: %d %s %v", got.status, got.body, err)
	}
	if got, err := fetch(http.MethodGet, as("ci")+"/metrics", nil); err != nil || got.status != http.StatusForbidden || got.body != "denied by policy.yml:5: user \"ci\" may not read metrics\n" {
		t.Errorf("a pusher's scrape: %d %s %v", got.status, got.body, err)
	}
	const password = "    basic_auth: {username: prometheus, password: prometheus}\n"
	p := startPrometheusWith(t, fmt.Sprintf(`
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
	p.wantValue(t, `up{agent="site-a",job="node"}`, 1)
	p.wantValue(t, `count(up{agent!=""})`, 1)
	p.wantValue(t, `mine{team="web"}`, 1)
	p.wantValue(t, `pushed{job="ci"}`, 1)
	p.wantValue(t, `relay_policy_refusals_total{action="serve"}`, 2)
	if found, err := p.query(`others`); err != nil || len(found) != 0 {
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
		got := output(t, command{path: programs.relayServer, args: append([]string{"--data.dir=" + r.dataDir, "explain"}, strings.Fields(tt.args)...)})
		if got.code != tt.code || !strings.Contains(got.stdout, tt.says) {
			t.Errorf("explain %s: exit code %d, want %d with %q\n%s%s", tt.args, got.code, tt.code, tt.says, got.stdout, got.stderr)
		}
	}

	writeFile(t, policy, strings.Replace(users, "scrape: '{agent=\"site-a\"}'", "scrape: '{agent=\"site-b\"}'", 1))
	r.signal(t, syscall.SIGHUP)
	p.wantValue(t, `up{agent="site-b",job="node"}`, 1)
	p.wantValue(t, `count(up{agent!=""})`, 1)

	writeFile(t, policy, users+"- {user: late, reads: x}\n")
	r.signal(t, syscall.SIGHUP)
	eventually(t, patience, "the log says that the file is wrong", func() error {
		if log := r.log.String(); !strings.Contains(log, "line 6: unknown key") || !strings.Contains(log, "the relay would not start with these files") {
			return os.ErrNotExist
		}
		return nil
	})
	p.wantValue(t, `relay_config_last_reload_successful`, 0)
	p.wantValue(t, `up{agent="site-b",job="node"}`, 1)
	r.stop(t)
	if got := output(t, r.command); got.code != 1 || !strings.Contains(got.stderr, "--policy.file: policy "+policy+": line 6: unknown key \"reads\" in a rule for users") {
		t.Errorf("a start with a wrong policy: exit code %d\n%s", got.code, got.stderr)
	}
}
