//go:build linux

package scrape_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"pushrelay/internal/e2e/exporter"
	"pushrelay/internal/e2e/house"
	"pushrelay/internal/e2e/promserver"
)

// TestPrometheusFollowsNoRedirectOfATarget: neither to where a target wants, with the password that it has for the relay, nor to the
// relay itself, whose own metrics would be stored as the target's.
func TestPrometheusFollowsNoRedirectOfATarget(t *testing.T) {
	t.Parallel()
	var lured atomic.Int64
	elsewhere := exporter.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		lured.Add(1)
		fmt.Fprintln(w, "lured 1")
	}))
	address := exporter.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		switch req.URL.Path {
		case "/away":
			http.Redirect(w, req, "http://"+elsewhere+"/metrics", http.StatusTemporaryRedirect)
		case "/relative":
			http.Redirect(w, req, "/metrics", http.StatusFound)
		default:
			fmt.Fprintln(w, "own 1")
		}
	}))
	r := house.StartRelay(t)
	house.StartAgent(t, r, "site-a", strings.ReplaceAll(house.ConfigOf(address, "away", "relative", "metrics"), "    static", "    follow_redirects: false\n    static"))
	p := promserver.StartWith(t, promserver.PrometheusConfig(r.URL)+fmt.Sprintf(`
  - job_name: proxied
    proxy_url: %s
    metrics_path: /away
    static_configs: [{targets: [%q]}]
`, r.URL, address))
	p.WantValue(t, `up{job="metrics"}`, 1)
	p.WantValue(t, `own{job="metrics"}`, 1)
	for _, job := range []string{"away", "relative", "proxied"} {
		p.WantValue(t, fmt.Sprintf("up{job=%q}", job), 0)
		if found, err := p.Query(fmt.Sprintf(`count({job=%q,__name__!~"up|scrape_.*"})`, job)); err != nil || len(found) != 0 {
			t.Errorf("job %s stored series: %v, %v", job, found, err)
		}
	}
	if lured.Load() != 0 {
		t.Errorf("Prometheus went elsewhere %d times", lured.Load())
	}
	told, _ := r.ToldTargets(t, "site-a")
	if said := told["away-"+address].LastError; !strings.HasPrefix(said, "target_redirects: ") || !strings.Contains(said, elsewhere) {
		t.Errorf("the relay says of the redirect %q", said)
	}
}
