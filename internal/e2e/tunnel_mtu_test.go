//go:build linux

package e2e_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
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
	network
	relay   *process
	dataDir string
}

const mtuAgent = "http://127.0.0.1:9101"

func newMTUSite(t *testing.T) *mtuSite {
	t.Helper()
	s := &mtuSite{network: newNetwork(t), dataDir: filepath.Join(t.TempDir(), "relay")}
	s.filter(t, s.router, routerFirewall)
	s.relay = start(t, command{path: programs.relayServer, netns: s.outside, args: []string{"--data.dir=" + s.dataDir, "--grpc.tls.server-name=" + outsideAddress}})
	eventually(t, patience, "relay ready", func() error {
		_, err := s.get(t, s.outside, "http://"+outsideAddress+":9091/-/ready")
		return err
	})
	return s
}

// drop drops the large packets of one direction from now on.
func (s *mtuSite) drop(t *testing.T, from string) {
	t.Helper()
	s.filter(t, s.router, fmt.Sprintf(mtuHole, "iifname \""+from+"\""))
}

// TestTunnelMTUHole: where small packets pass and those of full size do not, both ends say so: in whichever direction, and when
// it begins only after the session did.
func TestTunnelMTUHole(t *testing.T) {
	t.Parallel()
	t.Run("on the way to the relay", func(t *testing.T) {
		t.Parallel()
		s := newMTUSite(t)
		s.drop(t, "inner")
		agent := s.startInside(t, s.dataDir, "site-a", 9101)
		agent.wantSaid(t, "packets of full size do not pass", "MTU")
		s.relay.wantSaid(t, "no TLS hello came", "MTU")
	})
	t.Run("on the way to the agent", func(t *testing.T) {
		t.Parallel()
		s := newMTUSite(t)
		s.drop(t, "outer")
		agent := s.startInside(t, s.dataDir, "site-a", 9101)
		agent.wantSaid(t, "what was sent has arrived", "MTU")
		s.relay.wantSaid(t, "bytes with the relay's certificate were not acknowledged", "MTU")
	})
	t.Run("in a session", func(t *testing.T) {
		t.Parallel()
		s := newMTUSite(t)
		agent := s.startInside(t, s.dataDir, "site-a", 9101)
		agent.wantSaid(t, "attached to relay")
		s.drop(t, "inner")
		r := outputWithInput(t, command{path: "/usr/bin/curl", netns: s.inside, args: []string{
			"--silent", "--show-error", "--fail-with-body", "--max-time", "20", "--noproxy", "*", "--data-binary", "@-", mtuAgent + "/metrics/job/large",
		}}, mtuPush())
		if r.code != 0 || !strings.Contains(r.stdout, "kept at the agent") {
			t.Errorf("a large push: %d %s%s, want it to be kept", r.code, r.stdout, r.stderr)
		}
		agent.wantSaid(t, "bytes were under way and never acknowledged", "MTU")
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

// wantSaid waits until one line of the log has all of this.
func (p *process) wantSaid(t testing.TB, parts ...string) {
	t.Helper()
	eventually(t, patience, "the log tells of it", func() error {
		for line := range strings.Lines(p.log.String()) {
			all := true
			for _, part := range parts {
				all = all && strings.Contains(line, part)
			}
			if all {
				return nil
			}
		}
		return fmt.Errorf("%w: no line with %q", errStatus, parts)
	})
}
