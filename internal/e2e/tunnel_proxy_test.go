//go:build linux

package e2e_test

import (
	"fmt"
	"net/http"
	"testing"
)

// TestTunnelProxyContested: what several agents announce is scraped through the one that is asked for, and through the one that
// had it first if nobody is, also after a restart of the relay (T26).
func TestTunnelProxyContested(t *testing.T) {
	t.Parallel()
	own, others := &rowsTarget{}, &rowsTarget{}
	address := serveHandler(t, own)
	squatting := fmt.Sprintf("scrape_configs: [{job_name: j, static_configs: [{targets: [%q], labels: {instance: %q}}]}]", serveHandler(t, others), address)
	r := startRelay(t)
	first := startAgent(t, r, "site-a", configOf(address, "metrics"))
	url := "http://" + address + "/metrics"
	for _, tt := range []struct {
		name, url, query string
		by               *rowsTarget // nil for none
		status           int
		reason           string
	}{
		{name: "one agent", url: url + "?a=b", query: "a=b", by: own, status: 200},
		{name: "another agent", url: url + "?_agent=site-b", status: 404, reason: "target_unknown"},
		{name: "two agents", url: url, by: own, status: 200}, // site-b has come
		{name: "first of two", url: url + "?_agent=site-a", by: own, status: 200},
		{name: "second of two", url: url + "?a=b&_agent=site-b&c=%2F", query: "a=b&c=%2F", by: others, status: 200},
		{name: "none of two", url: url + "?_agent=site-c", status: 404, reason: "target_unknown"},
		{name: "the first is away", url: url, status: 503, reason: "agent_offline"},
		{name: "relay restarted", url: url, status: 503, reason: "agent_offline"},
		{name: "second of two, then", url: url + "?_agent=site-b", by: others, status: 200},
	} {
		switch tt.name {
		case "two agents":
			startAgent(t, r, "site-b", squatting)
			wantSeries(t, r.url, "relay_targets_contested_total", 1)
		case "the first is away":
			first.stop(t)
			wantSeries(t, r.url, `relay_agent_up{agent="site-a"}`, 0)
		case "relay restarted":
			r.stop(t)
			r.start(t)
			r.waitAttached(t, "site-b")
		}
		t.Run(tt.name, func(t *testing.T) {
			own.last()
			others.last()
			got, err := scrapeRequest{url: tt.url, proxy: r.url}.do()
			seen := own.last()
			if byOthers := others.last(); tt.by == others {
				seen = byOthers
			} else if byOthers != nil {
				t.Errorf("the other target was asked for %s", byOthers.URL)
			}
			if tt.reason != "" {
				wantReason(t, got, err, tt.status, tt.reason)
				if seen != nil {
					t.Errorf("the target was asked for %s", seen.URL)
				}
				return
			}
			if err != nil || got.status != tt.status || got.body != rowsBody {
				t.Fatalf("scrape = %d %s, %v", got.status, clip(got.body), err)
			}
			if seen.URL.RawQuery != tt.query {
				t.Errorf("the target saw the query %q, want %q", seen.URL.RawQuery, tt.query)
			}
		})
	}
	// The host is listed once, whoever announces it.
	if got, err := fetch(http.MethodGet, r.url+"/clients", nil); err != nil || got.body != fmt.Sprintf("[{\"targets\":[%q],\"labels\":{}}]\n", "127.0.0.1") {
		t.Errorf("/clients = %q, %v", got.body, err)
	}
}
