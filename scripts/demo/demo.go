package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// A demo is one run. It is used by one goroutine.
type demo struct {
	out io.Writer
	bin string // the folder of the programs
	dir string // everything that is written

	started []*program // in the order of their start

	relayURL, relayAddress string // HTTP, and where agents dial in
	agentURL               string
	prometheusURL          string // empty where none is installed
	target                 target
}

const agentName = "site-a"

// A target is what is scraped through the tunnel: a job, an address, and a metric family that its page has to show.
type target struct{ job, address, family string }

// A targetGroup is one of Prometheus' HTTP service discovery.
type targetGroup struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

// An act is one thing that is shown, in a few steps.
type act struct {
	title string
	steps []func(context.Context) error
}

// show goes through what it is for, act by act.
func (d *demo) show(ctx context.Context) error {
	acts := []act{
		{"Before: a relay with an authority of its own, an agent that comes in by a token and dials it over mutual TLS, a Prometheus", []func(context.Context) error{
			d.startRelay, d.enrolAgent, d.startAgent, d.startPrometheus,
		}},
		{"Act 1: a job pushes to the agent, on loopback, and it shows at the relay", []func(context.Context) error{d.push, d.showPushed}},
		{"Act 2: what is behind the agent is found at the relay, and scraped through the tunnel", []func(context.Context) error{d.showDiscovery, d.showScrape, d.showUp}},
		{"Act 3: a job says when it pushes next, and for how long this is true. Then it dies", []func(context.Context) error{d.die}},
		{"Act 4: the relay is killed, a job pushes meanwhile, and nothing is lost", []func(context.Context) error{d.outage}},
	}
	if err := d.play(ctx, acts); err != nil {
		return err
	}
	d.showPages()
	return nil
}

// play goes through acts.
func (d *demo) play(ctx context.Context, acts []act) error {
	for _, act := range acts {
		fmt.Fprintf(d.out, "\n%s\n\n", act.title)
		for _, step := range act.steps {
			if err := step(ctx); err != nil {
				return fmt.Errorf("%s: %w", act.title, err)
			}
		}
	}
	return nil
}

// showPages says what there is to open, and what a Prometheus of one's own needs.
func (d *demo) showPages() {
	fmt.Fprintf(d.out, `
All of it worked. Groups, agents and flags are on the relay's page: open %s/ in a browser.
`, d.relayURL)
	if d.prometheusURL != "" {
		fmt.Fprintf(d.out, "Prometheus has it as well: open %s/graph?g0.expr=up&g0.tab=1\n", d.prometheusURL)
	}
	fmt.Fprintf(d.out, `
A Prometheus that scrapes both needs no more than this:

    scrape_configs:
      - job_name: relay
        honor_labels: true
        static_configs: [{targets: ["%s"]}]
      - job_name: tunnelled
        http_sd_configs: [{url: "%s/sd/targets"}]
`, strings.TrimPrefix(d.relayURL, "http://"), d.relayURL)
}

func (d *demo) startRelay(ctx context.Context) error {
	if d.relayURL == "" { // a second start is where the first one was
		addresses, err := freeAddresses(2)
		if err != nil {
			return err
		}
		d.relayURL, d.relayAddress = "http://"+addresses[0], addresses[1]
	}
	err := d.start("relay-server", d.program("relay-server"), d.dataDirFlag(),
		"--web.listen-address="+strings.TrimPrefix(d.relayURL, "http://"), "--grpc.listen-address="+d.relayAddress)
	if err != nil {
		return err
	}
	if err := d.waitReady(ctx, d.relayURL); err != nil {
		return err
	}
	fmt.Fprintf(d.out, "relay       %s, agents dial in at %s\n", d.relayURL, d.relayAddress)
	return nil
}

// enrolAgent makes a token at the relay, and takes it to the agent.
func (d *demo) enrolAgent(ctx context.Context) error {
	token := exec.CommandContext(ctx, d.program("relay-server"), d.dataDirFlag(), "agents", "token", agentName, "--relay.address="+d.relayAddress)
	var said strings.Builder
	token.Stderr = &said
	made, err := token.Output()
	if err != nil {
		return fmt.Errorf("making the token: %w\n%s", err, said.String())
	}
	fmt.Fprintf(d.out, "\nrelay$ relay-server agents token %s\n    prj1_…\n", agentName)
	enrol := exec.CommandContext(ctx, d.program("relay-agent"), "enroll", d.agentDataDirFlag(), "-")
	enrol.Stdin = bytes.NewReader(made)
	out, err := enrol.CombinedOutput()
	if err != nil {
		return fmt.Errorf("enrolling the agent: %w\n%s", err, out)
	}
	first, _, _ := strings.Cut(string(out), "\n")
	fmt.Fprintf(d.out, "agent$ relay-agent enroll prj1_…\n    %s\n\n", first)
	return nil
}

func (d *demo) startAgent(ctx context.Context) error {
	addresses, err := freeAddresses(2)
	if err != nil {
		return err
	}
	if err := d.chooseTarget(ctx, addresses[0], addresses[1]); err != nil {
		return err
	}
	config := filepath.Join(d.dir, "agent.yml")
	text := fmt.Sprintf("scrape_configs:\n  - job_name: %s\n    static_configs:\n      - targets: [%q]\n", d.target.job, d.target.address)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return fmt.Errorf("writing the agent's configuration: %w", err)
	}
	d.agentURL = "http://" + addresses[0]
	if err := d.start("relay-agent", d.program("relay-agent"), d.agentDataDirFlag(), "--config.file="+config, "--web.listen-address="+addresses[0]); err != nil {
		return err
	}
	if err := d.waitReady(ctx, d.agentURL); err != nil {
		return err
	}
	if err := d.waitConnected(ctx); err != nil {
		return err
	}
	fmt.Fprintf(d.out, "agent       %s, %s, connected\ntarget      job %q at %s\n", d.agentURL, agentName, d.target.job, d.target.address)
	return nil
}

// waitConnected waits until the agent knows of the session. It does so a little later than the relay, and would keep what is pushed before.
func (d *demo) waitConnected(ctx context.Context) error {
	return d.poll(ctx, func() error {
		page, err := get(ctx, d.agentURL+"/metrics")
		if err == nil && !strings.Contains(page, fmt.Sprintf("relay_agent_connected{relay=%q} 1\n", d.relayAddress)) {
			err = errors.New("the agent does not show the relay as connected")
		}
		return err
	})
}

// chooseTarget takes a real exporter where there is one. Otherwise the agent's own page is as real as any.
func (d *demo) chooseTarget(ctx context.Context, agentAddress, exporterAddress string) error {
	d.target = target{job: "agent", address: agentAddress, family: "relay_agent_connected"}
	for _, name := range []string{"prometheus-node-exporter", "node_exporter"} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		d.target = target{job: "node", address: exporterAddress, family: "node_uname_info"}
		if err := d.start(name, path, "--web.listen-address="+exporterAddress, "--log.level=warn"); err != nil {
			return err
		}
		return d.poll(ctx, func() error { _, err := get(ctx, "http://"+exporterAddress+"/metrics"); return err })
	}
	return nil
}

const pushed = `# HELP backup_last_success_bytes Size of the last backup.
# TYPE backup_last_success_bytes gauge
backup_last_success_bytes 48211
`

func (d *demo) push(ctx context.Context) error {
	url := d.agentURL + "/metrics/job/backup/instance/db-1"
	fmt.Fprintf(d.out, "$ curl -X PUT --data-binary @- %s\n%s", url, indent(pushed))
	if err := d.put(ctx, url, pushed); err != nil {
		return err
	}
	fmt.Fprintln(d.out, "200 OK")
	fmt.Fprintln(d.out)
	return nil
}

func (d *demo) showPushed(ctx context.Context) error {
	page, err := get(ctx, d.relayURL+"/metrics")
	if err != nil {
		return err
	}
	const want = `backup_last_success_bytes{agent="site-a",instance="db-1",job="backup"} 48211`
	lines := linesWith(page, "backup_last_success_bytes")
	fmt.Fprintf(d.out, "$ curl %s/metrics\n%s", d.relayURL, indent(lines))
	if !strings.Contains(lines, want+"\n") {
		return fmt.Errorf("the relay's page has no %s", want)
	}
	return nil
}

func (d *demo) showDiscovery(ctx context.Context) error {
	group, page, err := d.discover(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(d.out, "$ curl %s/sd/targets\n%s", d.relayURL, indent(page))
	fmt.Fprintln(d.out)
	for name, want := range map[string]string{"job": d.target.job, "instance": d.target.address, "agent": agentName} {
		if got := group.Labels[name]; got != want {
			return fmt.Errorf("the target has %s=%q, want %q", name, got, want)
		}
	}
	return nil
}

// discover returns the only target group, and the page for a reader.
func (d *demo) discover(ctx context.Context) (targetGroup, string, error) {
	page, err := get(ctx, d.relayURL+"/sd/targets")
	if err != nil {
		return targetGroup{}, "", err
	}
	var groups []targetGroup
	if err := json.Unmarshal([]byte(page), &groups); err != nil {
		return targetGroup{}, "", fmt.Errorf("decoding /sd/targets: %w\n%s", err, page)
	}
	if len(groups) != 1 || len(groups[0].Targets) != 1 {
		return targetGroup{}, "", fmt.Errorf("/sd/targets lists not exactly one target:\n%s", page)
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, []byte(page), "", "  "); err != nil {
		return targetGroup{}, "", fmt.Errorf("indenting /sd/targets: %w", err)
	}
	return groups[0], strings.TrimSpace(indented.String()) + "\n", nil
}

func (d *demo) showScrape(ctx context.Context) error {
	group, _, err := d.discover(ctx)
	if err != nil {
		return err
	}
	url := "http://" + group.Targets[0] + group.Labels["__metrics_path__"]
	began := time.Now()
	page, err := get(ctx, url)
	if err != nil {
		return err
	}
	lines := linesWith(page, d.target.family)
	fmt.Fprintf(d.out, "$ curl %s\n%s    … %d bytes in %v\n", url, indent(lines), len(page), time.Since(began).Round(time.Millisecond))
	if lines == "" {
		return fmt.Errorf("the page of the target has no %s", d.target.family)
	}
	return nil
}

func (d *demo) program(name string) string { return filepath.Join(d.bin, name) }
func (d *demo) agentDataDirFlag() string   { return "--data.dir=" + filepath.Join(d.dir, "agent-data") }

func (d *demo) dataDirFlag() string { return "--data.dir=" + filepath.Join(d.dir, "relay-data") }
