//go:build linux

package netns

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"

	"pushrelay/internal/e2e/program"
	"pushrelay/internal/need"
)

// A Star is some machines on one network, which the test is on as well. Each has a firewall that the test can set.
type Star struct {
	// Names are the namespaces of the machines, Addresses those that they have.
	Names, Addresses []string

	subnet string // its first three numbers
}

// NewStar makes n machines that hear one another and the test.
func NewStar(t testing.TB, n int) Star {
	t.Helper()
	program.RequireRoot(t)
	program.RequireProgram(t, "/usr/bin/ip", "iproute2")
	program.RequireProgram(t, "/usr/sbin/nft", "nftables")
	// No two processes of tests have the same port at once, and so no two stars the same network.
	_, text, _ := net.SplitHostPort(program.FreeAddress(t))
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	s := Star{subnet: fmt.Sprintf("10.%d.%d", 100+port>>8&0x7f, port&0xff)}
	prefix := fmt.Sprintf("pushrelay-%d-%d-", os.Getpid(), Networks.Add(1))
	hub := prefix + "hub"
	s.namespace(t, hub)
	ipIn(t, hub, "link", "add", "bridge", "type", "bridge")
	ipIn(t, hub, "link", "set", "bridge", "up")
	own := fmt.Sprintf("star%d", port) // 15 bytes are the most
	s.plug(t, hub, "", "test", own, 254)
	for i := range n {
		name := prefix + string(rune('a'+i))
		s.namespace(t, name)
		s.plug(t, hub, name, fmt.Sprint("to", i), "eth0", i+1)
		s.Names, s.Addresses = append(s.Names, name), append(s.Addresses, fmt.Sprintf("%s.%d", s.subnet, i+1))
	}
	return s
}

func (s Star) namespace(t testing.TB, name string) {
	t.Helper()
	if r := program.Output(t, program.Command{Path: "ip", Args: []string{"netns", "add", name}}); r.Code != 0 {
		need.Missing(t, "no network namespace can be made here: %s", r.Stderr)
	}
	t.Cleanup(func() { program.Output(t, program.Command{Path: "ip", Args: []string{"netns", "delete", name}}) })
	ipIn(t, name, "link", "set", "lo", "up")
}

// plug lays a cable between the bridge and a machine; the empty name is that of the test's own.
func (s Star) plug(t testing.TB, hub, name, near, far string, host int) {
	t.Helper()
	args := []string{"link", "add", near, "type", "veth", "peer", "name", far}
	if name == "" {
		ipIn(t, hub, append(args, "netns", strconv.Itoa(os.Getpid()))...)
	} else {
		ipIn(t, hub, append(args, "netns", name)...)
	}
	ipIn(t, hub, "link", "set", near, "master", "bridge", "up")
	ipIn(t, name, "address", "add", fmt.Sprintf("%s.%d/24", s.subnet, host), "dev", far)
	ipIn(t, name, "link", "set", far, "up")
}

// ipIn runs ip in a namespace; the empty one is the test's own.
func ipIn(t testing.TB, name string, args ...string) {
	t.Helper()
	if name != "" {
		args = append([]string{"-netns", name}, args...)
	}
	if r := program.Output(t, program.Command{Path: "ip", Args: args}); r.Code != 0 {
		need.Missing(t, "no network can be laid here: ip %v: %s", args, r.Stderr)
	}
}

// A Deafness is which way nothing passes between a machine and the other ones. The test is always heard.
type Deafness struct{ In, Out bool }

// Cut sets the firewall of a machine. What is dropped is dropped in silence, as by a cable that is pulled.
func (s Star) Cut(t testing.TB, machine int, how Deafness) {
	t.Helper()
	var rules strings.Builder
	rules.WriteString("table ip star\ndelete table ip star\ntable ip star {\n")
	rules.WriteString("\tchain input {\n\t\ttype filter hook input priority 0; policy accept;\n")
	if how.In {
		fmt.Fprintf(&rules, "\t\tip saddr != %s.254 iif eth0 drop\n", s.subnet)
	}
	rules.WriteString("\t}\n\tchain output {\n\t\ttype filter hook output priority 0; policy accept;\n")
	if how.Out {
		fmt.Fprintf(&rules, "\t\tip daddr != %s.254 oif eth0 drop\n", s.subnet)
	}
	rules.WriteString("\t}\n}\n")
	if r := program.OutputWithInput(t, program.Command{Path: "/usr/sbin/nft", Args: []string{"-f", "-"}, Netns: s.Names[machine]}, rules.String()); r.Code != 0 {
		need.Missing(t, "no firewall can be loaded here: %s", r.Stderr)
	}
}
