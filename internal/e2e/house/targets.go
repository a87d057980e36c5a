//go:build linux

package house

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
)

// A ToldTarget is what a relay tells of a target and its last scrape.
type ToldTarget struct {
	Target      string
	LastStatus  *int       `json:"last_status"`
	LastError   string     `json:"last_error"`
	ListedUntil *time.Time `json:"listed_until"`
}

// ToldTargets returns what the relay tells of an agent's targets, and how many are down.
func (r *Relay) ToldTargets(t testing.TB, agent string) (targets map[string]ToldTarget, down int) {
	t.Helper()
	targets = map[string]ToldTarget{}
	for _, a := range DecodeData[struct {
		Agent       string
		Targets     []ToldTarget
		TargetsDown int `json:"targets_down"`
	}](t, client.MustGet(t, r.URL+"/api/v1/agents")) {
		if a.Agent != agent {
			continue
		}
		down = a.TargetsDown
		for _, told := range a.Targets {
			targets[told.Target] = told
		}
	}
	return targets, down
}

// WantListed waits until service discovery has just these instances of an agent.
func (r *Relay) WantListed(t testing.TB, when string, instances ...string) {
	t.Helper()
	client.Eventually(t, 20*time.Second, when, func() error {
		var got []string
		for _, g := range r.Discovered(t) {
			got = append(got, g.Labels["instance"])
		}
		slices.Sort(got)
		if !slices.Equal(got, instances) {
			return fmt.Errorf("%q are listed, want %q", got, instances)
		}
		return nil
	})
}

// A TargetGroup is one of Prometheus' HTTP service discovery.
type TargetGroup struct {
	Targets []string
	Labels  map[string]string
}

// Discovered returns what the relay tells Prometheus to scrape.
func (r *Relay) Discovered(t testing.TB) []TargetGroup {
	t.Helper()
	resp, err := client.Fetch(http.MethodGet, r.URL+"/sd/targets", nil)
	if err != nil {
		t.Fatal(err)
	}
	var groups []TargetGroup
	if err := json.Unmarshal([]byte(resp.Body), &groups); err != nil || resp.Status != http.StatusOK {
		t.Fatalf("GET /sd/targets: %d %v\n%s", resp.Status, err, resp.Body)
	}
	return groups
}

// URLOf returns the targets' URLs of an agent by their paths.
func (r *Relay) URLOf(agent, address string) func(path string) string {
	return func(path string) string { return r.TargetURL(agent, path, address) }
}

// TargetURL is where a relay serves a target that [ConfigOf] made.
func (r *Relay) TargetURL(agent, path, address string) string {
	return r.URL + "/agents/" + agent + "/targets/" + path + "-" + address + "/metrics"
}
