package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// startPrometheus starts one that scrapes the relay, and all that is behind its agents, where one is installed.
func (d *demo) startPrometheus(ctx context.Context) error {
	path, err := exec.LookPath("prometheus")
	if err != nil {
		fmt.Fprintln(d.out, "Prometheus  is not installed: it would show the same")
		return nil //nolint:nilerr // said above
	}
	addresses, err := freeAddresses(1)
	if err != nil {
		return err
	}
	config := filepath.Join(d.dir, "prometheus.yml")
	text := fmt.Sprintf(`global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
  - job_name: relay
    honor_labels: true
    static_configs: [{targets: [%q]}]
  - job_name: tunnelled
    http_sd_configs: [{url: "%s/sd/targets", refresh_interval: 1s}]
`, strings.TrimPrefix(d.relayURL, "http://"), d.relayURL)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return fmt.Errorf("writing Prometheus' configuration: %w", err)
	}
	err = d.start("prometheus", path, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(d.dir, "prometheus"),
		"--web.listen-address="+addresses[0], "--log.level=warn")
	if err != nil {
		return err
	}
	if err := d.waitReady(ctx, "http://"+addresses[0]); err != nil {
		return err
	}
	d.prometheusURL = "http://" + addresses[0]
	fmt.Fprintf(d.out, "Prometheus  %s\n", d.prometheusURL)
	return nil
}

// showUp shows what Prometheus makes of the target. Without one it shows nothing.
func (d *demo) showUp(ctx context.Context) error {
	return d.query(ctx, fmt.Sprintf(`up{agent=%q,job=%q}`, agentName, d.target.job), "1")
}

// query waits until Prometheus answers with one series of that value, and shows it.
func (d *demo) query(ctx context.Context, query, want string) error {
	if d.prometheusURL == "" {
		return nil
	}
	err := d.poll(ctx, func() error {
		page, err := get(ctx, d.prometheusURL+"/api/v1/query?query="+url.QueryEscape(query))
		if err != nil {
			return err
		}
		var answer struct {
			Data struct{ Result []struct{ Value [2]any } }
		}
		if err := json.Unmarshal([]byte(page), &answer); err != nil {
			return fmt.Errorf("decoding Prometheus' answer: %w", err)
		}
		if len(answer.Data.Result) != 1 || answer.Data.Result[0].Value[1] != want {
			return fmt.Errorf("the answer of Prometheus to %s is %s, want %s", query, page, want)
		}
		return nil
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(d.out, "\nPrometheus: %s is %s\n", query, want)
	return nil
}
