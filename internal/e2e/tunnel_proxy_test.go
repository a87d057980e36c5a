//go:build linux

package e2e_test

import (
	"fmt"
	"net/http"
	"testing"
)

// TestTunnelProxyAmbiguous: what several agents announce is scraped through the one that is asked for, and through none if
// nobody is (T26).
func TestTunnelProxyAmbiguous(t *testing.T) {
	t.Parallel()
	target := &rowsTarget{}
	address := serveHandler(t, target)
	r := startRelay(t)
	startAgent(t, r, "site-a", configOf(address, "metrics"))
	url := "http://" + address + "/metrics"
	for _, tt := range []struct {
		name, url, query string
		status           int
		reason           string
	}{
		{name: "one agent", url: url + "?a=b", query: "a=b", status: 200},
		{name: "another agent", url: url + "?_agent=site-b", status: 404, reason: "target_unknown"},
		{name: "two agents", url: url, status: 409, reason: "target_ambiguous"}, // site-b has come
		{name: "first of two", url: url + "?_agent=site-a", status: 200},
		{name: "second of two", url: url + "?a=b&_agent=site-b&c=%2F", query: "a=b&c=%2F", status: 200},
		{name: "none of two", url: url + "?_agent=site-c", status: 404, reason: "target_unknown"},
	} {
		if tt.name == "two agents" {
			startAgent(t, r, "site-b", configOf(address, "metrics"))
		}
		t.Run(tt.name, func(t *testing.T) {
			target.last()
			got, err := scrapeRequest{url: tt.url, proxy: r.url}.do()
			seen := target.last()
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
