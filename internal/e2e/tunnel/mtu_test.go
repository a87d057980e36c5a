//go:build linux

package tunnel_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/netns"
	"pushrelay/internal/e2e/program"
)

// mtuHole is a router that drops what is larger than the way beyond it, and tells nobody.
const mtuHole = `
table ip hole {
	chain forward {
		type filter hook forward priority -10; policy accept;
		%s meta length > 1300 drop
	}
}
`

// A mtuSite is a relay and an agent with a router between them that can drop large packets.
type mtuSite struct {
	netns.Network
	relay   *program.Process
	dataDir string
}

const mtuAgent = "http://127.0.0.1:9101"

func newMTUSite(t *testing.T) *mtuSite {
	t.Helper()
	s := &mtuSite{Network: netns.New(t), dataDir: filepath.Join(t.TempDir(), "relay")}
	s.Filter(t, s.Router, netns.RouterFirewall)
	s.relay = program.Start(t, program.Command{Path: program.RelayServer(), Netns: s.Outside, Args: []string{"--data.dir=" + s.dataDir, "--grpc.tls.server-name=" + netns.OutsideAddress}})
	client.Eventually(t, client.Patience, "relay ready", func() error {
		_, err := s.Get(t, s.Outside, "http://"+netns.OutsideAddress+":9091/-/ready")
		return err
	})
	return s
}

// drop drops the large packets of one direction from now on.
func (s *mtuSite) drop(t *testing.T, from string) {
	t.Helper()
	s.Filter(t, s.Router, fmt.Sprintf(mtuHole, "iifname \""+from+"\""))
}

// TestTunnelMTUHole: where small packets pass and those of full size do not, both ends say so: in whichever direction, and when
// it begins only after the session did.
func TestTunnelMTUHole(t *testing.T) {
	t.Parallel()
	t.Run("on the way to the relay", func(t *testing.T) {
		t.Parallel()
		s := newMTUSite(t)
		s.drop(t, "inner")
		agent := s.StartInside(t, s.dataDir, "site-a", 9101)
		agent.WantSaid(t, "packets of full size do not pass", "MTU")
		s.relay.WantSaid(t, "no TLS hello came", "MTU")
	})
	t.Run("on the way to the agent", func(t *testing.T) {
		t.Parallel()
		s := newMTUSite(t)
		s.drop(t, "outer")
		agent := s.StartInside(t, s.dataDir, "site-a", 9101)
		agent.WantSaid(t, "what was sent has arrived", "MTU")
		s.relay.WantSaid(t, "bytes with the relay's certificate were not acknowledged", "MTU")
	})
	t.Run("in a session", func(t *testing.T) {
		t.Parallel()
		s := newMTUSite(t)
		agent := s.StartInside(t, s.dataDir, "site-a", 9101)
		agent.WantSaid(t, "attached to relay")
		s.drop(t, "inner")
		r := program.OutputWithInput(t, program.Command{Path: "/usr/bin/curl", Netns: s.Inside, Args: []string{
			"--silent", "--show-error", "--fail-with-body", "--max-time", "20", "--noproxy", "*", "--data-binary", "@-", mtuAgent + "/metrics/job/large",
		}}, mtuPush())
		if r.Code != 0 || !strings.Contains(r.Stdout, "kept at the agent") {
			t.Errorf("a large push: %d %s%s, want it to be kept", r.Code, r.Stdout, r.Stderr)
		}
		agent.WantSaid(t, "bytes were under way and never acknowledged", "MTU")
	})
}

// mtuPush is a push of some 100 KB.
func mtuPush() string {
	var b strings.Builder
	for i := range 4000 {
		fmt.Fprintf(&b, "large{n=\"%d\"} %d.5\n", i, i)
	}
	return b.String()
}
