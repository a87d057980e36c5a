//go:build linux

package e2e_test

import (
	"strings"
	"testing"
)

// TestPromtool: the pages of both programs are what Prometheus' own linter calls clean.
func TestPromtool(t *testing.T) {
	t.Parallel()
	promtool := requireProgram(t, "/usr/bin/promtool", "prometheus")
	relay := startRelay(t)
	agent := startAgent(t, relay, "site-a", nodeConfig(strings.TrimPrefix(relay.url, "http://")))
	// Metrics that only exist after something happened: a push at both, one that is refused, a scrape through the tunnel.
	const good = "# HELP batch_rows Rows of the last run.\n# TYPE batch_rows gauge\nbatch_rows 12\n"
	push(t, relay.url+"/metrics/job/direct", good)
	push(t, agent.url+"/metrics/job/batch", good)
	for _, url := range []string{relay.url, agent.url} {
		if r, err := fetch("PUT", url+"/metrics/job/bad", strings.NewReader("bad 1 1000\n")); err != nil || r.status != 400 {
			t.Fatalf("a push with a timestamp: %d %v, want 400", r.status, err)
		}
	}
	mustGet(t, relay.url+relay.discovered(t)[0].Labels["__metrics_path__"])

	for name, url := range map[string]string{"relay": relay.url, "agent": agent.url} {
		t.Run(name, func(t *testing.T) {
			page := mustGet(t, url+"/metrics")
			if !strings.Contains(page, "# HELP "+map[string]string{"relay": "relay_", "agent": "relay_agent_"}[name]) {
				t.Errorf("the page has none of its own metrics")
			}
			r := outputWithInput(t, command{path: promtool, args: []string{"check", "metrics"}}, page)
			if r.code != 0 || r.stderr != "" {
				t.Errorf("promtool check metrics: exit code %d\n%s%s", r.code, r.stdout, r.stderr)
			}
		})
	}
}
