//go:build linux

package tunnel_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/exporter"
	"pushrelay/internal/e2e/house"
	"pushrelay/internal/e2e/program"
	"pushrelay/internal/e2e/promserver"
)

// balancedConfig is the configuration that docs/how-to/two-relays.md has for two relays: one name for the list and for the scrapes.
const balancedConfig = `
global:
  scrape_interval: %[1]s
  scrape_timeout: %[1]s
scrape_configs:
  - job_name: tunnelled
    http_sd_configs:
      - url: %[2]s/sd/targets
        refresh_interval: 1s
`

// TestPrometheusOverRollingRestart: Prometheus scrapes through two relays behind one balanced name, while one after the
// other is restarted. It sees nothing of it: up is never 0 and no scrape is missing (T7, T25).
func TestPrometheusOverRollingRestart(t *testing.T) {
	t.Parallel()
	address := exporter.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, promserver.RollingBody) }))
	var paths []string
	for n := range promserver.RollingTargets {
		paths = append(paths, fmt.Sprintf("target-%d", n))
	}
	balanced := program.FreeAddress(t)
	first := house.StartRelay(t, "--web.external-url=http://"+balanced)
	second := house.StartSecondRelay(t, first, "--web.external-url=http://"+balanced)
	a := house.StartAgentVia(t, first, first.GRPC, "site-a", house.ConfigOf(address, paths...), "--relay.address="+second.GRPC)
	relays := []*house.Relay{first, second}
	for _, r := range relays {
		r.WaitAttached(t, a.Name)
	}
	b := newBalancer(t, balanced, strings.TrimPrefix(first.URL, "http://"), strings.TrimPrefix(second.URL, "http://"))
	prom := startBalancedPrometheus(t, b)
	// All targets, each once: neither relay's list is added to the other's.
	prom.WantValue(t, fmt.Sprintf(`count(up{agent="site-a",instance=%q} == 1)`, address), promserver.RollingTargets)
	prom.WantValue(t, `count(up)`, promserver.RollingTargets)

	// Another scraper beside it, so that there are scrapes at every moment.
	ctx, cancel := context.WithCancel(t.Context())
	var scraping sync.WaitGroup
	defer scraping.Wait()
	defer cancel()
	scraping.Go(func() {
		url := strings.Replace(first.TargetURL(a.Name, paths[0], address), first.URL, b.url, 1)
		for ; ctx.Err() == nil; client.Pause(ctx, 20*time.Millisecond) {
			if err := client.ScrapedAs(url, promserver.RollingBody); err != nil {
				t.Errorf("at %s: %v", time.Now().Format(time.StampMilli), err)
			}
		}
	})

	begun := time.Now()
	client.Pause(t.Context(), 2*promserver.RollingInterval)
	for n, r := range relays {
		b.backends[n].learn(t, func() { r.Stop(t) })
		client.Pause(t.Context(), promserver.RollingInterval) // away for as long as every target is scraped once
		r.Start(t)
		r.WaitAttached(t, a.Name)
		client.Pause(t.Context(), 2*promserver.RollingInterval)
	}

	for n, be := range b.backends {
		t.Logf("relay %d answered %d requests, another one had to answer %d in its place", n, be.served.Load(), be.retried.Load())
		if be.served.Load() == 0 {
			t.Errorf("relay %d answered nothing", n)
		}
	}
	for _, job := range paths {
		prom.WantUninterrupted(t, job, begun)
	}
}

func startBalancedPrometheus(t testing.TB, b *balancer) *promserver.Server {
	t.Helper()
	listen, dir := program.FreeAddress(t), t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	client.WriteFile(t, config, fmt.Sprintf(balancedConfig, promserver.RollingInterval, b.url))
	p := &promserver.Server{URL: "http://" + listen, Get: client.WantOK}
	p.Process = program.Start(t, promserver.CommandOf(t, config, listen))
	p.WaitReady(t)
	return p
}
