//go:build linux

package e2e_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestHalfAPairOfTimes: Prometheus, whose own timeout is 10 s, keeps targets that are configured with a shorter interval, also
// those that an earlier agent announced so.
func TestHalfAPairOfTimes(t *testing.T) {
	t.Parallel()
	address := serveHandler(t, &rowsTarget{})
	r := startRelay(t)
	r.stop(t)
	writeFile(t, filepath.Join(r.dataDir, "agents.json"), fmt.Sprintf(`{"version":1,"agents":[{"agent":"old","last_seen":%q,"targets":[
		{"Name":"half","Job":"half","Instance":"half","Address":"localhost:1","Scheme":"http","MetricsPath":"/","ScrapeInterval":1000000000},
		{"Name":"other","Job":"other","Instance":"other","Address":"localhost:1","Scheme":"http","MetricsPath":"/","ScrapeTimeout":90000000000}]}]}`,
		time.Now().UTC().Format(time.RFC3339)))
	r.start(t)
	startAgent(t, r, "site-a", fmt.Sprintf(`
global: {scrape_interval: 2s}
scrape_configs:
  - {job_name: interval, metrics_path: /metrics, scrape_interval: 1s, static_configs: [{targets: [%[1]q]}]}
  - {job_name: timeout, metrics_path: /metrics, scrape_timeout: 1s, static_configs: [{targets: [%[1]q]}]}
`, address))
	p := startPrometheusWith(t, fmt.Sprintf("scrape_configs: [{job_name: tunnelled, http_sd_configs: [{url: %q, refresh_interval: 1s}]}]\n", r.url+"/sd/targets"))
	p.wantValue(t, `up{job="interval"}`, 1)
	p.wantValue(t, `up{job="timeout"}`, 1)
	p.wantValue(t, `up{job="half"}`, 0)
	eventually(t, 20*time.Second, "Prometheus has all four targets", func() error {
		body, err := wantOK(p.url + "/api/v1/targets?state=active")
		if err == nil && strings.Count(body, `"scrapeUrl"`) != 4 {
			err = fmt.Errorf("it has %s", clip(body))
		}
		return err
	})
}
