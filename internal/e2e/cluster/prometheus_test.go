//go:build linux

package cluster_test

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/program"
	"pushrelay/internal/e2e/promserver"
)

// balancedConfig is what docs/how-to/several-relays.md has for Prometheus, with short intervals.
const balancedConfig = `
global: {scrape_interval: 3s, scrape_timeout: 3s} # the machine is busy
scrape_configs:
  - job_name: pushed
    honor_labels: true
    scrape_interval: 5s # it waits for etcd's next leader
    scrape_timeout: 5s
    static_configs:
      - targets: [%[1]q]
  - job_name: tunnelled
    http_sd_configs:
      - url: http://%[1]s/sd/targets
        refresh_interval: 1s
  - job_name: relay
    http_sd_configs:
      - url: http://%[1]s/sd/relays
        refresh_interval: 1s
`

// haproxyPage has the configuration of a balancer that people are told to use.
const haproxyPage = "../../../docs/how-to/several-relays.md"

// startHAProxy starts one over the relays, with the configuration of the page.
func (s *site) startHAProxy(t *testing.T) (address string) {
	t.Helper()
	haproxy := program.RequireProgram(t, "/usr/sbin/haproxy", "haproxy")
	_, text, found := strings.Cut(client.ReadFile(t, haproxyPage), "```haproxy\n")
	text, _, ended := strings.Cut(text, "```")
	if !found || !ended {
		t.Fatalf("%s has no configuration of HAProxy", haproxyPage)
	}
	address = program.FreeAddress(t)
	text = strings.Replace(text, "bind :9091", "bind "+address, 1)
	for i, m := range s.members {
		text = strings.Replace(text, fmt.Sprintf("relay-%d.example.org:9091", i+1), m.web, 1)
	}
	file := filepath.Join(t.TempDir(), "haproxy.cfg")
	client.WriteFile(t, file, text)
	program.Start(t, program.Command{Path: haproxy, Args: []string{"-db", "-f", file}})
	client.Eventually(t, client.Patience, "the balancer answers", func() error { _, err := client.WantOK("http://" + address + "/-/ready"); return err })
	return address
}

// TestPrometheusBehindBalancer: a real Prometheus sees nothing of a rolling restart, and of the leader's death nothing but, for 5 s at most, agents' targets.
func TestPrometheusBehindBalancer(t *testing.T) {
	t.Parallel()
	s := newSite(t, 3, timeout)
	l := startLightLoad(t, s.members, []*agent{s.startAgent(t, "site-a")})
	balanced := s.startHAProxy(t)
	p := promserver.StartWith(t, fmt.Sprintf(balancedConfig, balanced))
	p.WantValue(t, `count(up{job="relay"} == 1)`, 3)
	p.WantValue(t, `count(up{job="self"} == 1)`, 1)
	p.WantValue(t, `count(up{job="pushed"} == 1)`, 1)

	wantNoneFailed := scrapeOften(t, balanced) // beside it, so that there are scrapes at every moment

	begun := time.Now()
	leader := s.leader(t)
	for _, m := range append(slices.Clone(s.followers(leader)), leader) {
		m.Stop(t)
		m.start(t)
		s.wantVoters(t)
		for _, other := range s.members {
			client.WantSeries(t, l.agents[0].url, fmt.Sprintf(`relay_agent_connected{relay=%q}`, other.link), 1)
		}
	}
	if said := l.inDoubt(); len(said) > 0 {
		t.Errorf("pushes are in doubt after a rolling restart: %q", said)
	}
	t.Logf("a rolling restart took %v: %s", time.Since(begun), l.tally())
	wantUp(t, p, "self", begun, 0)

	killed := time.Now()
	leader = s.leader(t)
	leader.Kill(t)
	l.wantServiceOf(s.followers(leader))
	time.Sleep(5 * time.Second)
	leader.start(t)
	l.wantService()
	time.Sleep(2 * time.Second)
	wantUp(t, p, "self", killed, 5*time.Second)
	wantUp(t, p, "pushed", begun, 0)
	wantNoneFailed()
	for _, name := range []string{"rising", "added", "push_time_seconds"} {
		if found, err := p.Query(fmt.Sprintf(`resets(%s{job=~"rising-.*|added"}[10m]) > 0`, name)); err != nil || len(found) > 0 {
			t.Errorf("%s only rises, and has gone back: %v %v", name, found, err)
		}
	}
	l.end()
}

// scrapeOften scrapes what was pushed through a balancer, until the test or who is returned ends it: that one checks that no scrape has failed.
func scrapeOften(t *testing.T, balanced string) (wantNoneFailed func()) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	var scraping sync.WaitGroup
	var failed []string
	scraping.Go(func() {
		for ; ctx.Err() == nil; client.Pause(ctx, 50*time.Millisecond) {
			if r, err := client.Fetch(http.MethodGet, "http://"+balanced+"/metrics", nil); err != nil || r.Status != http.StatusOK {
				failed = append(failed, fmt.Sprintf("%s: %d %v", time.Now().Format(clock), r.Status, err))
			}
		}
	})
	end := func() { stop(); scraping.Wait() }
	t.Cleanup(end)
	return func() {
		t.Helper()
		if end(); len(failed) > 0 {
			t.Errorf("scrapes through the balancer that failed: %q", failed)
		}
	}
}

// wantUp checks that all scrapes of a job since a moment succeeded, but for those within some time of it.
func wantUp(t *testing.T, p *promserver.Server, job string, since time.Time, but time.Duration) {
	t.Helper()
	down, err := p.Query(fmt.Sprintf(`count_over_time((up{job=%q} == 0)[%ds:1s])`, job, int((time.Since(since) - but).Seconds())))
	if err != nil || len(down) > 0 {
		t.Errorf("job %s was down since %s, or %v after it: %v %v", job, since.Format(clock), but, down, err)
	}
	up, err := p.Query(fmt.Sprintf(`count_over_time(up{job=%q}[%ds])`, job, int(time.Since(since).Seconds())))
	if err != nil || len(up) != 1 {
		t.Errorf("scrapes of job %s since %s: %v %v", job, since.Format(clock), up, err)
	}
}
