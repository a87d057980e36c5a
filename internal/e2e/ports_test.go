//go:build linux

package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pushrelay/internal/need"
)

// newMachine is a machine of its own, by its network: its default ports are free.
func newMachine(t testing.TB) (n network, namespace string) {
	t.Helper()
	requireRoot(t)
	requireProgram(t, "/usr/bin/ip", "iproute2")
	requireProgram(t, "/usr/bin/curl", "curl")
	namespace = fmt.Sprintf("pushrelay-%d-%d", os.Getpid(), networks.Add(1))
	if r := output(t, command{path: "ip", args: []string{"netns", "add", namespace}}); r.code != 0 {
		need.Missing(t, "no network namespace can be made here: %s", r.stderr)
	}
	t.Cleanup(func() { output(t, command{path: "ip", args: []string{"netns", "delete", namespace}}) })
	n.ip(t, namespace, "link", "set", "lo", "up")
	return n, namespace
}

// TestDefaultAddresses: by default the agent is where localhost leads, whichever kind of address that is, also on a machine without
// IPv6. Whoever comes second to the default port ends and says with which flag it gets another one.
func TestDefaultAddresses(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "CA")
	agentFlags := append(ca.sign(t, "agent", agentTemplate(t, "spiffe://example.org/agent/site-a")).agentFlags(ca), "--relay.address=192.0.2.1:9443", "--data.dir=")
	for _, tt := range []struct {
		name    string
		disable string
		answer  []string // addresses
		silent  string
	}{
		{"both", "0", []string{"127.0.0.1", "[::1]", "localhost"}, ""},
		{"IPv4 only", "1", []string{"127.0.0.1", "localhost"}, "[::1]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n, namespace := newMachine(t)
			mustOutput(t, command{path: "sysctl", args: []string{"-qw", "net.ipv6.conf.all.disable_ipv6=" + tt.disable}, netns: namespace})
			agent := start(t, command{path: programs.relayAgent, args: agentFlags, netns: namespace})
			for _, address := range tt.answer {
				eventually(t, patience, address+" answers", func() error {
					_, err := n.get(t, namespace, "http://"+address+":9091/-/ready")
					return err
				})
			}
			if tt.silent != "" {
				agent.wantSaid(t, "level=INFO", "does not have", tt.silent+":9091")
			}
			taken := []string{"address already in use", "choose another one, such as --web.listen-address="}
			for _, second := range []command{
				{path: programs.relayServer, args: []string{"--data.dir="}, netns: namespace},
				{path: programs.relayAgent, args: agentFlags, netns: namespace},
			} {
				got := output(t, second)
				for _, words := range taken {
					if got.code != 1 || !strings.Contains(got.stderr, words) {
						t.Errorf("%s on the same port: %+v, want exit code 1 and %q", filepath.Base(second.path), got, words)
					}
				}
			}
			// An address that was asked for is none that may be missing.
			got := output(t, command{path: programs.relayAgent, args: append(slices.Clip(agentFlags), "--web.listen-address=192.0.2.9:9091"), netns: namespace})
			if got.code != 1 || !strings.Contains(got.stderr, "--web.listen-address 192.0.2.9:9091") {
				t.Errorf("an address that the machine does not have: %+v, want exit code 1 and the flag", got)
			}
		})
	}
}

// TestNoAgentThere: the agent's commands say that what answers is no agent, and push nothing to it.
func TestNoAgentThere(t *testing.T) {
	t.Parallel()
	for name, g := range map[string]*gateway{"relay": relayGateway(t), "Pushgateway": referenceGateway(t)} {
		before := mustGet(t, g.url+"/api/v1/metrics")
		at := func(args ...string) command {
			return command{path: programs.relayAgent, args: append(args[:1:1], append([]string{"--agent.address=" + g.url}, args[1:]...)...)}
		}
		for code, got := range map[int][]result{
			1: {output(t, at("status")), outputWithInput(t, at("push", "--job=j"), "m 1\n"), output(t, at("delete", "--job=j"))},
			0: {output(t, at("exec", "--job=j", "--", "true"))},
		} {
			for _, r := range got {
				t.Run(name, func(t *testing.T) { wantResult(t, r, code, "", "what answers at "+g.url+" is no relay-agent") })
			}
		}
		if after := mustGet(t, g.url+"/api/v1/metrics"); after != before {
			t.Errorf("%s has now %s", name, after)
		}
	}
}

// TestPasswordsAtTheAgent: the agent's own commands need none on its socket, and say what to do at a port that wants one.
func TestPasswordsAtTheAgent(t *testing.T) {
	t.Parallel()
	relay := startRelay(t)
	dir := t.TempDir()
	socket, config := filepath.Join(dir, "agent.sock"), filepath.Join(dir, "web.yml")
	agent := newAgentVia(t, relay, relay.grpc, "site-a", "scrape_configs: []\n", "--web.listen-address=unix:"+socket, "--web.config.file="+config)
	writeFile(t, config, "basic_auth_users:\n  alice: $2b$04$3gPF8D8C6AyueEcL6cR8SerOdA7.gr9gMvoMrD1lTei5mVTFhwFS2\n")
	agent.process = start(t, agent.command)
	at := func(address string, args ...string) command {
		return command{path: programs.relayAgent, args: append(args[:1:1], append([]string{"--agent.address=" + address}, args[1:]...)...)}
	}
	agent.wantSaid(t, "attached to relay")
	wantResult(t, output(t, at("unix:"+socket, "status")), 0, "connected", "")
	wantResult(t, outputWithInput(t, at("unix:"+socket, "push", "--job=j"), "m 1\n"), 0, "", "")
	wantResult(t, output(t, at(agent.url, "status")), 1, "", "the agent wants a password")
	wantResult(t, outputWithInput(t, at(agent.url, "push", "--job=j"), "m 1\n"), 1, "", "the agent wants a password")
}

// TestNoWayIn: a relay that agents cannot dial says so as a warning.
func TestNoWayIn(t *testing.T) {
	t.Parallel()
	relayGateway(t).wantSaid(t, "level=WARN", "agents cannot dial in")
}
