//go:build linux

package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// scrapeInterval of the Prometheus under test: short, since the tests count its scrapes.
const scrapeInterval = time.Second

// A prometheusProcess is Debian's Prometheus, scraping one relay as our documentation tells people to.
type prometheusProcess struct {
	*process
	url string
	// get fetches a page of it; another network namespace is reached in another way.
	get func(url string) (string, error)
}

// prometheusConfig scrapes a relay's own page and everything that the relay lists.
func prometheusConfig(relayURL string) string {
	address := strings.TrimPrefix(relayURL, "http://")
	return fmt.Sprintf(`
global:
  scrape_interval: %[1]s
  scrape_timeout: %[1]s
scrape_configs:
  - job_name: relay
    honor_labels: true
    static_configs:
      - targets: [%[2]q]
  - job_name: tunnelled
    http_sd_configs:
      - url: http://%[2]s/sd/targets
        refresh_interval: 1s
`, scrapeInterval, address)
}

func startPrometheus(t testing.TB, relayURL string) *prometheusProcess {
	t.Helper()
	address := freeAddress(t)
	p := &prometheusProcess{url: "http://" + address, get: wantOK}
	p.process = start(t, prometheusCommand(t, relayURL, address))
	p.waitReady(t)
	return p
}

// startPrometheusWith starts Prometheus with a configuration of the test's own.
func startPrometheusWith(t testing.TB, text string) *prometheusProcess {
	t.Helper()
	listen := freeAddress(t)
	config := filepath.Join(t.TempDir(), "prometheus.yml")
	writeFile(t, config, text)
	p := &prometheusProcess{url: "http://" + listen, get: wantOK}
	p.process = start(t, prometheusCommandOf(t, config, listen))
	p.waitReady(t)
	return p
}

func prometheusCommand(t testing.TB, relayURL, address string) command {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	writeFile(t, config, prometheusConfig(relayURL))
	return prometheusCommandOf(t, config, address)
}

// prometheusCommandOf is Prometheus with a configuration; it keeps its data beside it.
func prometheusCommandOf(t testing.TB, config, address string) command {
	t.Helper()
	dir := filepath.Dir(config)
	return command{path: requireProgram(t, "/usr/bin/prometheus", "prometheus"), dir: dir, args: []string{
		"--config.file=" + config,
		"--storage.tsdb.path=" + filepath.Join(dir, "tsdb"),
		"--web.listen-address=" + address,
		"--log.level=warn",
	}}
}

func (p *prometheusProcess) waitReady(t testing.TB) {
	t.Helper()
	eventually(t, 30*time.Second, "Prometheus ready", func() error {
		_, err := p.get(p.url + "/-/ready")
		return err
	})
}

// A sample is one value of a series at the time of its scrape.
type sample struct {
	at    time.Time
	value float64
}

// A timeSeries is one element of a query's answer.
type timeSeries struct {
	labels  map[string]string
	samples []sample
}

// query evaluates an expression that gives an instant vector or a range vector.
func (p *prometheusProcess) query(expr string) ([]timeSeries, error) {
	body, err := p.get(p.url + "/api/v1/query?query=" + url.QueryEscape(expr))
	if err != nil {
		return nil, err
	}
	var page struct {
		Data struct {
			Result []struct {
				Metric map[string]string
				Value  pair
				Values []pair
			}
		}
	}
	if err := json.Unmarshal([]byte(body), &page); err != nil {
		return nil, fmt.Errorf("decoding the answer to %q: %w", expr, err)
	}
	var found []timeSeries
	for _, r := range page.Data.Result {
		s := timeSeries{labels: r.Metric}
		if r.Values == nil {
			r.Values = []pair{r.Value}
		}
		for _, v := range r.Values {
			s.samples = append(s.samples, sample(v))
		}
		found = append(found, s)
	}
	return found, nil
}

// one evaluates an expression that has to give exactly one series.
func (p *prometheusProcess) one(expr string) (timeSeries, error) {
	found, err := p.query(expr)
	if err != nil {
		return timeSeries{}, err
	}
	if len(found) != 1 {
		return timeSeries{}, fmt.Errorf("%s gives %d series, want 1: %v", expr, len(found), found)
	}
	return found[0], nil
}

// after returns the samples of the scrapes that began after a moment, oldest first.
func (p *prometheusProcess) after(expr string, moment time.Time) ([]sample, error) {
	s, err := p.one(expr + "[10m]")
	if err != nil {
		return nil, err
	}
	for i, sample := range s.samples {
		if sample.at.After(moment) {
			return s.samples[i:], nil
		}
	}
	return nil, nil
}

// wantTurned waits until a series has had some scrapes since a moment and checks that it turned to want within two of
// them, and stayed. The count of Prometheus' own scrapes is what matters: a busy machine may scrape late.
func (p *prometheusProcess) wantTurned(t testing.TB, expr string, moment time.Time, want float64) {
	t.Helper()
	const within, scrapes = 2, 5
	var samples []sample
	eventually(t, 60*time.Second, fmt.Sprintf("%d scrapes of %s", scrapes, expr), func() (err error) {
		samples, err = p.after(expr, moment)
		if err == nil && len(samples) < scrapes {
			err = fmt.Errorf("%d scrapes so far", len(samples))
		}
		return err
	})
	for i, s := range samples {
		if s.value != want && i+1 >= within {
			t.Errorf("%s: scrape %d after %s still is %v, want %v from scrape %d on: %v", expr, i+1, moment.Format(time.StampMilli), s.value, want, within, samples)
			return
		}
	}
}

// wantValue waits until an expression gives exactly one series with this value, and returns its labels.
func (p *prometheusProcess) wantValue(t testing.TB, expr string, want float64) map[string]string {
	t.Helper()
	var s timeSeries
	eventually(t, 30*time.Second, expr, func() (err error) {
		s, err = p.one(expr)
		if err == nil && s.samples[0].value != want {
			err = fmt.Errorf("it is %v, want %v", s.samples[0].value, want)
		}
		return err
	})
	return s.labels
}

// A pair is a sample as Prometheus writes it: [seconds, "value"].
type pair sample

func (p *pair) UnmarshalJSON(b []byte) error {
	var seconds float64
	var text string
	if err := json.Unmarshal(b, &[]any{&seconds, &text}); err != nil {
		return fmt.Errorf("decoding a sample: %w", err)
	}
	value, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return fmt.Errorf("decoding a sample: %w", err)
	}
	*p = pair{at: time.UnixMilli(int64(seconds * 1000)), value: value}
	return nil
}

// nodeExporterCommand is a real target with a few collectors that work everywhere.
func nodeExporterCommand(t testing.TB, address string) command {
	t.Helper()
	return command{path: requireProgram(t, "/usr/bin/prometheus-node-exporter", "prometheus-node-exporter"), args: []string{
		"--web.listen-address=" + address,
		"--collector.disable-defaults", "--collector.loadavg", "--collector.uname", "--collector.meminfo",
		"--log.level=warn",
	}}
}

// startNodeExporter starts a target and waits until it answers.
func startNodeExporter(t testing.TB, address string) *process {
	t.Helper()
	p := start(t, nodeExporterCommand(t, address))
	eventually(t, 10*time.Second, "node exporter ready", func() error {
		_, err := wantOK("http://" + address + "/metrics")
		return err
	})
	return p
}

// TestPrometheusFollowsNoRedirectOfATarget: neither to where a target wants, with the password that it has for the relay, nor to the
// relay itself, whose own metrics would be stored as the target's.
func TestPrometheusFollowsNoRedirectOfATarget(t *testing.T) {
	t.Parallel()
	var lured atomic.Int64
	elsewhere := serveHandler(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		lured.Add(1)
		fmt.Fprintln(w, "lured 1")
	}))
	address := serveHandler(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		switch req.URL.Path {
		case "/away":
			http.Redirect(w, req, "http://"+elsewhere+"/metrics", http.StatusTemporaryRedirect)
		case "/relative":
			http.Redirect(w, req, "/metrics", http.StatusFound)
		default:
			fmt.Fprintln(w, "own 1")
		}
	}))
	r := startRelay(t)
	startAgent(t, r, "site-a", strings.ReplaceAll(configOf(address, "away", "relative", "metrics"), "    static", "    follow_redirects: false\n    static"))
	p := startPrometheusWith(t, prometheusConfig(r.url)+fmt.Sprintf(`
  - job_name: proxied
    proxy_url: %s
    metrics_path: /away
    static_configs: [{targets: [%q]}]
`, r.url, address))
	p.wantValue(t, `up{job="metrics"}`, 1)
	p.wantValue(t, `own{job="metrics"}`, 1)
	for _, job := range []string{"away", "relative", "proxied"} {
		p.wantValue(t, fmt.Sprintf("up{job=%q}", job), 0)
		if found, err := p.query(fmt.Sprintf(`count({job=%q,__name__!~"up|scrape_.*"})`, job)); err != nil || len(found) != 0 {
			t.Errorf("job %s stored series: %v, %v", job, found, err)
		}
	}
	if lured.Load() != 0 {
		t.Errorf("Prometheus went elsewhere %d times", lured.Load())
	}
	told, _ := r.toldTargets(t, "site-a")
	if said := told["away-"+address].LastError; !strings.HasPrefix(said, "target_redirects: ") || !strings.Contains(said, elsewhere) {
		t.Errorf("the relay says of the redirect %q", said)
	}
}
