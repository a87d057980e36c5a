//go:build linux

package scrape_test

import (
	"strings"
	"testing"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/house"
	"pushrelay/internal/e2e/program"
	"pushrelay/internal/e2e/promserver"
)

// TestPromtool: the pages of both programs are what Prometheus' own linter calls clean.
func TestPromtool(t *testing.T) {
	t.Parallel()
	promtool := program.RequireProgram(t, "/usr/bin/promtool", "prometheus")
	relay := house.StartRelay(t)
	agent := house.StartAgent(t, relay, "site-a", promserver.NodeConfig(strings.TrimPrefix(relay.URL, "http://")))
	// Metrics that only exist after something happened: a push at both, one that is refused, a scrape through the tunnel.
	const good = "# HELP batch_rows Rows of the last run.\n# TYPE batch_rows gauge\nbatch_rows 12\n"
	client.Push(t, relay.URL+"/metrics/job/direct", good)
	client.Push(t, agent.URL+"/metrics/job/batch", good)
	for _, url := range []string{relay.URL, agent.URL} {
		if r, err := client.Fetch("PUT", url+"/metrics/job/bad", strings.NewReader("bad 1 1000\n")); err != nil || r.Status != 400 {
			t.Fatalf("a push with a timestamp: %d %v, want 400", r.Status, err)
		}
	}
	client.MustGet(t, relay.URL+relay.Discovered(t)[0].Labels["__metrics_path__"])

	for name, url := range map[string]string{"relay": relay.URL, "agent": agent.URL} {
		t.Run(name, func(t *testing.T) {
			page := client.MustGet(t, url+"/metrics")
			if !strings.Contains(page, "# HELP "+map[string]string{"relay": "relay_", "agent": "relay_agent_"}[name]) {
				t.Errorf("the page has none of its own metrics")
			}
			r := program.OutputWithInput(t, program.Command{Path: promtool, Args: []string{"check", "metrics"}}, page)
			if r.Code != 0 || r.Stderr != "" {
				t.Errorf("promtool check metrics: exit code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
			}
		})
	}
}
