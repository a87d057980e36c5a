//go:build linux

package scrape_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/house"
	"pushrelay/internal/e2e/program"
	"pushrelay/internal/e2e/promserver"
)

// TestMainJob is what the programs are for: a Prometheus that can reach the relay only sees what was pushed and what runs
// behind the agent, and knows at any time which of it is up.
func TestMainJob(t *testing.T) {
	t.Parallel()
	job := t // what a subtest starts again lives until the end of the job
	nodeAddress := program.FreeAddress(t)
	node := promserver.StartNodeExporter(t, nodeAddress)
	relay := house.StartRelay(t)
	agent := house.StartAgent(t, relay, "site-a", promserver.NodeConfig(nodeAddress))
	client.Push(t, relay.URL+"/metrics/job/direct/instance/cron-1", "# TYPE direct_done gauge\ndirect_done 1\n")
	client.Push(t, agent.URL+"/metrics/job/backup", "# TYPE backup_bytes gauge\nbackup_bytes 4711\n")

	prom := promserver.Start(t, relay.URL)
	up := fmt.Sprintf(`up{job="node",instance=%q,agent="site-a",env="production"}`, nodeAddress)
	load := fmt.Sprintf(`node_load1{job="node",instance=%q,agent="site-a",env="production"}`, nodeAddress)

	t.Run("pushed series carry the labels they were pushed with", func(t *testing.T) {
		prom.WantValue(t, `direct_done{job="direct",instance="cron-1",agent=""}`, 1)
		labels := prom.WantValue(t, `backup_bytes{job="backup",agent="site-a"}`, 4711)
		if labels["instance"] != "" {
			t.Errorf("backup_bytes has instance %q, want none", labels["instance"])
		}
		prom.WantValue(t, `up{job="relay"}`, 1)
		prom.WantValue(t, `relay_agent_up{agent="site-a"}`, 1)
	})

	t.Run("a target behind the agent is up and has its own series", func(t *testing.T) {
		prom.WantValue(t, up, 1)
		client.Eventually(t, 10*time.Second, load, func() error { _, err := prom.One(load); return err })
		labels := prom.WantValue(t, `node_uname_info{job="node"}`, 1)
		if labels["sysname"] != "Linux" {
			t.Errorf("node_uname_info has labels %v", labels)
		}
	})

	t.Run("a target that dies is down at once, and up again when it is back", func(t *testing.T) {
		node.Kill(t)
		prom.WantTurned(t, up, time.Now(), 0)
		wantRelayError(t, relay, http.StatusBadGateway, "target_unreachable")

		node = promserver.StartNodeExporter(job, nodeAddress)
		prom.WantTurned(t, up, time.Now(), 1)
	})

	t.Run("an agent that dies turns its targets down without removing them", func(t *testing.T) {
		agent.Kill(t)
		killed := time.Now()
		prom.WantTurned(t, up, killed, 0)
		began := time.Now()
		wantRelayError(t, relay, http.StatusServiceUnavailable, "agent_offline")
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("the relay took %v to say that the agent is away: it has to know at once", took)
		}
		prom.WantValue(t, `relay_agent_up{agent="site-a"}`, 0)
		prom.WantValue(t, `backup_bytes{job="backup",agent="site-a"}`, 4711)

		agent.Start(t)
		prom.WantTurned(t, up, time.Now(), 1)
		prom.WantValue(t, `relay_agent_up{agent="site-a"}`, 1)
	})

	t.Run("a relay that dies is found again by its agents", func(t *testing.T) {
		relay.Kill(t)
		relay.Start(t)
		client.Eventually(t, 30*time.Second, "agent back", func() error {
			if !relay.Connected(t, "site-a") {
				return house.ErrNotConnected
			}
			return nil
		})
		prom.WantTurned(t, up, time.Now(), 1)
	})

	t.Run("a relay that dies keeps what was pushed", func(t *testing.T) {
		client.WantSeries(t, relay.URL, `direct_done{instance="cron-1", job="direct"}`, 1)
		client.WantSeries(t, relay.URL, `backup_bytes{agent="site-a", instance="", job="backup"}`, 4711)
	})

	t.Run("both end cleanly", func(t *testing.T) {
		agent.Stop(t)
		relay.Stop(t)
	})
}

// TestDiscovery checks what Prometheus is given to scrape: labels only, and a path that works.
func TestDiscovery(t *testing.T) {
	t.Parallel()
	relay := house.StartRelay(t)
	// Any page of metrics will do as a target: the relay's own.
	target := strings.TrimPrefix(relay.URL, "http://")
	agent := house.StartAgent(t, relay, "site-a", promserver.NodeConfig(target))

	groups := relay.Discovered(t)
	if len(groups) != 1 {
		t.Fatalf("GET /sd/targets lists %d target groups, want 1: %v", len(groups), groups)
	}
	group := groups[0]
	if len(group.Targets) != 1 || group.Targets[0] != target {
		t.Errorf("targets = %v, want the relay itself: %s", group.Targets, target)
	}
	path := group.Labels["__metrics_path__"]
	for name, want := range map[string]string{
		"job": "node", "instance": target, "agent": "site-a", "env": "production", "__scheme__": "http",
		"__meta_relay_target_address": target, "__meta_relay_agent_connected": "true",
	} {
		if got := group.Labels[name]; got != want {
			t.Errorf("label %s = %q, want %q", name, got, want)
		}
	}
	if !strings.HasPrefix(path, "/agents/site-a/targets/") || !strings.HasSuffix(path, "/metrics") {
		t.Errorf("__metrics_path__ = %q", path)
	}
	if page := client.MustGet(t, relay.URL+path); !strings.Contains(page, "relay_build_info") {
		t.Errorf("the scrape through the tunnel is not the target's page:\n%.500s", page)
	}

	t.Run("a scrape that has no target says which part is unknown", func(t *testing.T) {
		for _, tt := range []struct{ path, reason string }{
			{strings.Replace(path, "site-a", "site-b", 1), "agent_unknown"},
			{"/agents/site-a/targets/nothing/metrics", "target_unknown"},
		} {
			r, err := client.Fetch(http.MethodGet, relay.URL+tt.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if r.Status != http.StatusNotFound || r.Header.Get("X-Relay-Error") != tt.reason {
				t.Errorf("GET %s: %d %q, want 404 %s", tt.path, r.Status, r.Header.Get("X-Relay-Error"), tt.reason)
			}
		}
	})

	t.Run("a departed agent stays listed until it is forgotten", func(t *testing.T) {
		agent.Stop(t)
		client.Eventually(t, 10*time.Second, "agent gone", func() error {
			if relay.Connected(t, "site-a") {
				return house.ErrStillConnected
			}
			return nil
		})
		groups := relay.Discovered(t)
		if len(groups) != 1 || groups[0].Labels["__meta_relay_agent_connected"] != "false" {
			t.Errorf("GET /sd/targets = %v, want the target, not connected", groups)
		}
	})
}

// wantRelayError scrapes the only target of the relay and checks why it cannot.
func wantRelayError(t testing.TB, r *house.Relay, status int, reason string) {
	t.Helper()
	groups := r.Discovered(t)
	if len(groups) != 1 {
		t.Fatalf("GET /sd/targets lists %d target groups, want 1", len(groups))
	}
	got, err := client.Fetch(http.MethodGet, r.URL+groups[0].Labels["__metrics_path__"], nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.Status != status || got.Header.Get("X-Relay-Error") != reason {
		t.Errorf("scrape: %d %q %q, want %d %q", got.Status, got.Header.Get("X-Relay-Error"), got.Body, status, reason)
	}
}
