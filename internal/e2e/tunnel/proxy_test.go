//go:build linux

package tunnel_test

import (
	"fmt"
	"net/http"
	"testing"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/exporter"
	"pushrelay/internal/e2e/house"
)

// TestTunnelProxyContested: what several agents announce is scraped through the one that is asked for, and through the one that
// had it first if nobody is, also after a restart of the relay (T26).
func TestTunnelProxyContested(t *testing.T) {
	t.Parallel()
	own, others := &exporter.Rows{}, &exporter.Rows{}
	address := exporter.Serve(t, own)
	squatting := fmt.Sprintf("scrape_configs: [{job_name: j, static_configs: [{targets: [%q], labels: {instance: %q}}]}]", exporter.Serve(t, others), address)
	r := house.StartRelay(t)
	first := house.StartAgent(t, r, "site-a", house.ConfigOf(address, "metrics"))
	url := "http://" + address + "/metrics"
	for _, tt := range []struct {
		name, url, query string
		by               *exporter.Rows // nil for none
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
			house.StartAgent(t, r, "site-b", squatting)
			client.WantSeries(t, r.URL, "relay_targets_contested_total", 1)
		case "the first is away":
			first.Stop(t)
			client.WantSeries(t, r.URL, `relay_agent_up{agent="site-a"}`, 0)
		case "relay restarted":
			r.Stop(t)
			r.Start(t)
			r.WaitAttached(t, "site-b")
		}
		t.Run(tt.name, func(t *testing.T) {
			own.Last()
			others.Last()
			got, err := client.ScrapeRequest{URL: tt.url, Proxy: r.URL}.Do()
			seen := own.Last()
			if byOthers := others.Last(); tt.by == others {
				seen = byOthers
			} else if byOthers != nil {
				t.Errorf("the other target was asked for %s", byOthers.URL)
			}
			if tt.reason != "" {
				client.WantReason(t, got, err, tt.status, tt.reason)
				if seen != nil {
					t.Errorf("the target was asked for %s", seen.URL)
				}
				return
			}
			if err != nil || got.Status != tt.status || got.Body != exporter.RowsBody {
				t.Fatalf("scrape = %d %s, %v", got.Status, client.Clip(got.Body), err)
			}
			if seen.URL.RawQuery != tt.query {
				t.Errorf("the target saw the query %q, want %q", seen.URL.RawQuery, tt.query)
			}
		})
	}
	// The host is listed once, whoever announces it.
	if got, err := client.Fetch(http.MethodGet, r.URL+"/clients", nil); err != nil || got.Body != fmt.Sprintf("[{\"targets\":[%q],\"labels\":{}}]\n", "127.0.0.1") {
		t.Errorf("/clients = %q, %v", got.Body, err)
	}
}
