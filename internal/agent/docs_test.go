package agent_test

import (
	"path/filepath"
	"testing"

	"pushrelay/internal/agent"
	"pushrelay/internal/relay"
	"pushrelay/internal/relayapi"
	"pushrelay/internal/relaytest"
)

// TestMetricsInTheReference: an agent that was given files, and one that came in by a join token, have all metrics between them.
func TestMetricsInTheReference(t *testing.T) {
	opts := relaytest.Options(t)
	r := relaytest.Start(t, opts)
	made, _, err := (relay.Agents{DataDir: opts.DataDir}).MakeToken(t.Context(), relayapi.NewToken{Name: "site-2", Addresses: []string{r.GRPCAddr().String()}, Uses: 1, TTLSeconds: 3600})
	if err != nil {
		t.Fatal(err)
	}
	dataDir := filepath.Join(t.TempDir(), "data")
	if _, err := agent.Enroll(t.Context(), agent.EnrollOptions{Token: made.Text, DataDir: dataDir}); err != nil {
		t.Fatal(err)
	}
	enrolled := relaytest.StartEnrolledAgent(t, func(o *agent.Options) { o.DataDir = dataDir })
	r.WaitFor(t, enrolled, "site-2")
	files := r.StartAgent(t, "site-1", "")
	relaytest.WantInReference(t, "## An agent's own", files.Telemetry(), enrolled.Telemetry())
}
