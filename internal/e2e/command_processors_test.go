//go:build linux

package e2e_test

import (
	"fmt"
	"os"
	"testing"
)

// TestProcessors: an agent takes one processor of the machine that it shares, or as many as the environment says. Not in parallel
// with others: the environment is that of all.
func TestProcessors(t *testing.T) {
	r := startRelay(t)
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
		wantSeries(t, startAgent(t, r, fmt.Sprintf("site-%v", tt.want), "scrape_configs: []\n").url, "go_sched_gomaxprocs_threads", tt.want)
	}
}
