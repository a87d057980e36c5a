//go:build linux

package scrape_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/exporter"
	"pushrelay/internal/e2e/house"
	"pushrelay/internal/e2e/promserver"
)

// TestHalfAPairOfTimes: Prometheus, whose own timeout is 10 s, keeps targets that are configured with a shorter interval, also
// those that an earlier agent announced so.
func TestHalfAPairOfTimes(t *testing.T) {
	t.Parallel()
	address := exporter.Serve(t, &exporter.Rows{})
	r := house.StartRelay(t)
	r.Stop(t)
	client.WriteFile(t, filepath.Join(r.DataDir, "agents.json"), fmt.Sprintf(`{"version":1,"agents":[{"agent":"old","last_seen":%q,"targets":[
		{"Name":"half","Job":"half","Instance":"half","Address":"localhost:1","Scheme":"http","MetricsPath":"/","ScrapeInterval":1000000000},
		{"Name":"other","Job":"other","Instance":"other","Address":"localhost:1","Scheme":"http","MetricsPath":"/","ScrapeTimeout":90000000000}]}]}`,
		time.Now().UTC().Format(time.RFC3339)))
	r.Start(t)
	house.StartAgent(t, r, "site-a", fmt.Sprintf(`
global: {scrape_interval: 2s}
scrape_configs:
  - {job_name: interval, metrics_path: /metrics, scrape_interval: 1s, static_configs: [{targets: [%[1]q]}]}
  - {job_name: timeout, metrics_path: /metrics, scrape_timeout: 1s, static_configs: [{targets: [%[1]q]}]}
`, address))
	p := promserver.StartWith(t, fmt.Sprintf("scrape_configs: [{job_name: tunnelled, http_sd_configs: [{url: %q, refresh_interval: 1s}]}]\n", r.URL+"/sd/targets"))
	p.WantValue(t, `up{job="interval"}`, 1)
	p.WantValue(t, `up{job="timeout"}`, 1)
	p.WantValue(t, `up{job="half"}`, 0)
	client.Eventually(t, 20*time.Second, "Prometheus has all four targets", func() error {
		body, err := client.WantOK(p.URL + "/api/v1/targets?state=active")
		if err == nil && strings.Count(body, `"scrapeUrl"`) != 4 {
			err = fmt.Errorf("it has %s", client.Clip(body))
		}
		return err
	})
}
