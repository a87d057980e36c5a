//go:build linux

package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The lines of the README that a new user copies, by machine.
const (
	firstRelay  = "relay-server --grpc.tls.server-name=relay.example.org"
	firstToken  = "relay-server agents token site-a"
	firstEnroll = "relay-agent enroll TOKEN"
	firstAgent  = "relay-agent --config.file=agent.yml"
)

// TestFirstUse: the README's first use, word by word, over two machines of which one can be dialled: four commands to the first push and to a target
// that is up.
func TestFirstUse(t *testing.T) {
	t.Parallel()
	page := readFile(t, "../../README.md")
	blocks, err := blocksOf("README.md", page)
	if err != nil {
		t.Fatal(err)
	}
	var config, prometheus string
	lines := map[string]bool{}
	for _, b := range blocks {
		text := strings.Join(b.lines, "\n") + "\n"
		lines[strings.TrimSpace(text)] = b.language == "sh"
		if strings.HasPrefix(text, "cat > agent.yml") {
			config = text
		}
		if b.language == "yaml" && strings.Contains(text, "http_sd_configs") {
			prometheus = text
		}
	}
	for _, line := range []string{firstRelay, firstToken, firstEnroll, firstAgent} {
		if !lines[line] {
			t.Errorf("the README has no block %q", line)
		}
	}
	if config == "" || prometheus == "" {
		t.Fatal("the README has no configuration of agent or Prometheus")
	}

	n := newNetwork(t)
	n.filter(t, n.inside, insideFirewall)
	n.filter(t, n.router, routerFirewall)
	nameRelay(t, n)
	relay, _ := machineIn(t, n.outside)
	agent, _ := machineIn(t, n.inside)
	start(t, command{path: nodeExporterCommand(t, "127.0.0.1:9100").path, args: nodeExporterCommand(t, "127.0.0.1:9100").args, netns: n.inside})

	begun := time.Now()
	start(t, relay("exec "+firstRelay))
	eventually(t, 20*time.Second, "relay is ready", func() error {
		_, err := n.get(t, n.outside, "http://relay.example.org:9091/-/ready")
		return err
	})
	token := mustOutput(t, relay(firstToken))
	if strings.Count(token, "\n") != 1 {
		t.Fatalf("a token is one line: %q", token)
	}
	enrolled := mustOutput(t, agent(strings.Replace(firstEnroll, "TOKEN", strings.TrimSpace(token), 1)))
	if !strings.Contains(enrolled, "site-a") {
		t.Errorf("it does not say who it is: %s", enrolled)
	}
	mustOutput(t, agent(config))
	start(t, agent("exec "+firstAgent))
	eventually(t, 20*time.Second, "a push at the agent", func() error {
		c := output(t, commandCurlPut(n.inside, "http://localhost:9091/metrics/job/backup/instance/db-1", "backup_last_success_bytes 48211\n"))
		if c.code != 0 {
			return fmt.Errorf("%w: %s%s", errCurl, c.stdout, c.stderr)
		}
		return nil
	})

	file := filepath.Join(t.TempDir(), "prometheus.yml")
	writeFile(t, file, "global:\n  scrape_interval: 1s\n"+prometheus)
	scraper := prometheusCommandOf(t, file, "127.0.0.1:9090")
	scraper.netns = n.outside
	prom := &prometheusProcess{
		process: start(t, scraper), url: "http://127.0.0.1:9090",
		get: func(url string) (string, error) { return n.get(t, n.outside, url) },
	}
	prom.waitReady(t)
	prom.wantValue(t, `backup_last_success_bytes{agent="site-a",instance="db-1",job="backup"}`, 48211)
	prom.wantValue(t, `up{agent="site-a",instance="db-1",job="node"}`, 1)
	t.Logf("from nothing to up 1 in %v", time.Since(begun).Round(100*time.Millisecond))

	// The token is used up, and a second start needs nothing.
	again := output(t, agent("relay-agent enroll --force "+strings.TrimSpace(token)))
	if again.code == 0 || !strings.Contains(again.stderr, "used") {
		t.Errorf("the token lets in again: exit code %d: %s", again.code, again.stderr)
	}
}

// nameRelay lets both machines of a network find relay.example.org outside.
func nameRelay(t testing.TB, n network) {
	t.Helper()
	for _, name := range []string{n.inside, n.outside} { // `ip netns exec` puts it in the place of /etc/hosts
		dir := filepath.Join("/etc/netns", name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		writeFile(t, filepath.Join(dir, "hosts"), "127.0.0.1 localhost\n"+outsideAddress+" relay.example.org\n")
	}
}
