//go:build linux

package e2e_test

import (
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// swallowing is a router that forwards nothing and tells nobody.
const swallowing = `
table ip swallow {
	chain forward {
		type filter hook forward priority -10; policy drop;
	}
}
`

// returningAgents is how many agents lose the network at once: each is at another point of its attempts when it returns.
const returningAgents = 6

// TestTunnelNetworkReturns: a router swallows every packet for more than a minute and has forgotten all connections
// afterwards. Both sides notice in time, dials hang meanwhile, and every agent is back in time once the network is.
func TestTunnelNetworkReturns(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	n.filter(t, n.router, routerFirewall)
	const relayURL = "http://" + outsideAddress + ":9091"
	dataDir := filepath.Join(t.TempDir(), "relay")
	start(t, command{path: programs.relayServer, netns: n.outside, args: []string{"--data.dir=" + dataDir, "--grpc.tls.server-name=" + outsideAddress}})
	eventually(t, 20*time.Second, "relay ready", func() error { _, err := n.get(t, n.outside, relayURL+"/-/ready"); return err })
	for i := range returningAgents {
		n.startInside(t, dataDir, "site-"+strconv.Itoa(i), 9091+i)
	}
	connected := func(want int) func() error {
		return func() error {
			page, err := n.get(t, n.outside, relayURL+"/api/v1/agents")
			if err != nil {
				return err
			}
			count := 0
			for _, a := range decodeAgents(t, page) {
				if a.Connected {
					count++
				}
			}
			if count != want {
				return fmt.Errorf("%w: %d of %d agents are connected, want %d", errNotConnected, count, returningAgents, want)
			}
			return nil
		}
	}
	eventually(t, patience, "all are attached", connected(returningAgents))

	n.filter(t, n.router, swallowing)
	since := time.Now()
	eventually(t, noticed+tolerance, "the relay notices", connected(0))
	for i := range returningAgents {
		eventually(t, time.Until(since.Add(noticed+tolerance)), "the agent notices", func() error {
			page, err := n.get(t, n.inside, fmt.Sprintf("http://127.0.0.1:%d/metrics", 9091+i))
			if err != nil {
				return err
			}
			all, err := seriesOf(page)
			if value, ok := all[fmt.Sprintf("relay_agent_connected{relay=%q}", outsideAddress+":9443")]; err == nil && (!ok || value != 0) {
				err = errStillConnected
			}
			return err
		})
	}
	<-time.After(25 * time.Second) // until the times between two attempts have grown to their longest

	// Masquerading forgets what went through an interface that went down.
	n.ip(t, n.router, "link", "set", "outer", "down")
	n.ip(t, n.router, "link", "set", "outer", "up")
	mustOutput(t, command{path: "/usr/sbin/nft", args: []string{"delete", "table", "ip", "swallow"}, netns: n.router})
	returned := time.Now()
	eventually(t, backWithin+tolerance/2, "all are back", connected(returningAgents))
	t.Logf("all %d agents were back %v after the network", returningAgents, time.Since(returned).Round(time.Millisecond))
}

// startInside starts an agent of the relay in the inner network and waits until it takes pushes.
func (n network) startInside(t *testing.T, dataDir, name string, port int) *process {
	t.Helper()
	out := filepath.Join(t.TempDir(), name)
	mustOutput(t, command{path: programs.relayServer, args: []string{"--data.dir=" + dataDir, "agent-certificate", name, "--out=" + out}})
	web := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	p := start(t, command{path: programs.relayAgent, netns: n.inside, args: append(certificateFlags(out),
		"--relay.address="+outsideAddress+":9443", "--web.listen-address="+web)})
	eventually(t, 20*time.Second, name+" ready", func() error { _, err := n.get(t, n.inside, "http://"+web+"/-/ready"); return err })
	return p
}
