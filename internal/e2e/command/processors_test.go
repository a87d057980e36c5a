//go:build linux

package command_test

import (
	"fmt"
	"os"
	"testing"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/house"
)

// TestProcessors: an agent takes one processor of the machine that it shares, or as many as the environment says. Not in parallel
// with others: the environment is that of all.
func TestProcessors(t *testing.T) {
	r := house.StartRelay(t)
	for _, tt := range []struct {
		environment string
		want        float64
	}{
		{"", 1},
		{"2", 2},
	} {
		t.Setenv("GOMAXPROCS", tt.environment)
		if tt.environment == "" {
			os.Unsetenv("GOMAXPROCS") // until the next Setenv, or the end of the test
		}
		client.WantSeries(t, house.StartAgent(t, r, fmt.Sprintf("site-%v", tt.want), "scrape_configs: []\n").URL, "go_sched_gomaxprocs_threads", tt.want)
	}
}
