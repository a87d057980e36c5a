package relaytest_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pushrelay/internal/relay"
	"pushrelay/internal/relaytest"
)

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// startExporter serves a service behind an agent.
func startExporter(t *testing.T, text string) (address string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) }))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

func wantStatus(t *testing.T, what string, got int, body string, want int) {
	t.Helper()
	if got != want {
		t.Errorf("%s = %d %q, want %d", what, got, body, want)
	}
}

func TestPushThroughAnAgent(t *testing.T) {
	r := relaytest.Start(t, relaytest.Options(t))
	a := r.StartAgent(t, "site-1", "")
	for _, tt := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{method: "PUT", path: "/metrics/job/backup", body: "# TYPE size gauge\nsize 42\n", status: 200},
		{method: "POST", path: "/metrics/job/backup", body: "more 1\n", status: 200},
		{method: "PUT", path: "/metrics/job/backup/agent/other", body: "m 1\n", status: 400, says: "agent"},
		{method: "PUT", path: "/metrics/job/clash", body: "# TYPE size counter\nsize 42\n", status: 400, says: "is not a"},
		{method: "PUT", path: "/metrics/job/broken", body: "m x\n", status: 400, says: "text format parsing error in line 1"},
		{method: "DELETE", path: "/metrics/job/nothing", status: 202},
	} {
		status, body := relaytest.Do(t, tt.method, a.URL+tt.path, tt.body)
		wantStatus(t, tt.method+" "+tt.path, status, body, tt.status)
		if !strings.Contains(body, tt.says) {
			t.Errorf("%s %s says %q, want %q in it", tt.method, tt.path, body, tt.says)
		}
	}
	_, metrics := relaytest.Get(t, r.URL+"/metrics")
	for _, line := range []string{
		`size{agent="site-1",instance="",job="backup"} 42`, `more{agent="site-1",instance="",job="backup"} 1`,
		`push_failure_time_seconds{agent="site-1",instance="",job="backup"} 0`, `relay_agent_up{agent="site-1"} 1`,
	} {
		if !strings.Contains(metrics, line+"\n") {
			t.Errorf("the relay's /metrics lacks %s", line)
		}
	}
	status, body := relaytest.Do(t, "PUT", r.URL+"/metrics/job/backup/agent/site-1", "size 1\n")
	wantStatus(t, "a direct push into the agent's group", status, body, http.StatusForbidden)

	status, body = relaytest.Do(t, "DELETE", a.URL+"/metrics/job/backup", "")
	wantStatus(t, "the delete", status, body, http.StatusAccepted)
	if _, metrics := relaytest.Get(t, r.URL+"/metrics"); strings.Contains(metrics, `job="backup"`) {
		t.Error("the group is still there after its delete")
	}
}

func TestScrapeThroughAnAgent(t *testing.T) {
	first, second := startExporter(t, "first 1\n"), startExporter(t, "second 1\n")
	dir := t.TempDir()
	config, files := filepath.Join(dir, "agent.yml"), filepath.Join(dir, "targets.yml")
	write(t, files, `[{targets: ["`+first+`"], labels: {env: test, instance: one}}]`)
	write(t, config, "scrape_configs: [{job_name: app, file_sd_configs: [{files: [targets.yml]}]}]")

	r := relaytest.Start(t, relaytest.Options(t))
	a := r.StartAgent(t, "site-1", config)
	status, body := relaytest.Get(t, r.URL+"/agents/site-1/targets/app-"+first+"/metrics")
	if status != http.StatusOK || body != "first 1\n" {
		t.Errorf("scrape = %d %q", status, body)
	}
	_, targets := relaytest.Get(t, r.URL+"/sd/targets")
	for _, part := range []string{`"instance":"one"`, `"env":"test"`, `"agent":"site-1"`, `"job":"app"`, `"__metrics_path__":"/agents/site-1/targets/app-` + first + `/metrics"`} {
		if !strings.Contains(targets, part) {
			t.Errorf("/sd/targets = %s, lacks %s", targets, part)
		}
	}

	// A file that changes is followed without being told, a broken one keeps what was there.
	listed := func(address string) bool {
		_, targets := relaytest.Get(t, r.URL+"/sd/targets")
		return strings.Contains(targets, address)
	}
	write(t, files, `[{targets: ["`+first+`", "`+second+`"]}]`)
	relaytest.Eventually(t, "a new target is announced", func() bool { return listed(second) })
	write(t, files, `[{targets: [`)
	relaytest.Eventually(t, "the broken file is noticed", func() bool {
		_, metrics := relaytest.Get(t, a.URL+"/metrics")
		return strings.Contains(metrics, "relay_agent_failed_target_files 1\n")
	})
	if !listed(second) {
		t.Error("a broken target file took its targets away")
	}
	write(t, config, "scrape_configs: [{job_name: app}]")
	status, body = relaytest.Do(t, "POST", a.URL+"/-/reload", "")
	wantStatus(t, "reload", status, body, http.StatusOK)
	relaytest.Eventually(t, "the targets are gone", func() bool { return !listed(first) })
	write(t, config, "scrape_configs: [{job: app}]")
	status, body = relaytest.Do(t, "POST", a.URL+"/-/reload", "")
	wantStatus(t, "reload of a bad file", status, body, http.StatusInternalServerError)
}

func TestAgentWithoutARelay(t *testing.T) {
	r := relaytest.Start(t, relaytest.Options(t))
	a := r.StartAgent(t, "site-1", "")
	r.Stop()
	relaytest.Eventually(t, "the agent knows", func() bool {
		_, ready := relaytest.Get(t, a.URL+"/-/ready")
		return strings.Contains(ready, "not connected since")
	})
	status, body := relaytest.Do(t, "PUT", a.URL+"/metrics/job/j", "m 1\n")
	if status != http.StatusAccepted || !strings.Contains(body, "kept at the agent: relay "+r.GRPCAddr().String()+" is not attached: ") {
		t.Errorf("a push = %d %q, want 202 with the reason", status, body)
	}
	if status, _ := relaytest.Get(t, a.URL+"/-/ready"); status != http.StatusOK {
		t.Errorf("ready = %d", status)
	}
}

func TestKnownAgentsSurviveARestart(t *testing.T) {
	opts := relaytest.Options(t)
	config := filepath.Join(t.TempDir(), "agent.yml")
	write(t, config, "scrape_configs: [{job_name: app, static_configs: [{targets: [\"localhost:1\"]}]}]")
	r := relaytest.Start(t, opts)
	a := r.StartAgent(t, "site-1", config)
	a.Stop()
	r.Stop()
	// The registerer and the ports are new, the data dir is the same.
	r = relaytest.Start(t, opts)
	_, targets := relaytest.Get(t, r.URL+"/sd/targets")
	if !strings.Contains(targets, `"__meta_relay_agent_connected":"false"`) {
		t.Errorf("/sd/targets = %s, want the departed agent's target", targets)
	}
	status, body := relaytest.Get(t, r.URL+"/agents/site-1/targets/app-localhost:1/metrics")
	wantStatus(t, "a scrape of the departed agent", status, body, http.StatusServiceUnavailable)
	status, body = relaytest.Do(t, "DELETE", r.URL+"/api/v1/agents/site-1", "")
	wantStatus(t, "forgetting it", status, body, http.StatusAccepted)
	if _, targets := relaytest.Get(t, r.URL+"/sd/targets"); targets != "[]\n" {
		t.Errorf("/sd/targets = %q after it was forgotten", targets)
	}
}

func TestQuitNeedsLifecycle(t *testing.T) {
	r := relaytest.Start(t, relaytest.Options(t))
	status, body := relaytest.Do(t, "PUT", r.URL+"/-/quit", "")
	if status != http.StatusForbidden || strings.TrimSpace(body) != "Lifecycle API is not enabled." {
		t.Errorf("quit = %d %q", status, body)
	}
}

func TestSecondRelayOnADataDirChangesNothing(t *testing.T) {
	opts := relaytest.Options(t)
	relaytest.Start(t, opts)
	certificate := filepath.Join(opts.DataDir, "authority", "relay.crt")
	before, err := os.ReadFile(certificate)
	if err != nil {
		t.Fatal(err)
	}
	other := relaytest.Options(t)
	other.DataDir, other.GRPCServerNames = opts.DataDir, []string{"other.example.org"}
	second, err := relay.New(other)
	if err == nil {
		err = second.Run(t.Context())
	}
	if err == nil || !strings.Contains(err.Error(), opts.DataDir+" is in use by another relay") {
		t.Errorf("the second relay: %v, want that the data dir is in use", err)
	}
	if after, err := os.ReadFile(certificate); err != nil || string(after) != string(before) {
		t.Errorf("the second relay replaced the certificate of the first (%v)", err)
	}
}
