//go:build linux

package docs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/netns"
	"pushrelay/internal/e2e/program"
	"pushrelay/internal/e2e/promserver"
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
	page := client.ReadFile(t, "../../../README.md")
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

	n := netns.New(t)
	n.Filter(t, n.Inside, netns.InsideFirewall)
	n.Filter(t, n.Router, netns.RouterFirewall)
	nameRelay(t, n)
	relay, _ := machineIn(t, n.Outside)
	agent, _ := machineIn(t, n.Inside)
	program.Start(t, program.Command{Path: promserver.NodeExporter(t, "127.0.0.1:9100").Path, Args: promserver.NodeExporter(t, "127.0.0.1:9100").Args, Netns: n.Inside})

	begun := time.Now()
	program.Start(t, relay("exec "+firstRelay))
	client.Eventually(t, 20*time.Second, "relay is ready", func() error {
		_, err := n.Get(t, n.Outside, "http://relay.example.org:9091/-/ready")
		return err
	})
	token := program.MustOutput(t, relay(firstToken))
	if strings.Count(token, "\n") != 1 {
		t.Fatalf("a token is one line: %q", token)
	}
	enrolled := program.MustOutput(t, agent(strings.Replace(firstEnroll, "TOKEN", strings.TrimSpace(token), 1)))
	if !strings.Contains(enrolled, "site-a") {
		t.Errorf("it does not say who it is: %s", enrolled)
	}
	program.MustOutput(t, agent(config))
	program.Start(t, agent("exec "+firstAgent))
	client.Eventually(t, 20*time.Second, "a push at the agent", func() error {
		c := program.Output(t, netns.CommandCurlPut(n.Inside, "http://localhost:9091/metrics/job/backup/instance/db-1", "backup_last_success_bytes 48211\n"))
		if c.Code != 0 {
			return fmt.Errorf("%w: %s%s", netns.ErrCurl, c.Stdout, c.Stderr)
		}
		return nil
	})

	file := filepath.Join(t.TempDir(), "prometheus.yml")
	client.WriteFile(t, file, "global:\n  scrape_interval: 1s\n"+prometheus)
	scraper := promserver.CommandOf(t, file, "127.0.0.1:9090")
	scraper.Netns = n.Outside
	prom := &promserver.Server{
		Process: program.Start(t, scraper), URL: "http://127.0.0.1:9090",
		Get: func(url string) (string, error) { return n.Get(t, n.Outside, url) },
	}
	prom.WaitReady(t)
	prom.WantValue(t, `backup_last_success_bytes{agent="site-a",instance="db-1",job="backup"}`, 48211)
	prom.WantValue(t, `up{agent="site-a",instance="db-1",job="node"}`, 1)
	t.Logf("from nothing to up 1 in %v", time.Since(begun).Round(100*time.Millisecond))

	// The token is used up, and a second start needs nothing.
	again := program.Output(t, agent("relay-agent enroll --force "+strings.TrimSpace(token)))
	if again.Code == 0 || !strings.Contains(again.Stderr, "used") {
		t.Errorf("the token lets in again: exit code %d: %s", again.Code, again.Stderr)
	}
}

// nameRelay lets both machines of a network find relay.example.org outside.
func nameRelay(t testing.TB, n netns.Network) {
	t.Helper()
	for _, name := range []string{n.Inside, n.Outside} { // `ip netns exec` puts it in the place of /etc/hosts
		dir := filepath.Join("/etc/netns", name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		client.WriteFile(t, filepath.Join(dir, "hosts"), "127.0.0.1 localhost\n"+netns.OutsideAddress+" relay.example.org\n")
	}
}
