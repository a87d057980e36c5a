package relaytest_test

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"pushrelay/internal/relaytest"
)

// TestTheWholeWay: relay and agent as their defaults make them. A push through the agent, its target in the list and scraped through
// the tunnel, and the end of both; what was pushed and who was there is known to the next relay on the data dir.
func TestTheWholeWay(t *testing.T) {
	address := startExporter(t, "requests_total 3\n")
	config := filepath.Join(t.TempDir(), "agent.yml")
	write(t, config, `scrape_configs: [{job_name: app, static_configs: [{targets: ["`+address+`"], labels: {env: prod}}]}]`)
	opts := relaytest.Options(t)
	r := relaytest.Start(t, opts)
	a := r.StartAgent(t, "site-1", config)

	status, body := relaytest.Do(t, http.MethodPut, a.URL+"/metrics/job/backup", "# TYPE size gauge\nsize 42\n")
	wantStatus(t, "the push through the agent", status, body, http.StatusOK)
	const pushed = `size{agent="site-1",instance="",job="backup"} 42`
	_, metrics := relaytest.Get(t, r.URL+"/metrics")
	for _, line := range []string{pushed, `relay_agent_up{agent="site-1"} 1`, `pushgateway_http_requests_total{`} {
		if !strings.Contains(metrics, line) {
			t.Errorf("the relay's /metrics lacks %s", line)
		}
	}

	path := "/agents/site-1/targets/app-" + address + "/metrics"
	status, list := relaytest.Get(t, r.URL+"/sd/targets")
	wantStatus(t, "the list of targets", status, list, http.StatusOK)
	for _, part := range []string{`"__metrics_path__":"` + path + `"`, `"env":"prod"`, `"job":"app"`} {
		if !strings.Contains(list, part) {
			t.Errorf("/sd/targets = %s, want %s in it", list, part)
		}
	}
	status, body = relaytest.Get(t, r.URL+path)
	if status != http.StatusOK || body != "requests_total 3\n" {
		t.Errorf("scrape = %d %q", status, body)
	}

	a.Stop()
	relaytest.Eventually(t, "the relay knows that the agent is gone", func() bool {
		_, metrics := relaytest.Get(t, r.URL+"/metrics")
		return strings.Contains(metrics, `relay_agent_up{agent="site-1"} 0`)
	})
	status, body = relaytest.Get(t, r.URL+path)
	wantStatus(t, "a scrape without the agent", status, body, http.StatusServiceUnavailable)
	if _, after := relaytest.Get(t, r.URL+"/sd/targets"); !strings.Contains(after, path) || !strings.Contains(after, `"__meta_relay_agent_connected":"false"`) {
		t.Errorf("/sd/targets after the agent's end = %s, want the target in it, of an agent that is not connected", after)
	}
	r.Stop()
	if status, body := relaytest.Get(t, r.URL+"/-/ready"); status != 0 {
		t.Errorf("a relay that was stopped answers %d %q", status, body)
	}

	next := relaytest.Start(t, again(t, opts))
	if _, metrics := relaytest.Get(t, next.URL+"/metrics"); !strings.Contains(metrics, pushed) {
		t.Errorf("the next relay's /metrics lacks %s", pushed)
	}
	if _, after := relaytest.Get(t, next.URL+"/sd/targets"); !strings.Contains(after, path) {
		t.Errorf("the next relay's /sd/targets = %s, want %s in it", after, path)
	}
}
