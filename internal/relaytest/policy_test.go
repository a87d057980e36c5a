package relaytest_test

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"pushrelay/internal/agent"
	"pushrelay/internal/relay"
	"pushrelay/internal/relaytest"
)

// withPolicy returns options with a policy file, which has that text.
func withPolicy(t *testing.T, text string) relay.Options {
	t.Helper()
	opts := relaytest.Options(t)
	opts.PolicyFile = filepath.Join(t.TempDir(), "policy.yml")
	write(t, opts.PolicyFile, text)
	return opts
}

// rule replaces the policy of a relay.
func rule(t *testing.T, r *relaytest.Relay, opts relay.Options, text string) {
	t.Helper()
	write(t, opts.PolicyFile, text)
	if err := r.Reload(); err != nil {
		t.Fatal(err)
	}
}

// withUsers adds a web configuration in which each user has their name as password.
func withUsers(t *testing.T, opts *relay.Options, users ...string) {
	t.Helper()
	text := "basic_auth_users:\n"
	for _, user := range users {
		hash, err := bcrypt.GenerateFromPassword([]byte(user), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		text += fmt.Sprintf("  %s: %s\n", user, hash)
	}
	*opts.Web.WebConfigFile = filepath.Join(t.TempDir(), "web.yml")
	write(t, *opts.Web.WebConfigFile, text)
}

// as does a request as a user; nobody without a name.
func as(t *testing.T, user, method, url, body string) (status int, answer string, header http.Header) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if user != "" {
		r.SetBasicAuth(user, user)
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text), resp.Header
}

// TestPolicyOfAgents: what an agent may not push is refused while somebody waits, and out of its spool, for good; a rule that changes holds at once.
func TestPolicyOfAgents(t *testing.T) {
	var log logged
	opts := withPolicy(t, "agents:\n- name: site-*\n  push: '{job=\"ok\"}'\n")
	opts.Logger = log.logger()
	r := relaytest.Start(t, opts)
	site := r.StartAgent(t, "site-a", "")
	push := func(a *relaytest.Agent, job string, want int, says string) {
		t.Helper()
		for _, method := range []string{"PUT", "POST"} {
			status, body := relaytest.Do(t, method, a.URL+"/metrics/job/"+job, "m 1\n")
			if status != want || !strings.Contains(body, says) {
				t.Errorf("%s of %s = %d %q, want %d and %q", method, job, status, body, want, says)
			}
		}
	}
	const denied = `denied by policy.yml:2: agent "site-a" may not push to group {job="other",agent="site-a"}`
	push(site, "ok", 200, "")
	push(site, "other", 403, denied)
	status, body := relaytest.Do(t, "DELETE", site.URL+"/metrics/job/other", "")
	wantStatus(t, "a delete that is denied", status, body, 403)
	if _, metrics := relaytest.Get(t, r.URL+"/metrics"); !strings.Contains(metrics, `relay_policy_refusals_total{action="push"} 3`) || strings.Contains(metrics, `job="other"`) {
		t.Errorf("the metrics are\n%s", metrics)
	}
	if !log.has("audit=denied", `who="agent \"site-a\""`, "action=push", "rule=policy.yml:2") {
		t.Error("no line of the log says that an agent was refused")
	}
	rule(t, r, opts, "agents:\n- name: site-a\n  push: '{job=\"other\"}'\n")
	push(site, "other", 200, "")
	push(site, "ok", 403, "denied by policy.yml:2: ")
	r.Stop()
	relaytest.Eventually(t, "the agent knows that the relay is gone", func() bool {
		status, _ := relaytest.Do(t, "PUT", site.URL+"/metrics/job/ok", "m 2\n")
		return status == 202
	})
	push(site, "other", 202, "")
	r = relaytest.Start(t, opts)
	site = site.Restart(t, func(o *agent.Options) { o.RelayAddresses = []string{r.GRPCAddr().String()} })
	relaytest.Eventually(t, "nothing waits at the agent any more", func() bool {
		_, text := relaytest.Get(t, site.URL+"/api/v1/status")
		return strings.Contains(text, `"entries":0`) && strings.Contains(text, `"connected":true`)
	})
	_, spool := relaytest.Get(t, site.URL+"/api/v1/spool")
	if !strings.Contains(spool, `denied by policy.yml:2: agent \"site-a\" may not push to group {job=\"ok\",agent=\"site-a\"}`) {
		t.Errorf("the spool does not say what was rejected: %s", spool)
	}
	if _, metrics := relaytest.Get(t, r.URL+"/metrics"); !strings.Contains(metrics, `m{agent="site-a",instance="",job="ok"} 1`) || !strings.Contains(metrics, `m{agent="site-a",instance="",job="other"} 1`) {
		t.Errorf("the metrics are\n%s", metrics)
	}
}

// TestPolicyOfTargets: what an agent may not serve is not listed nor scraped, the agent is told, and a rule that changes brings it back.
func TestPolicyOfTargets(t *testing.T) {
	address := startExporter(t, "up 1\n")
	config := filepath.Join(t.TempDir(), "agent.yml")
	text := "scrape_configs:\n"
	for _, job := range []string{"node", "secret", "app"} {
		text += "- job_name: " + job + "\n  static_configs: [{targets: [\"" + address + "\"]}]\n"
	}
	write(t, config, text)
	var log logged
	opts := withPolicy(t, "agents:\n- name: site-a\n  serve: [node, app]\n")
	opts.Logger = log.logger()
	r := relaytest.Start(t, opts)
	site := r.StartAgent(t, "site-a", config)
	listed := func() (jobs string) {
		t.Helper()
		_, targets := relaytest.Get(t, r.URL+"/sd/targets")
		_, agents := relaytest.Get(t, r.URL+"/api/v1/agents")
		for _, job := range []string{"node", "secret", "app"} {
			in, known := strings.Contains(targets, `"job":"`+job+`"`), strings.Contains(agents, `"job":"`+job+`"`)
			if in != known {
				t.Errorf("%s is in one list and not in the other", job)
			}
			if in {
				jobs += job + " "
			}
		}
		return jobs
	}
	told := func(want string) {
		t.Helper()
		relaytest.Eventually(t, "the agent is told of "+want, func() bool {
			_, text := relaytest.Get(t, site.URL+"/api/v1/status")
			return strings.Contains(text, `"targets_denied":"`+want)
		})
	}
	if jobs := listed(); jobs != "node app " {
		t.Errorf("listed are %q, want node and app", jobs)
	}
	told(fmt.Sprintf(`1 (secret-%s): policy.yml:2: agent \"site-a\" may not serve targets of job \"secret\"`, address))
	_, agents := relaytest.Get(t, r.URL+"/api/v1/agents")
	if !strings.Contains(agents, `"targets_denied":1`) {
		t.Errorf("/api/v1/agents = %s", agents)
	}
	status, body, header := as(t, "", "GET", r.URL+"/agents/site-a/targets/secret-"+address+"/metrics", "")
	if status != 403 || header.Get("X-Relay-Error") != "denied" || !strings.Contains(body, "denied: policy.yml:2: ") {
		t.Errorf("a scrape of it = %d %q", status, body)
	}
	if !log.has("targets of an agent are not listed", "audit=denied", "count=1", "secret-"+address) {
		t.Error("the log does not say that a target is not listed")
	}

	rule(t, r, opts, "agents:\n- name: site-a\n  serve: '*'\n  max_targets: 2\n")
	if jobs := listed(); jobs != "node secret " {
		t.Errorf("with two targets listed are %q", jobs)
	}
	told(fmt.Sprintf(`1 (app-%s): policy.yml:2: agent \"site-a\" may not serve more than 2 targets (max_targets)"`, address))
	rule(t, r, opts, "agents:\n- name: site-a\n  serve: '*'\n")
	if jobs := listed(); jobs != "node secret app " {
		t.Errorf("with all allowed listed are %q", jobs)
	}
	told(`"`)
	status, body = relaytest.Get(t, r.URL+"/agents/site-a/targets/secret-"+address+"/metrics")
	wantStatus(t, "a scrape of what is allowed again", status, body, 200)
	_, metrics := relaytest.Get(t, r.URL+"/metrics")
	if !strings.Contains(metrics, `relay_policy_refusals_total{action="serve"} 2`) {
		t.Error("targets that are left out are not counted once each")
	}
}

// TestQuotasByName: a rule's quota counts instead of the flag's, and may be more or less.
func TestQuotasByName(t *testing.T) {
	opts := withPolicy(t, "agents:\n- {name: small, push: '{job=~\".+\"}', max_groups: 1, max_series: 2}\n- {name: large, push: '{job=~\".+\"}', max_groups: 0}\n- {name: other, push: '{job=~\".+\"}'}\n")
	opts.AgentMaxGroups = 2
	r := relaytest.Start(t, opts)
	for name, tt := range map[string]struct {
		groups int
		says   string
	}{
		"small": {1, `no more than 1 groups of "small" (max_groups, policy.yml:2)`},
		"large": {4, ""},
		"other": {2, `no more than 2 groups of "other" (--agents.max-groups)`},
	} {
		a := r.StartAgent(t, name, "")
		for i := range 4 {
			status, body := relaytest.Do(t, "PUT", fmt.Sprintf("%s/metrics/job/j%d", a.URL, i), "m 1\n")
			full := i >= tt.groups
			if full != (status == 202) || full && !strings.Contains(body, tt.says) {
				t.Errorf("%s: group %d = %d %q", name, i+1, status, body)
			}
		}
		if name != "small" {
			continue
		}
		if status, body := relaytest.Do(t, "PUT", a.URL+"/metrics/job/j0", "m 1\nn 1\no 1\n"); status != 202 || !strings.Contains(body, `no more than 2 series of "small" (max_series, policy.yml:2)`) {
			t.Errorf("series = %d %q", status, body)
		}
	}
	_, metrics := relaytest.Get(t, r.URL+"/metrics")
	for line, want := range map[string]bool{
		`relay_agent_limit_groups{agent="small"} 1`: true, `relay_agent_limit_series{agent="small"} 2`: true,
		`relay_agent_limit_groups{agent="large"} 0`: true, `relay_agent_limit_groups{agent="other"}`: false, "relay_agents_limit_groups 2": true,
	} {
		if strings.Contains(metrics, line) != want {
			t.Errorf("%s is among the metrics: %v", line, !want)
		}
	}
}

const userRules = `users:
  - user: scraper
    read: '{team="web"}'
    scrape: '{agent="site-a",job="node"}'
    status: true
  - user: viewer
    read: '{team="web"}'
  - user: ci
    push: '{job="ci"}'
    delete: '{job="ci",instance="old"}'
  - user: ops
    admin: true
`

// TestPolicyOfUsers: each route by each kind of user.
func TestPolicyOfUsers(t *testing.T) {
	address := startExporter(t, "up 1\n")
	config := filepath.Join(t.TempDir(), "agent.yml")
	write(t, config, "scrape_configs:\n- job_name: node\n  static_configs: [{targets: [\""+address+"\"]}]\n- job_name: app\n  metrics_path: /app\n  static_configs: [{targets: [\""+address+"\"]}]\n")
	opts := withPolicy(t, "agents:\n- {name: '*', push: '{job=~\".+\"}', serve: '*'}\n")
	withUsers(t, &opts)
	opts.EnableLifecycle = true
	r := relaytest.Start(t, opts)
	r.StartAgent(t, "site-a", config)
	r.StartAgent(t, "site-b", config)
	for _, group := range []string{"job/web/team/web", "job/db/team/db", "job/ci/instance/old", "job/ci/instance/new"} {
		status, body := relaytest.Do(t, "PUT", r.URL+"/metrics/"+group, "m_"+strings.ReplaceAll(group, "/", "_")+" 1\n")
		wantStatus(t, group, status, body, 200)
	}
	users := opts
	withUsers(t, &users, "scraper", "viewer", "ci", "ops", "stranger")
	text, err := os.ReadFile(*users.Web.WebConfigFile)
	if err != nil {
		t.Fatal(err)
	}
	write(t, *opts.Web.WebConfigFile, string(text))
	rule(t, r, opts, userRules)

	node, app := "/agents/site-a/targets/node-"+address+"/metrics", "/agents/site-a/targets/app-"+address+"/metrics"
	for _, tt := range []struct {
		user, method, path string
		status             int
		has, lacks         string
	}{
		{"scraper", "GET", "/metrics", 200, "relay_policy_refusals_total", "m_job_db"},
		{"scraper", "GET", "/metrics", 200, `m_job_web_team_web{instance="",job="web",team="web"} 1`, "m_job_ci"},
		{"scraper", "GET", `/metrics?match[]={team=~".*"}`, 200, "m_job_web", "relay_"},
		{"scraper", "GET", `/metrics?match[]={team="db"}`, 200, "", "m_job"},
		{"viewer", "GET", "/metrics", 200, "m_job_web", "relay_"},
		{"viewer", "HEAD", "/metrics", 200, "", ""},
		{"ci", "GET", "/metrics", 403, "denied by policy.yml:8: user \"ci\" may not read metrics", "m_job"},
		{"ci", "HEAD", "/metrics", 403, "", ""},
		{"stranger", "GET", "/metrics", 403, "denied by policy.yml:1: it has no rule for user \"stranger\", who may not read metrics", ""},
		{"viewer", "GET", "/api/v1/metrics", 200, "m_job_web", "m_job_db"},
		{"ci", "GET", "/api/v1/metrics", 403, `{"status":"error","errorType":"forbidden","error":"denied by policy.yml:8: `, ""},
		{"viewer", "GET", `/api/v1/groups?match[]={job=~".%2B"}`, 200, `"selected":1`, `"db"`},
		{"ci", "GET", `/api/v1/groups?match[]={job="ci"}`, 403, "may not read any group", ""},
		{"viewer", "DELETE", `/api/v1/groups?match[]={job="web"}`, 403, "may not delete any group", ""},
		{"ci", "DELETE", `/api/v1/groups?match[]={job=~".%2B"}&dry_run=true`, 200, `"deleted":1`, `"new"`},
		{"ci", "PUT", "/metrics/job/ci/instance/x", 200, "", ""},
		{"ci", "POST", "/metrics/job@base64/d2Vi", 403, "denied by policy.yml:8: user \"ci\" may not push to group {job=\"web\"}", ""},
		{"ci", "PUT", "/metrics/job/web/team/web", 403, `may not push to group {job="web",team="web"}`, ""},
		{"ci", "DELETE", "/metrics/job/ci/instance/new", 403, `may not delete group {job="ci",instance="new"}`, ""},
		{"ci", "DELETE", "/metrics/job/ci/instance/old", 202, "", ""},
		{"scraper", "PUT", "/metrics/job/web/team/web", 403, "may not push", ""},
		{"scraper", "GET", "/api/v1/status", 200, "build_information", ""},
		{"viewer", "GET", "/api/v1/status", 403, "may not read the relay's own metrics and status", "build_information"},
		{"scraper", "GET", "/api/v1/agents", 200, `"agent":"site-a"`, `site-b`},
		{"scraper", "GET", "/api/v1/agents", 200, `"job":"node"`, `"job":"app"`},
		{"viewer", "GET", "/api/v1/agents", 403, "may not scrape any target", "site-a"},
		{"scraper", "GET", "/sd/targets", 200, node, app},
		{"scraper", "GET", "/sd/targets", 200, "site-a", "site-b"},
		{"viewer", "GET", "/sd/targets", 403, "may not scrape any target", "[]"},
		{"scraper", "GET", "/clients", 200, "127.0.0.1", ""},
		{"viewer", "GET", "/clients", 403, "denied by policy.yml:6", ""},
		{"scraper", "GET", node, 200, "up 1", ""},
		{"scraper", "GET", app, 403, "may not scrape target \"app-" + address + "\" of agent \"site-a\", if there is one", ""},
		{"scraper", "GET", "/agents/site-b/targets/node-" + address + "/metrics", 403, "if there is one", ""},
		{"scraper", "GET", "/agents/site-z/targets/none/metrics", 403, "if there is one", ""},
		{"viewer", "GET", node, 403, "", "up 1"},
		{"viewer", "GET", "/", 200, "<strong>1</strong>", "The last hour"},
		{"viewer", "GET", "/groups", 200, "team=<b>\"web\"", "team=<b>\"db\""},
		{"viewer", "GET", "/group/job/db/team/db", 404, "There is no such group", "m_job_db"},
		{"viewer", "GET", "/groups/delete?q=web", 200, "Nothing is left to delete here", "checkbox"},
		{"viewer", "GET", "/agents", 200, "There is no agent that you may see", "site-b"},
		{"viewer", "GET", "/status", 403, "is not for you to read", "policy.yml"},
		{"scraper", "GET", "/status", 200, "Memory of the store", ""},
		{"scraper", "GET", "/", 200, "of 1</small>", "site-b"},
		{"scraper", "GET", "/targets", 200, "site-a", "site-b"},
		{"scraper", "GET", "/agents/site-b", 404, "", "127.0.0.1"},
		{"ci", "GET", "/", 403, "may not read anything", "<html"},
		{"ci", "GET", "/events", 403, "may not read anything", ""},
		{"ci", "POST", "/groups/delete", 403, "load the page again", ""},
		{"viewer", "POST", "/-/reload", 403, "may not reload its configuration", ""},
		{"viewer", "PUT", "/api/v1/admin/wipe", 403, "may not wipe the store", ""},
		{"scraper", "DELETE", "/api/v1/agents/site-a", 403, "may not forget agents", ""},
		{"scraper", "GET", "/debug/pprof/cmdline", 403, "may not read its profiles", ""},
		{"ops", "POST", "/-/reload", 200, "", ""},
		{"ops", "GET", "/debug/pprof/cmdline", 200, "", ""},
		{"ops", "DELETE", "/api/v1/agents/site-a", 409, "agent is connected", ""},
		{"ops", "GET", "/metrics", 403, "", "relay_"},
		{"stranger", "GET", "/-/ready", 200, "OK", ""},
		{"stranger", "GET", "/-/healthy", 200, "OK", ""},
		{"viewer", "POST", "/-/quit", 403, "may not end the relay", ""},
		{"ops", "PUT", "/api/v1/admin/wipe", 202, "", ""},
	} {
		status, body, header := as(t, tt.user, tt.method, r.URL+tt.path, "m 1\n")
		if status != tt.status || !strings.Contains(body, tt.has) || tt.lacks != "" && strings.Contains(body, tt.lacks) {
			t.Errorf("%s of %s by %s = %d, want %d with %q and without %q\n%s", tt.method, tt.path, tt.user, status, tt.status, tt.has, tt.lacks, body)
		}
		if scrape := strings.HasPrefix(tt.path, "/agents/"); scrape && (header.Get("X-Relay-Error") == "denied") != (status == 403) {
			t.Errorf("%s: X-Relay-Error is %q", tt.path, header.Get("X-Relay-Error"))
		}
	}
	// Whether there is such a target looks the same as a proxy.
	for host, want := range map[string]string{
		address:     `denied: policy.yml:6: user "viewer" may not scrape a target with the instance or address "` + address + `", if there is one`,
		"none:9100": `denied: policy.yml:6: user "viewer" may not scrape a target with the instance or address "none:9100", if there is one`,
	} {
		status, body := proxied(t, r, "viewer", "http://"+host+"/metrics")
		if status != 403 || strings.TrimSpace(body) != want {
			t.Errorf("%s by proxy = %d %q", host, status, body)
		}
	}
	if status, body := proxied(t, r, "scraper", "http://"+address+"/metrics?_agent=site-a"); status != 200 || body != "up 1\n" {
		t.Errorf("by proxy = %d %q", status, body)
	}

	rule(t, r, opts, "users:\n- {user: viewer, read: '{team=\"db\"}'}\n")
	status, body, _ := as(t, "viewer", "PUT", r.URL+"/metrics/job/x", "m 1\n")
	wantStatus(t, "a push after a reload", status, body, 403)
	status, body, _ = as(t, "scraper", "GET", r.URL+"/metrics", "")
	wantStatus(t, "a scrape after a reload", status, body, 403)
}

// proxied asks the relay as a proxy, with the password of its port.
func proxied(t *testing.T, r *relaytest.Relay, user, address string) (status int, body string) {
	t.Helper()
	proxy := &url.URL{Scheme: "http", Host: r.Addr().String(), User: url.UserPassword(user, user)}
	transport := &http.Transport{Proxy: http.ProxyURL(proxy)}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// TestNamesAreProved: a name that comes without a password that the file asks for is nobody's, and nobody has the rule for nobody.
func TestNamesAreProved(t *testing.T) {
	opts := withPolicy(t, "users:\n- {user: ops, admin: true, status: true}\n- {anonymous: true, read: '{job=~\".+\"}'}\n")
	opts.EnableLifecycle = true
	r := relaytest.Start(t, opts)
	for _, user := range []string{"", "ops", "x"} {
		status, body, _ := as(t, user, "POST", r.URL+"/-/reload", "")
		if status != 403 || !strings.Contains(body, "denied by policy.yml:3: anonymous may not reload its configuration") {
			t.Errorf("a reload as %q without a web configuration = %d %q", user, status, body)
		}
		status, body, _ = as(t, user, "GET", r.URL+"/metrics", "")
		wantStatus(t, "a scrape", status, body, 200)
	}
}
