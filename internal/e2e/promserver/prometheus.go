//go:build linux

package promserver

import (
	"encoding/json"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/program"
)

// ScrapeInterval of the Prometheus under test: short, since the tests count its scrapes.
const ScrapeInterval = time.Second

// A Server is Debian's Prometheus, scraping one relay as our documentation tells people to.
type Server struct {
	*program.Process
	URL string
	// get fetches a page of it; another network namespace is reached in another way.
	Get func(url string) (string, error)
}

// PrometheusConfig scrapes a relay's own page and everything that the relay lists.
func PrometheusConfig(relayURL string) string {
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
`, ScrapeInterval, address)
}

// Start starts a Prometheus that scrapes a relay and all that the relay lists.
func Start(t testing.TB, relayURL string) *Server {
	t.Helper()
	address := program.FreeAddress(t)
	p := &Server{URL: "http://" + address, Get: client.WantOK}
	p.Process = program.Start(t, Command(t, relayURL, address))
	p.WaitReady(t)
	return p
}

// StartWith starts Prometheus with a configuration of the test's own.
func StartWith(t testing.TB, text string) *Server {
	t.Helper()
	listen := program.FreeAddress(t)
	config := filepath.Join(t.TempDir(), "prometheus.yml")
	client.WriteFile(t, config, text)
	p := &Server{URL: "http://" + listen, Get: client.WantOK}
	p.Process = program.Start(t, CommandOf(t, config, listen))
	p.WaitReady(t)
	return p
}

// Command is Prometheus as [Start] starts it.
func Command(t testing.TB, relayURL, address string) program.Command {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	client.WriteFile(t, config, PrometheusConfig(relayURL))
	return CommandOf(t, config, address)
}

// CommandOf is Prometheus with a configuration; it keeps its data beside it.
func CommandOf(t testing.TB, config, address string) program.Command {
	t.Helper()
	dir := filepath.Dir(config)
	return program.Command{Path: program.RequireProgram(t, "/usr/bin/prometheus", "prometheus"), Dir: dir, Args: []string{
		"--config.file=" + config,
		"--storage.tsdb.path=" + filepath.Join(dir, "tsdb"),
		"--web.listen-address=" + address,
		"--log.level=warn",
	}}
}

// WaitReady waits until Prometheus answers.
func (p *Server) WaitReady(t testing.TB) {
	t.Helper()
	client.Eventually(t, 30*time.Second, "Prometheus ready", func() error {
		_, err := p.Get(p.URL + "/-/ready")
		return err
	})
}

// A Sample is one value of a series at the time of its scrape.
type Sample struct {
	At    time.Time
	value float64
}

// A TimeSeries is one element of a query's answer.
type TimeSeries struct {
	labels  map[string]string
	Samples []Sample
}

// Query evaluates an expression that gives an instant vector or a range vector.
func (p *Server) Query(expr string) ([]TimeSeries, error) {
	body, err := p.Get(p.URL + "/api/v1/query?query=" + url.QueryEscape(expr))
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
	var found []TimeSeries
	for _, r := range page.Data.Result {
		s := TimeSeries{labels: r.Metric}
		if r.Values == nil {
			r.Values = []pair{r.Value}
		}
		for _, v := range r.Values {
			s.Samples = append(s.Samples, Sample(v))
		}
		found = append(found, s)
	}
	return found, nil
}

// One evaluates an expression that has to give exactly one series.
func (p *Server) One(expr string) (TimeSeries, error) {
	found, err := p.Query(expr)
	if err != nil {
		return TimeSeries{}, err
	}
	if len(found) != 1 {
		return TimeSeries{}, fmt.Errorf("%s gives %d series, want 1: %v", expr, len(found), found)
	}
	return found[0], nil
}

// After returns the samples of the scrapes that began after a moment, oldest first.
func (p *Server) After(expr string, moment time.Time) ([]Sample, error) {
	s, err := p.One(expr + "[10m]")
	if err != nil {
		return nil, err
	}
	for i, sample := range s.Samples {
		if sample.At.After(moment) {
			return s.Samples[i:], nil
		}
	}
	return nil, nil
}

// WantTurned waits until a series has had some scrapes since a moment and checks that it turned to want within two of
// them, and stayed. The count of Prometheus' own scrapes is what matters: a busy machine may scrape late.
func (p *Server) WantTurned(t testing.TB, expr string, moment time.Time, want float64) {
	t.Helper()
	const within, scrapes = 2, 5
	var samples []Sample
	client.Eventually(t, 60*time.Second, fmt.Sprintf("%d scrapes of %s", scrapes, expr), func() (err error) {
		samples, err = p.After(expr, moment)
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

// WantValue waits until an expression gives exactly one series with this value, and returns its labels.
func (p *Server) WantValue(t testing.TB, expr string, want float64) map[string]string {
	t.Helper()
	var s TimeSeries
	client.Eventually(t, 30*time.Second, expr, func() (err error) {
		s, err = p.One(expr)
		if err == nil && s.Samples[0].value != want {
			err = fmt.Errorf("it is %v, want %v", s.Samples[0].value, want)
		}
		return err
	})
	return s.labels
}

// A pair is a sample as Prometheus writes it: [seconds, "value"].
type pair Sample

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
	*p = pair{At: time.UnixMilli(int64(seconds * 1000)), value: value}
	return nil
}

// NodeExporter is a real target with a few collectors that work everywhere.
func NodeExporter(t testing.TB, address string) program.Command {
	t.Helper()
	return program.Command{Path: program.RequireProgram(t, "/usr/bin/prometheus-node-exporter", "prometheus-node-exporter"), Args: []string{
		"--web.listen-address=" + address,
		"--collector.disable-defaults", "--collector.loadavg", "--collector.uname", "--collector.meminfo",
		"--log.level=warn",
	}}
}

// StartNodeExporter starts a target and waits until it answers.
func StartNodeExporter(t testing.TB, address string) *program.Process {
	t.Helper()
	p := program.Start(t, NodeExporter(t, address))
	client.Eventually(t, 10*time.Second, "node exporter ready", func() error {
		_, err := client.WantOK("http://" + address + "/metrics")
		return err
	})
	return p
}

// NodeConfig is an agent's configuration with one real target.
func NodeConfig(address string) string {
	return fmt.Sprintf(`
scrape_configs:
  - job_name: node
    static_configs:
      - targets: [%q]
        labels: {env: production}
`, address)
}

// ValueOf returns the value of an expression that gives exactly one.
func (p *Server) ValueOf(t testing.TB, expr string) float64 {
	t.Helper()
	s, err := p.One(expr)
	if err != nil {
		t.Fatal(err)
	}
	return s.Samples[0].value
}

const (
	// RollingInterval is Prometheus' scrape interval, and the timeout: both relays, the balancer and Prometheus share a busy
	// machine.
	RollingInterval = 3 * time.Second
	// RollingTargets are scraped in turn within an interval.
	RollingTargets = 12
	// RollingBody is what they serve.
	RollingBody = "rolling 1\n"
)

// WantUninterrupted checks that every scrape of a job since a moment succeeded, and that there was one in every interval.
func (p *Server) WantUninterrupted(t testing.TB, job string, since time.Time) {
	t.Helper()
	up, err := p.After(fmt.Sprintf("up{job=%q}", job), since)
	if err != nil {
		t.Fatal(err)
	}
	if want := int(time.Since(since)/RollingInterval) - 1; len(up) < want {
		t.Errorf("%s was scraped %d times in %v, want at least %d", job, len(up), time.Since(since), want)
	}
	for i, s := range up {
		if s.value != 1 {
			t.Errorf("up of %s was %v at %s", job, s.value, s.At.Format(time.StampMilli))
		}
		if i > 0 && s.At.Sub(up[i-1].At) > 3*RollingInterval/2 {
			t.Errorf("%s was not scraped between %s and %s", job, up[i-1].At.Format(time.StampMilli), s.At.Format(time.StampMilli))
		}
	}
	brought, err := p.After(fmt.Sprintf("rolling{job=%q}", job), since)
	brought = slices.DeleteFunc(brought, func(s Sample) bool { return len(up) == 0 || s.At.After(up[len(up)-1].At) }) // scraped since we asked
	if err != nil || len(brought) != len(up) {
		t.Errorf("%d scrapes of %s brought %d samples, %v", len(up), job, len(brought), err)
	}
}
