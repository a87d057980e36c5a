//go:build linux

package page_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/encoding/protodelim"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/exporter"
	"pushrelay/internal/e2e/house"
	"pushrelay/internal/e2e/program"
)

var errPage = errors.New("it is another page")

// A pageSite is a relay with all that its pages show: agents that are well and away, targets that are up and down, 300 jobs of which one is
// late, others that fail, and the groups of a host that is gone.
type pageSite struct {
	*house.Relay

	berlin, lima *house.Agent
	shut         string // an address at which nothing listens
}

func newPageSite(t *testing.T, flags ...string) *pageSite {
	t.Helper()
	r := house.StartRelay(t, append([]string{"--web.enable-admin-api", "--push.disable-consistency-check"}, flags...)...)
	s := &pageSite{Relay: r, shut: program.FreeAddress(t)}
	good := exporter.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/metrics" {
			http.Error(w, "no such page", http.StatusNotFound)
			return
		}
		fmt.Fprint(w, strings.Repeat("some_metric 1\n", 1000))
	}))
	texts := t.TempDir()
	client.WriteFile(t, filepath.Join(texts, "good.prom"), "from_file 1\n")
	client.WriteFile(t, filepath.Join(texts, "bad.prom"), "from_file one\n")
	s.berlin = house.StartAgent(t, r, "site-berlin", fmt.Sprintf(`
scrape_configs:
  - {job_name: node, static_configs: [{targets: [%q], labels: {instance: db-1}}, {targets: [%q], labels: {instance: db-2}}]}
  - {job_name: shop, metrics_path: /nothing, static_configs: [{targets: [%q], labels: {instance: shop-1}}]}
textfile_configs: [{directory: %q, job: scripts}]
`, good, s.shut, good, texts))
	s.lima = house.StartAgent(t, r, "site-lima", fmt.Sprintf("scrape_configs: [{job_name: node, static_configs: [{targets: [%q], labels: {instance: lima-1}}]}]\n", good))
	s.pushAll(t)
	s.scrapeAll(t)
	s.lima.Stop(t)
	s.scrapeAll(t)
	return s
}

func (s *pageSite) push(t testing.TB, path, body string, headers ...string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		t.Fatalf("PUT %s: %s", path, resp.Status)
	}
}

func (s *pageSite) pushAll(t testing.TB) {
	t.Helper()
	for i := range 299 {
		s.push(t, fmt.Sprintf("/metrics/job/backup/instance/db-%d", i), "# HELP backup_bytes Bytes of the last backup.\n# TYPE backup_bytes gauge\nbackup_bytes{kind=\"full\"} 48211\nbackup_bytes{kind=\"diff\"} 12\n", "Push-Every", "24h")
	}
	s.push(t, "/metrics/job/nightly-report/instance/web-7", "report_rows 17\n", "Push-Every", "1s", "Push-Grace", "1s")
	s.push(t, "/metrics/job/migrate/instance/db-1", "", "Push-Failed", "exit status 3: the disk is full")
	s.push(t, "/metrics/job/import/instance/web-3", "rows 1\n")
	s.push(t, "/metrics/job/import/instance/web-3", "rows 1 1700000000000\n") // refused for its timestamp, and told so in the group
	s.push(t, "/metrics/job/one", "# TYPE odd counter\nodd 1\n")
	s.push(t, "/metrics/job/two", "# TYPE odd gauge\nodd 1\n")
	for _, job := range []string{"backup", "cleanup", "report", "sync"} {
		s.push(t, "/metrics/job/"+job+"/instance/old-7", job+"_seconds 1\n")
	}
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "took_seconds", Help: "How long runs took.", NativeHistogramBucketFactor: 1.1})
	for i := range 2000 {
		h.Observe(float64(i*i) / 1e6)
	}
	m := &dto.Metric{}
	if err := h.Write(m); err != nil {
		t.Fatal(err)
	}
	name, help := "took_seconds", "How long runs took."
	var body bytes.Buffer
	if _, err := protodelim.MarshalTo(&body, &dto.MetricFamily{Name: &name, Help: &help, Type: dto.MetricType_HISTOGRAM.Enum(), Metric: []*dto.Metric{m}}); err != nil {
		t.Fatal(err)
	}
	s.push(t, "/metrics/job/batch", body.String(), "Content-Type", "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited")
}

// scrapeAll scrapes every target as Prometheus does.
func (s *pageSite) scrapeAll(t testing.TB) {
	t.Helper()
	for _, g := range s.Discovered(t) {
		if _, err := client.Fetch(http.MethodGet, s.URL+g.Labels["__metrics_path__"], nil); err != nil {
			t.Fatal(err)
		}
	}
}

// residentBytes returns how much memory a process has, after it had time to give back what it does not need.
func residentBytes(t testing.TB, p *program.Process) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.Cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	var size, resident int
	if _, err := fmt.Sscan(string(text), &size, &resident); err != nil {
		t.Fatal(err)
	}
	return resident * os.Getpagesize()
}
