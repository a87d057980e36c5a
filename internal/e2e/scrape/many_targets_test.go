//go:build linux

package scrape_test

import (
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/exporter"
	"pushrelay/internal/e2e/house"
	"pushrelay/internal/e2e/program"
	"pushrelay/internal/e2e/promserver"
)

// prober is an exporter of many targets, as blackbox and SNMP exporters are: what it is asked about is a parameter.
func prober(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/probe" {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	fmt.Fprintf(w, "probed{what=%q,module=%q} 1\n", r.URL.Query().Get("target"), r.URL.Query().Get("module"))
}

// TestExportersOfManyTargets: the two ways that the documentation names, with the real Prometheus.
func TestExportersOfManyTargets(t *testing.T) {
	t.Parallel()
	exporter := exporter.Serve(t, http.HandlerFunc(prober))
	r := house.StartRelay(t)
	house.StartAgent(t, r, "site-a", fmt.Sprintf(`
scrape_configs:
  - job_name: blackbox
    metrics_path: /probe
    params: {module: [http_2xx]}
    static_configs:
      - {targets: [%[1]q], labels: {__param_target: "https://one.example.org", instance: "https://one.example.org"}}
      - {targets: [%[1]q], labels: {__param_target: "https://two.example.org", instance: "https://two.example.org"}}
    file_sd_configs: [{files: ["more.yml"]}]
  - job_name: exporter
    static_configs: [{targets: [%[1]q], labels: {instance: prober}}]
`, exporter))
	jobs := fmt.Sprintf(`
  - job_name: tunnelled
    http_sd_configs: [{url: "%[1]s/sd/targets?job=blackbox", refresh_interval: 1s}]
  - job_name: proxied
    proxy_url: %[1]s
    metrics_path: /probe
    params: {module: [icmp]}
    static_configs: [{targets: ["192.0.2.1", "192.0.2.2"]}]
    relabel_configs:
      - {source_labels: [__address__], target_label: __param_target}
      - {source_labels: [__param_target], target_label: instance}
      - {target_label: __address__, replacement: %[2]q}
`, r.URL, exporter)
	p := promserver.StartWith(t, fmt.Sprintf("global: {scrape_interval: %s}\nscrape_configs:%s", promserver.ScrapeInterval, jobs))
	for _, want := range []string{
		`probed{agent="site-a",job="blackbox",instance="https://one.example.org",what="https://one.example.org",module="http_2xx"}`,
		`probed{agent="site-a",job="blackbox",instance="https://two.example.org",what="https://two.example.org",module="http_2xx"}`,
		`probed{job="proxied",instance="192.0.2.1",what="192.0.2.1",module="icmp"}`,
		`probed{job="proxied",instance="192.0.2.2",what="192.0.2.2",module="icmp"}`,
	} {
		p.WantValue(t, want, 1)
	}
}

// TestReadmeThroughTheProxy: the agent's file of the README, and the job with proxy_url of the documentation, with a password
// on the port that is told as proxies are told it.
func TestReadmeThroughTheProxy(t *testing.T) {
	t.Parallel()
	target := &exporter.Rows{}
	address := exporter.Serve(t, target)
	web := filepath.Join(t.TempDir(), "web.yml")
	client.WriteFile(t, web, "basic_auth_users: {alice: $2b$04$3gPF8D8C6AyueEcL6cR8SerOdA7.gr9gMvoMrD1lTei5mVTFhwFS2}\n")
	r := house.StartRelay(t)
	house.StartAgent(t, r, "site-a", fmt.Sprintf("scrape_configs: [{job_name: node, static_configs: [{targets: [%q], labels: {instance: db-1}}]}]\n", address))
	for _, host := range []string{address, "db-1"} {
		if got, err := (client.ScrapeRequest{URL: "http://" + host + "/metrics", Proxy: r.URL}).Do(); err != nil || got.Status != http.StatusOK || got.Body != exporter.RowsBody {
			t.Errorf("as %s: %d %s, %v", host, got.Status, client.Clip(got.Body), err)
		}
	}
	r.Stop(t)
	r.Command.Args = append(r.Command.Args, "--web.config.file="+web)
	r.Process = program.Start(t, r.Command)
	proxy := &url.URL{Scheme: "http", Host: strings.TrimPrefix(r.URL, "http://"), User: url.UserPassword("alice", "secret")}
	client.Eventually(t, client.Patience, "a proxied scrape with the password in proxy_url", func() error {
		got, err := client.ScrapeRequest{URL: "http://" + address + "/metrics", Proxy: proxy.String()}.Do()
		if err == nil && (got.Status != http.StatusOK || got.Body != exporter.RowsBody) {
			err = fmt.Errorf("%w: %d %s", client.ErrScrape, got.Status, client.Clip(got.Body))
		}
		return err
	})
	if seen := target.Last(); seen.Header.Get("Authorization") != "" || seen.Header.Get("Proxy-Authorization") != "" {
		t.Errorf("the target saw %v", seen.Header)
	}
	if got, err := (client.ScrapeRequest{URL: "http://" + address + "/metrics", Proxy: r.URL}).Do(); err != nil || got.Status != http.StatusUnauthorized {
		t.Errorf("without the password: %d, %v", got.Status, err)
	}
	p := promserver.StartWith(t, fmt.Sprintf("scrape_configs: [{job_name: node, scrape_interval: 1s, scrape_timeout: 1s, proxy_url: %q, static_configs: [{targets: [%q]}]}]\n", proxy, address))
	p.WantValue(t, `up{job="node"}`, 1)
}
