//go:build linux

package e2e_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	// rollingInterval is Prometheus' scrape interval, and the timeout: both relays, the balancer and Prometheus share a busy
	// machine.
	rollingInterval = 3 * time.Second
	// rollingTargets are scraped in turn within an interval.
	rollingTargets = 12
	rollingBody    = "rolling 1\n"
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
	address := serveHandler(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, rollingBody) }))
	var paths []string
	for n := range rollingTargets {
		paths = append(paths, fmt.Sprintf("target-%d", n))
	}
	balanced := freeAddress(t)
	first := startRelay(t, "--web.external-url=http://"+balanced)
	second := startSecondRelay(t, first, "--web.external-url=http://"+balanced)
	a := startAgentVia(t, first, first.grpc, "site-a", configOf(address, paths...), "--relay.address="+second.grpc)
	relays := []*relay{first, second}
	for _, r := range relays {
		r.waitAttached(t, a.name)
	}
	b := newBalancer(t, balanced, strings.TrimPrefix(first.url, "http://"), strings.TrimPrefix(second.url, "http://"))
	prom := startBalancedPrometheus(t, b)
	// All targets, each once: neither relay's list is added to the other's.
	prom.wantValue(t, fmt.Sprintf(`count(up{agent="site-a",instance=%q} == 1)`, address), rollingTargets)
	prom.wantValue(t, `count(up)`, rollingTargets)

	// Another scraper beside it, so that there are scrapes at every moment.
	ctx, cancel := context.WithCancel(t.Context())
	var scraping sync.WaitGroup
	defer scraping.Wait()
	defer cancel()
	scraping.Go(func() {
		url := strings.Replace(first.targetURL(a.name, paths[0], address), first.url, b.url, 1)
		for ; ctx.Err() == nil; pause(ctx, 20*time.Millisecond) {
			if err := scrapedAs(url, rollingBody); err != nil {
				t.Errorf("at %s: %v", time.Now().Format(time.StampMilli), err)
			}
		}
	})

	begun := time.Now()
	pause(t.Context(), 2*rollingInterval)
	for n, r := range relays {
		b.backends[n].learn(t, func() { r.stop(t) })
		pause(t.Context(), rollingInterval) // away for as long as every target is scraped once
		r.start(t)
		r.waitAttached(t, a.name)
		pause(t.Context(), 2*rollingInterval)
	}

	for n, be := range b.backends {
		t.Logf("relay %d answered %d requests, another one had to answer %d in its place", n, be.served.Load(), be.retried.Load())
		if be.served.Load() == 0 {
			t.Errorf("relay %d answered nothing", n)
		}
	}
	for _, job := range paths {
		prom.wantUninterrupted(t, job, begun)
	}
}

// waitAttached waits until an agent has a session with the relay.
func (r *relay) waitAttached(t testing.TB, agent string) {
	t.Helper()
	eventually(t, backWithin+tolerance/2, agent+" attached to "+r.grpc, func() error {
		if !r.connected(t, agent) {
			return errNotConnected
		}
		return nil
	})
}

func startBalancedPrometheus(t testing.TB, b *balancer) *prometheusProcess {
	t.Helper()
	listen, dir := freeAddress(t), t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	writeFile(t, config, fmt.Sprintf(balancedConfig, rollingInterval, b.url))
	p := &prometheusProcess{url: "http://" + listen, get: wantOK}
	p.process = start(t, prometheusCommandOf(t, config, listen))
	p.waitReady(t)
	return p
}

// wantUninterrupted checks that every scrape of a job since a moment succeeded, and that there was one in every interval.
func (p *prometheusProcess) wantUninterrupted(t testing.TB, job string, since time.Time) {
	t.Helper()
	up, err := p.after(fmt.Sprintf("up{job=%q}", job), since)
	if err != nil {
		t.Fatal(err)
	}
	if want := int(time.Since(since)/rollingInterval) - 1; len(up) < want {
		t.Errorf("%s was scraped %d times in %v, want at least %d", job, len(up), time.Since(since), want)
	}
	for i, s := range up {
		if s.value != 1 {
			t.Errorf("up of %s was %v at %s", job, s.value, s.at.Format(time.StampMilli))
		}
		if i > 0 && s.at.Sub(up[i-1].at) > 3*rollingInterval/2 {
			t.Errorf("%s was not scraped between %s and %s", job, up[i-1].at.Format(time.StampMilli), s.at.Format(time.StampMilli))
		}
	}
	brought, err := p.after(fmt.Sprintf("rolling{job=%q}", job), since)
	brought = slices.DeleteFunc(brought, func(s sample) bool { return len(up) == 0 || s.at.After(up[len(up)-1].at) }) // scraped since we asked
	if err != nil || len(brought) != len(up) {
		t.Errorf("%d scrapes of %s brought %d samples, %v", len(up), job, len(brought), err)
	}
}
