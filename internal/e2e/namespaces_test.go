//go:build linux

package e2e_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pushrelay/internal/need"
)

// The addresses of the two networks. 203.0.113.0/24 is reserved for documentation: nothing real is ever there.
const (
	insideAddress  = "10.77.0.2"
	routerInside   = "10.77.0.1"
	routerOutside  = "203.0.113.1"
	outsideAddress = "203.0.113.2"
)

// insideFirewall lets the machine of the agent answer nobody who was not asked first.
const insideFirewall = `
table inet pushrelay {
	chain input {
		type filter hook input priority 0; policy drop;
		iif "lo" accept
		ct state established,related accept
	}
}
`

// routerFirewall hides the inner network behind the router's outer address.
const routerFirewall = `
table ip pushrelay {
	chain postrouting {
		type nat hook postrouting priority srcnat;
		oif "outer" masquerade
	}
}
`

// A network is three namespaces in a row: the agent's, a router, and the public side with relay and Prometheus.
type network struct{ inside, router, outside string }

// networks counts those of this process, so that their names differ.
var networks atomic.Int64

// newNetwork makes the namespaces, without any firewall yet.
func newNetwork(t testing.TB) network {
	t.Helper()
	requireRoot(t)
	requireProgram(t, "/usr/bin/ip", "iproute2")
	requireProgram(t, "/usr/sbin/nft", "nftables")
	requireProgram(t, "/usr/bin/curl", "curl")
	prefix := fmt.Sprintf("pushrelay-%d-%d-", os.Getpid(), networks.Add(1))
	n := network{prefix + "in", prefix + "router", prefix + "out"}
	for _, name := range []string{n.inside, n.router, n.outside} {
		if r := output(t, command{path: "ip", args: []string{"netns", "add", name}}); r.code != 0 {
			need.Missing(t, "no network namespace can be made here: %s", r.stderr)
		}
		t.Cleanup(func() { output(t, command{path: "ip", args: []string{"netns", "delete", name}}) })
		n.ip(t, name, "link", "set", "lo", "up")
	}
	n.connect(t, n.inside, "wan", insideAddress, "inner", routerInside)
	n.connect(t, n.outside, "lan", outsideAddress, "outer", routerOutside)
	n.ip(t, n.inside, "route", "add", "default", "via", routerInside)
	// The outside even gets a route to the inner network, which the real Internet has not.
	n.ip(t, n.outside, "route", "add", "default", "via", routerOutside)
	if r := output(t, command{path: "sysctl", args: []string{"-qw", "net.ipv4.ip_forward=1"}, netns: n.router}); r.code != 0 {
		need.Missing(t, "no namespace can route here: %s", r.stderr)
	}
	return n
}

// connect lays a cable between a namespace and the router.
func (n network) connect(t testing.TB, name, link, address, routerLink, routerAddress string) {
	t.Helper()
	n.ip(t, n.router, "link", "add", routerLink, "type", "veth", "peer", "name", link, "netns", name)
	n.ip(t, n.router, "address", "add", routerAddress+"/24", "dev", routerLink)
	n.ip(t, n.router, "link", "set", routerLink, "up")
	n.ip(t, name, "address", "add", address+"/24", "dev", link)
	n.ip(t, name, "link", "set", link, "up")
}

func (network) ip(t testing.TB, name string, args ...string) {
	t.Helper()
	if r := output(t, command{path: "ip", args: append([]string{"-netns", name}, args...)}); r.code != 0 {
		need.Missing(t, "no network can be laid here: ip %v: %s", args, r.stderr)
	}
}

// filter loads a firewall.
func (network) filter(t testing.TB, name, rules string) {
	t.Helper()
	if r := outputWithInput(t, command{path: "/usr/sbin/nft", args: []string{"-f", "-"}, netns: name}, rules); r.code != 0 {
		need.Missing(t, "no firewall can be loaded here: %s", r.stderr)
	}
}

var errCurl = errors.New("curl")

// curlTimeout is curl's exit code when nothing answered in time.
const curlTimeout = 28

// get fetches a page from within a namespace.
func (network) get(t testing.TB, name, url string) (string, error) {
	t.Helper()
	r := output(t, command{path: "/usr/bin/curl", netns: name, args: []string{
		"--silent", "--show-error", "--fail-with-body", "--connect-timeout", "2", "--max-time", "20", "--noproxy", "*", url,
	}})
	if r.code != 0 {
		return r.stdout, fmt.Errorf("%w: exit code %d: %s", errCurl, r.code, r.stderr)
	}
	return r.stdout, nil
}

// wantUnreachable checks that nothing answers to a dial from a namespace: not even a refusal.
func (network) wantUnreachable(t testing.TB, name, url string) {
	t.Helper()
	r := output(t, command{path: "/usr/bin/curl", netns: name, args: []string{"--silent", "--connect-timeout", "2", "--noproxy", "*", url}})
	if r.code != curlTimeout {
		t.Errorf("dialling %s from outside: curl's exit code %d, want %d (timeout)\n%s", url, r.code, curlTimeout, r.stdout)
	}
}

// TestIsolatedNetwork: nobody can dial the agent's network, and still what is pushed there and what runs there reaches a
// Prometheus outside.
func TestIsolatedNetwork(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	const node = insideAddress + ":9100"
	exporter := start(t, command{path: nodeExporterCommand(t, node).path, args: nodeExporterCommand(t, node).args, netns: n.inside})
	waitFor := func(name, url string) {
		t.Helper()
		eventually(t, 20*time.Second, url, func() error { _, err := n.get(t, name, url); return err })
	}
	waitFor(n.inside, "http://"+node+"/metrics")

	// As long as there is no firewall the target answers from outside: what fails below fails because of the firewall.
	waitFor(n.outside, "http://"+node+"/metrics")
	n.filter(t, n.inside, insideFirewall)
	n.filter(t, n.router, routerFirewall)
	n.wantUnreachable(t, n.outside, "http://"+node+"/metrics")

	const relayURL = "http://" + outsideAddress + ":9091"
	dataDir, certificates := filepath.Join(t.TempDir(), "relay"), filepath.Join(t.TempDir(), "site-a")
	start(t, command{path: programs.relayServer, netns: n.outside, args: []string{"--data.dir=" + dataDir, "--grpc.tls.server-name=" + outsideAddress}})
	waitFor(n.outside, relayURL+"/-/ready")
	mustOutput(t, command{path: programs.relayServer, args: []string{"--data.dir=" + dataDir, "agent-certificate", "site-a", "--out=" + certificates}})

	config := filepath.Join(t.TempDir(), "agent.yml")
	writeFile(t, config, nodeConfig(node))
	start(t, command{path: programs.relayAgent, netns: n.inside, args: []string{
		"--relay.address=" + outsideAddress + ":9443",
		"--tls.ca-file=" + filepath.Join(certificates, "ca.crt"),
		"--tls.cert-file=" + filepath.Join(certificates, "agent.crt"),
		"--tls.key-file=" + filepath.Join(certificates, "agent.key"),
		"--config.file=" + config,
	}})
	waitFor(n.inside, "http://127.0.0.1:9091/-/ready")
	eventually(t, 20*time.Second, "agent connected", func() error {
		page, err := n.get(t, n.outside, relayURL+"/api/v1/agents")
		if err != nil {
			return err
		}
		all := decodeAgents(t, page)
		if len(all) != 1 || !all[0].Connected {
			return errNotConnected
		}
		// The relay sees the router and nothing of the network behind it.
		if host, _, _ := strings.Cut(all[0].RemoteAddress, ":"); host != routerOutside {
			return fmt.Errorf("the relay sees the agent at %q, want the router's %s", all[0].RemoteAddress, routerOutside)
		}
		return nil
	})

	command := prometheusCommand(t, relayURL, "127.0.0.1:9090")
	command.netns = n.outside
	prom := &prometheusProcess{
		process: start(t, command), url: "http://127.0.0.1:9090",
		get: func(url string) (string, error) { return n.get(t, n.outside, url) },
	}
	prom.waitReady(t)

	pushFrom := func(name, url, body string) {
		t.Helper()
		c := output(t, commandCurlPut(name, url, body))
		if c.code != 0 {
			t.Fatalf("PUT %s from %s: exit code %d: %s%s", url, name, c.code, c.stdout, c.stderr)
		}
	}
	pushFrom(n.inside, "http://127.0.0.1:9091/metrics/job/backup", "backup_bytes 4711\n")
	pushFrom(n.inside, relayURL+"/metrics/job/direct", "direct_done 1\n")
	prom.wantValue(t, `backup_bytes{job="backup",agent="site-a"}`, 4711)
	prom.wantValue(t, `direct_done{job="direct",agent=""}`, 1)

	up := fmt.Sprintf(`up{job="node",agent="site-a",instance=%q}`, node)
	prom.wantValue(t, up, 1)
	prom.wantValue(t, `node_uname_info{job="node"}`, 1)
	exporter.kill(t)
	prom.wantTurned(t, up, time.Now(), 0)

	for _, port := range []string{"9091", "9100", "9443", "22"} {
		n.wantUnreachable(t, n.outside, "http://"+insideAddress+":"+port+"/metrics")
	}
}

func commandCurlPut(name, url, body string) command {
	return command{path: "/usr/bin/curl", netns: name, args: []string{
		"--silent", "--show-error", "--fail-with-body", "--max-time", "20", "--noproxy", "*",
		"--request", http.MethodPut, "--data-binary", body, url,
	}}
}
