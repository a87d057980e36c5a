//go:build linux

package tunnel_test

import (
	"fmt"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/house"
	"pushrelay/internal/e2e/netns"
	"pushrelay/internal/e2e/program"
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
	n := netns.New(t)
	n.Filter(t, n.Router, netns.RouterFirewall)
	const relayURL = "http://" + netns.OutsideAddress + ":9091"
	dataDir := filepath.Join(t.TempDir(), "relay")
	program.Start(t, program.Command{Path: program.RelayServer(), Netns: n.Outside, Args: []string{"--data.dir=" + dataDir, "--grpc.tls.server-name=" + netns.OutsideAddress}})
	client.Eventually(t, 20*time.Second, "relay ready", func() error { _, err := n.Get(t, n.Outside, relayURL+"/-/ready"); return err })
	for i := range returningAgents {
		n.StartInside(t, dataDir, "site-"+strconv.Itoa(i), 9091+i)
	}
	connected := func(want int) func() error {
		return func() error {
			page, err := n.Get(t, n.Outside, relayURL+"/api/v1/agents")
			if err != nil {
				return err
			}
			count := 0
			for _, a := range house.DecodeAgents(t, page) {
				if a.Connected {
					count++
				}
			}
			if count != want {
				return fmt.Errorf("%w: %d of %d agents are connected, want %d", house.ErrNotConnected, count, returningAgents, want)
			}
			return nil
		}
	}
	client.Eventually(t, client.Patience, "all are attached", connected(returningAgents))

	n.Filter(t, n.Router, swallowing)
	since := time.Now()
	client.Eventually(t, house.Noticed+house.Tolerance, "the relay notices", connected(0))
	for i := range returningAgents {
		client.Eventually(t, time.Until(since.Add(house.Noticed+house.Tolerance)), "the agent notices", func() error {
			page, err := n.Get(t, n.Inside, fmt.Sprintf("http://127.0.0.1:%d/metrics", 9091+i))
			if err != nil {
				return err
			}
			all, err := client.SeriesOf(page)
			if value, ok := all[fmt.Sprintf("relay_agent_connected{relay=%q}", netns.OutsideAddress+":9443")]; err == nil && (!ok || value != 0) {
				err = house.ErrStillConnected
			}
			return err
		})
	}
	<-time.After(25 * time.Second) // until the times between two attempts have grown to their longest

	// Masquerading forgets what went through an interface that went down.
	n.IP(t, n.Router, "link", "set", "outer", "down")
	n.IP(t, n.Router, "link", "set", "outer", "up")
	program.MustOutput(t, program.Command{Path: "/usr/sbin/nft", Args: []string{"delete", "table", "ip", "swallow"}, Netns: n.Router})
	returned := time.Now()
	client.Eventually(t, house.BackWithin+house.Tolerance/2, "all are back", connected(returningAgents))
	t.Logf("all %d agents were back %v after the network", returningAgents, time.Since(returned).Round(time.Millisecond))
}
