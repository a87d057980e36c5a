//go:build linux

package command_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pushrelay/internal/e2e/certificate"
	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/gateway"
	"pushrelay/internal/e2e/house"
	"pushrelay/internal/e2e/netns"
	"pushrelay/internal/e2e/program"
	"pushrelay/internal/need"
)

// newMachine is a machine of its own, by its network: its default ports are free.
func newMachine(t testing.TB) (n netns.Network, namespace string) {
	t.Helper()
	program.RequireRoot(t)
	program.RequireProgram(t, "/usr/bin/ip", "iproute2")
	program.RequireProgram(t, "/usr/bin/curl", "curl")
	namespace = fmt.Sprintf("pushrelay-%d-%d", os.Getpid(), netns.Networks.Add(1))
	if r := program.Output(t, program.Command{Path: "ip", Args: []string{"netns", "add", namespace}}); r.Code != 0 {
		need.Missing(t, "no network namespace can be made here: %s", r.Stderr)
	}
	t.Cleanup(func() { program.Output(t, program.Command{Path: "ip", Args: []string{"netns", "delete", namespace}}) })
	n.IP(t, namespace, "link", "set", "lo", "up")
	return n, namespace
}

// TestDefaultAddresses: by default the agent is where localhost leads, whichever kind of address that is, also on a machine without
// IPv6. Whoever comes second to the default port ends and says with which flag it gets another one.
func TestDefaultAddresses(t *testing.T) {
	t.Parallel()
	ca := certificate.New(t, "CA")
	agentFlags := append(ca.Sign(t, "agent", certificate.AgentTemplate(t, "spiffe://example.org/agent/site-a")).AgentFlags(ca), "--relay.address=192.0.2.1:9443", "--data.dir=")
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
			program.MustOutput(t, program.Command{Path: "sysctl", Args: []string{"-qw", "net.ipv6.conf.all.disable_ipv6=" + tt.disable}, Netns: namespace})
			agent := program.Start(t, program.Command{Path: program.RelayAgent(), Args: agentFlags, Netns: namespace})
			for _, address := range tt.answer {
				client.Eventually(t, client.Patience, address+" answers", func() error {
					_, err := n.Get(t, namespace, "http://"+address+":9091/-/ready")
					return err
				})
			}
			if tt.silent != "" {
				agent.WantSaid(t, "level=INFO", "does not have", tt.silent+":9091")
			}
			taken := []string{"address already in use", "choose another one, such as --web.listen-address="}
			for _, second := range []program.Command{
				{Path: program.RelayServer(), Args: []string{"--data.dir="}, Netns: namespace},
				{Path: program.RelayAgent(), Args: agentFlags, Netns: namespace},
			} {
				got := program.Output(t, second)
				for _, words := range taken {
					if got.Code != 1 || !strings.Contains(got.Stderr, words) {
						t.Errorf("%s on the same port: %+v, want exit code 1 and %q", filepath.Base(second.Path), got, words)
					}
				}
			}
			// An address that was asked for is none that may be missing.
			got := program.Output(t, program.Command{Path: program.RelayAgent(), Args: append(slices.Clip(agentFlags), "--web.listen-address=192.0.2.9:9091"), Netns: namespace})
			if got.Code != 1 || !strings.Contains(got.Stderr, "--web.listen-address 192.0.2.9:9091") {
				t.Errorf("an address that the machine does not have: %+v, want exit code 1 and the flag", got)
			}
		})
	}
}

// TestNoAgentThere: the agent's commands say that what answers is no agent, and push nothing to it.
func TestNoAgentThere(t *testing.T) {
	t.Parallel()
	for name, g := range map[string]*gateway.Gateway{"relay": gateway.Relay(t), "Pushgateway": gateway.Reference(t)} {
		before := client.MustGet(t, g.URL+"/api/v1/metrics")
		at := func(args ...string) program.Command {
			return program.Command{Path: program.RelayAgent(), Args: append(args[:1:1], append([]string{"--agent.address=" + g.URL}, args[1:]...)...)}
		}
		for code, got := range map[int][]program.Result{
			1: {program.Output(t, at("status")), program.OutputWithInput(t, at("push", "--job=j"), "m 1\n"), program.Output(t, at("delete", "--job=j"))},
			0: {program.Output(t, at("exec", "--job=j", "--", "true"))},
		} {
			for _, r := range got {
				t.Run(name, func(t *testing.T) { wantResult(t, r, code, "", "what answers at "+g.URL+" is no relay-agent") })
			}
		}
		if after := client.MustGet(t, g.URL+"/api/v1/metrics"); after != before {
			t.Errorf("%s has now %s", name, after)
		}
	}
}

// TestPasswordsAtTheAgent: the agent's own commands need none on its socket, and say what to do at a port that wants one.
func TestPasswordsAtTheAgent(t *testing.T) {
	t.Parallel()
	relay := house.StartRelay(t)
	dir := t.TempDir()
	socket, config := filepath.Join(dir, "agent.sock"), filepath.Join(dir, "web.yml")
	agent := house.NewAgentVia(t, relay, relay.GRPC, "site-a", "scrape_configs: []\n", "--web.listen-address=unix:"+socket, "--web.config.file="+config)
	client.WriteFile(t, config, "basic_auth_users:\n  alice: $2b$04$3gPF8D8C6AyueEcL6cR8SerOdA7.gr9gMvoMrD1lTei5mVTFhwFS2\n")
	agent.Process = program.Start(t, agent.Command)
	at := func(address string, args ...string) program.Command {
		return program.Command{Path: program.RelayAgent(), Args: append(args[:1:1], append([]string{"--agent.address=" + address}, args[1:]...)...)}
	}
	agent.WantSaid(t, "attached to relay")
	wantResult(t, program.Output(t, at("unix:"+socket, "status")), 0, "connected", "")
	wantResult(t, program.OutputWithInput(t, at("unix:"+socket, "push", "--job=j"), "m 1\n"), 0, "", "")
	wantResult(t, program.Output(t, at(agent.URL, "status")), 1, "", "the agent wants a password")
	wantResult(t, program.OutputWithInput(t, at(agent.URL, "push", "--job=j"), "m 1\n"), 1, "", "the agent wants a password")
}

// TestNoWayIn: a relay that agents cannot dial says so as a warning.
func TestNoWayIn(t *testing.T) {
	t.Parallel()
	gateway.Relay(t).WantSaid(t, "level=WARN", "agents cannot dial in")
}
