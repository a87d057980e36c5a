//go:build linux

package command_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/house"
)

// Memory of an agent that has nothing to do: what a small machine in a closed network has to spare for it.
const (
	idleTargets       = 20
	idleResidentBytes = 25 << 20
)

// TestIdleMemory: an agent with 20 targets, each of which was scraped, needs at most 25 MiB after a minute of rest.
func TestIdleMemory(t *testing.T) {
	t.Parallel()
	relay := house.StartRelay(t)
	address := strings.TrimPrefix(relay.URL, "http://")
	config := "scrape_configs:\n"
	for i := range idleTargets {
		config += fmt.Sprintf("  - job_name: job-%d\n    static_configs: [{targets: [%q]}]\n", i, address)
	}
	agent := house.StartAgent(t, relay, "site-a", config)
	for _, group := range relay.Discovered(t) {
		if r, err := client.Fetch(http.MethodGet, relay.URL+group.Labels["__metrics_path__"], nil); err != nil || r.Status != http.StatusOK {
			t.Fatalf("scrape: %d, %v", r.Status, err)
		}
	}
	<-time.After(time.Minute)
	resident := agent.StatusBytes(t, "VmRSS:")
	t.Logf("%.1f MiB resident (%.1f MiB of the program's file), %.1f MiB at most until now", float64(resident)/(1<<20),
		float64(agent.StatusBytes(t, "RssFile:"))/(1<<20), float64(agent.PeakBytes(t))/(1<<20))
	if resident > idleResidentBytes {
		t.Errorf("the idle agent has %d bytes resident, want at most %d", resident, idleResidentBytes)
	}
	if n := len(relay.Discovered(t)); n != idleTargets {
		t.Errorf("%d targets are announced, want %d", n, idleTargets)
	}
}
