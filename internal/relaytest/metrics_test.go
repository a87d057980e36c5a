package relaytest_test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"pushrelay/internal/agentapi"
	"pushrelay/internal/relaytest"
)

// TestAgentsOwnPages: what an agent tells of itself, to Prometheus and to its own commands, after all that it can count has
// happened once.
func TestAgentsOwnPages(t *testing.T) {
	address := startExporter(t, "up_to 1\n")
	config := filepath.Join(t.TempDir(), "agent.yml")
	write(t, config, `scrape_configs: [{job_name: app, static_configs: [{targets: ["`+address+`", "127.0.0.1:1"], labels: {env: prod}}]}]`)
	r := relaytest.Start(t, relaytest.Options(t))
	a := r.StartAgent(t, "site-1", config)
	for path, want := range map[string]int{"app-" + address: 200, "app-127.0.0.1:1": 502, "invented": 404} {
		status, body := relaytest.Get(t, r.URL+"/agents/site-1/targets/"+path+"/metrics")
		wantStatus(t, "scrape of "+path, status, body, want)
	}
	relaytest.Do(t, "PUT", a.URL+"/metrics/job/j", "m 1\n")
	relaytest.Do(t, "PUT", a.URL+"/metrics/job/j", "m x\n")

	_, metrics := relaytest.Get(t, a.URL+"/metrics")
	for _, line := range []string{
		`relay_agent_scrapes_total{result="ok",target="app-` + address + `"} 1`,
		`relay_agent_scrapes_total{result="target_unreachable",target="app-127.0.0.1:1"} 1`,
		`relay_agent_scrape_duration_seconds_count{target="app-` + address + `"} 1`,
		`relay_agent_sessions_total{relay="` + r.GRPCAddr().String() + `"} 1`,
		`relay_agent_pushes_total{code="200"} 1`, `relay_agent_pushes_total{code="400"} 1`,
	} {
		if !strings.Contains(metrics, line+"\n") {
			t.Errorf("/metrics lacks %s", line)
		}
	}
	if strings.Contains(metrics, "invented") {
		t.Error("/metrics has a label that a stranger invented")
	}
	problems, err := promlint.New(strings.NewReader(metrics)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}

	var page struct{ Data agentapi.Status }
	_, body := relaytest.Get(t, a.URL+"/api/v1/status")
	if err := json.Unmarshal([]byte(body), &page); err != nil {
		t.Fatal(err)
	}
	if len(page.Data.Relays) != 1 || !page.Data.Relays[0].Connected || len(page.Data.Targets) != 2 {
		t.Fatalf("/api/v1/status = %s", body)
	}
	for _, target := range page.Data.Targets {
		failed := target.Address == "127.0.0.1:1"
		if target.LastScrape == nil || failed != strings.Contains(target.LastError, "target_unreachable") || target.Labels["env"] != "prod" {
			t.Errorf("/api/v1/status tells of a target %+v", target)
		}
		if target.Target != "app-"+target.Address || target.Job != "app" || target.Instance != target.Address || failed != (target.LastStatus != 200) || target.LastDurationSeconds <= 0 {
			t.Errorf("/api/v1/status tells of a target %+v", target)
		}
	}
}
