//go:build linux

package docs_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/house"
	"pushrelay/internal/e2e/netns"
	"pushrelay/internal/e2e/program"
	"pushrelay/internal/e2e/promserver"
)

// TestIsolatedNetwork: nobody can dial the agent's network, and still what is pushed there and what runs there reaches a
// Prometheus outside.
func TestIsolatedNetwork(t *testing.T) {
	t.Parallel()
	n := netns.New(t)
	const node = netns.InsideAddress + ":9100"
	exporter := program.Start(t, program.Command{Path: promserver.NodeExporter(t, node).Path, Args: promserver.NodeExporter(t, node).Args, Netns: n.Inside})
	waitFor := func(name, url string) {
		t.Helper()
		client.Eventually(t, 20*time.Second, url, func() error { _, err := n.Get(t, name, url); return err })
	}
	waitFor(n.Inside, "http://"+node+"/metrics")

	// As long as there is no firewall the target answers from outside: what fails below fails because of the firewall.
	waitFor(n.Outside, "http://"+node+"/metrics")
	n.Filter(t, n.Inside, netns.InsideFirewall)
	n.Filter(t, n.Router, netns.RouterFirewall)
	n.WantUnreachable(t, n.Outside, "http://"+node+"/metrics")

	const relayURL = "http://" + netns.OutsideAddress + ":9091"
	dataDir, certificates := filepath.Join(t.TempDir(), "relay"), filepath.Join(t.TempDir(), "site-a")
	program.Start(t, program.Command{Path: program.RelayServer(), Netns: n.Outside, Args: []string{"--data.dir=" + dataDir, "--grpc.tls.server-name=" + netns.OutsideAddress}})
	waitFor(n.Outside, relayURL+"/-/ready")
	program.MustOutput(t, program.Command{Path: program.RelayServer(), Args: []string{"--data.dir=" + dataDir, "agent-certificate", "site-a", "--out=" + certificates}})

	config := filepath.Join(t.TempDir(), "agent.yml")
	client.WriteFile(t, config, promserver.NodeConfig(node))
	program.Start(t, program.Command{Path: program.RelayAgent(), Netns: n.Inside, Args: []string{
		"--relay.address=" + netns.OutsideAddress + ":9443",
		"--tls.ca-file=" + filepath.Join(certificates, "ca.crt"),
		"--tls.cert-file=" + filepath.Join(certificates, "agent.crt"),
		"--tls.key-file=" + filepath.Join(certificates, "agent.key"),
		"--config.file=" + config,
	}})
	waitFor(n.Inside, "http://127.0.0.1:9091/-/ready")
	client.Eventually(t, 20*time.Second, "agent connected", func() error {
		page, err := n.Get(t, n.Outside, relayURL+"/api/v1/agents")
		if err != nil {
			return err
		}
		all := house.DecodeAgents(t, page)
		if len(all) != 1 || !all[0].Connected {
			return house.ErrNotConnected
		}
		// The relay sees the router and nothing of the network behind it.
		if host, _, _ := strings.Cut(all[0].RemoteAddress, ":"); host != netns.RouterOutside {
			return fmt.Errorf("the relay sees the agent at %q, want the router's %s", all[0].RemoteAddress, netns.RouterOutside)
		}
		return nil
	})

	command := promserver.Command(t, relayURL, "127.0.0.1:9090")
	command.Netns = n.Outside
	prom := &promserver.Server{
		Process: program.Start(t, command), URL: "http://127.0.0.1:9090",
		Get: func(url string) (string, error) { return n.Get(t, n.Outside, url) },
	}
	prom.WaitReady(t)

	pushFrom := func(name, url, body string) {
		t.Helper()
		c := program.Output(t, netns.CommandCurlPut(name, url, body))
		if c.Code != 0 {
			t.Fatalf("PUT %s from %s: exit code %d: %s%s", url, name, c.Code, c.Stdout, c.Stderr)
		}
	}
	pushFrom(n.Inside, "http://127.0.0.1:9091/metrics/job/backup", "backup_bytes 4711\n")
	pushFrom(n.Inside, relayURL+"/metrics/job/direct", "direct_done 1\n")
	prom.WantValue(t, `backup_bytes{job="backup",agent="site-a"}`, 4711)
	prom.WantValue(t, `direct_done{job="direct",agent=""}`, 1)

	up := fmt.Sprintf(`up{job="node",agent="site-a",instance=%q}`, node)
	prom.WantValue(t, up, 1)
	prom.WantValue(t, `node_uname_info{job="node"}`, 1)
	exporter.Kill(t)
	prom.WantTurned(t, up, time.Now(), 0)

	for _, port := range []string{"9091", "9100", "9443", "22"} {
		n.WantUnreachable(t, n.Outside, "http://"+netns.InsideAddress+":"+port+"/metrics")
	}
}
