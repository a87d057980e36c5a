//go:build linux

package netns

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/house"
	"pushrelay/internal/e2e/program"
	"pushrelay/internal/need"
)

// The addresses of the two networks. 203.0.113.0/24 is reserved for documentation: nothing real is ever there.
const (
	InsideAddress  = "10.77.0.2"
	routerInside   = "10.77.0.1"
	RouterOutside  = "203.0.113.1"
	OutsideAddress = "203.0.113.2"
)

// InsideFirewall lets the machine of the agent answer nobody who was not asked first.
const InsideFirewall = `
table inet pushrelay {
	chain input {
		type filter hook input priority 0; policy drop;
		iif "lo" accept
		ct state established,related accept
	}
}
`

// RouterFirewall hides the inner network behind the router's outer address.
const RouterFirewall = `
table ip pushrelay {
	chain postrouting {
		type nat hook postrouting priority srcnat;
		oif "outer" masquerade
	}
}
`

// A Network is three namespaces in a row: the agent's, a router, and the public side with relay and Prometheus.
type Network struct{ Inside, Router, Outside string }

// Networks counts those of this process, so that their names differ.
var Networks atomic.Int64

// New makes the namespaces, without any firewall yet.
func New(t testing.TB) Network {
	t.Helper()
	program.RequireRoot(t)
	program.RequireProgram(t, "/usr/bin/ip", "iproute2")
	program.RequireProgram(t, "/usr/sbin/nft", "nftables")
	program.RequireProgram(t, "/usr/bin/curl", "curl")
	prefix := fmt.Sprintf("pushrelay-%d-%d-", os.Getpid(), Networks.Add(1))
	n := Network{prefix + "in", prefix + "router", prefix + "out"}
	for _, name := range []string{n.Inside, n.Router, n.Outside} {
		if r := program.Output(t, program.Command{Path: "ip", Args: []string{"netns", "add", name}}); r.Code != 0 {
			need.Missing(t, "no network namespace can be made here: %s", r.Stderr)
		}
		t.Cleanup(func() { program.Output(t, program.Command{Path: "ip", Args: []string{"netns", "delete", name}}) })
		n.IP(t, name, "link", "set", "lo", "up")
	}
	n.connect(t, n.Inside, "wan", InsideAddress, "inner", routerInside)
	n.connect(t, n.Outside, "lan", OutsideAddress, "outer", RouterOutside)
	n.IP(t, n.Inside, "route", "add", "default", "via", routerInside)
	// The outside even gets a route to the inner network, which the real Internet has not.
	n.IP(t, n.Outside, "route", "add", "default", "via", RouterOutside)
	if r := program.Output(t, program.Command{Path: "sysctl", Args: []string{"-qw", "net.ipv4.ip_forward=1"}, Netns: n.Router}); r.Code != 0 {
		need.Missing(t, "no namespace can route here: %s", r.Stderr)
	}
	return n
}

// connect lays a cable between a namespace and the router.
func (n Network) connect(t testing.TB, name, link, address, routerLink, routerAddress string) {
	t.Helper()
	n.IP(t, n.Router, "link", "add", routerLink, "type", "veth", "peer", "name", link, "netns", name)
	n.IP(t, n.Router, "address", "add", routerAddress+"/24", "dev", routerLink)
	n.IP(t, n.Router, "link", "set", routerLink, "up")
	n.IP(t, name, "address", "add", address+"/24", "dev", link)
	n.IP(t, name, "link", "set", link, "up")
}

// IP runs ip in a namespace.
func (Network) IP(t testing.TB, name string, args ...string) {
	t.Helper()
	if r := program.Output(t, program.Command{Path: "ip", Args: append([]string{"-netns", name}, args...)}); r.Code != 0 {
		need.Missing(t, "no network can be laid here: ip %v: %s", args, r.Stderr)
	}
}

// Filter loads a firewall.
func (Network) Filter(t testing.TB, name, rules string) {
	t.Helper()
	if r := program.OutputWithInput(t, program.Command{Path: "/usr/sbin/nft", Args: []string{"-f", "-"}, Netns: name}, rules); r.Code != 0 {
		need.Missing(t, "no firewall can be loaded here: %s", r.Stderr)
	}
}

// ErrCurl is that curl failed.
var ErrCurl = errors.New("curl")

// curlTimeout is curl's exit code when nothing answered in time.
const curlTimeout = 28

// Get fetches a page from within a namespace.
func (Network) Get(t testing.TB, name, url string) (string, error) {
	t.Helper()
	r := program.Output(t, program.Command{Path: "/usr/bin/curl", Netns: name, Args: []string{
		"--silent", "--show-error", "--fail-with-body", "--connect-timeout", "2", "--max-time", "20", "--noproxy", "*", url,
	}})
	if r.Code != 0 {
		return r.Stdout, fmt.Errorf("%w: exit code %d: %s", ErrCurl, r.Code, r.Stderr)
	}
	return r.Stdout, nil
}

// WantUnreachable checks that nothing answers to a dial from a namespace: not even a refusal.
func (Network) WantUnreachable(t testing.TB, name, url string) {
	t.Helper()
	r := program.Output(t, program.Command{Path: "/usr/bin/curl", Netns: name, Args: []string{"--silent", "--connect-timeout", "2", "--noproxy", "*", url}})
	if r.Code != curlTimeout {
		t.Errorf("dialling %s from outside: curl's exit code %d, want %d (timeout)\n%s", url, r.Code, curlTimeout, r.Stdout)
	}
}

// CommandCurlPut pushes a body with curl from within a namespace.
func CommandCurlPut(name, url, body string) program.Command {
	return program.Command{Path: "/usr/bin/curl", Netns: name, Args: []string{
		"--silent", "--show-error", "--fail-with-body", "--max-time", "20", "--noproxy", "*",
		"--request", http.MethodPut, "--data-binary", body, url,
	}}
}

// StartInside starts an agent of the relay in the inner network and waits until it takes pushes.
func (n Network) StartInside(t *testing.T, dataDir, name string, port int) *program.Process {
	t.Helper()
	out := filepath.Join(t.TempDir(), name)
	program.MustOutput(t, program.Command{Path: program.RelayServer(), Args: []string{"--data.dir=" + dataDir, "agent-certificate", name, "--out=" + out}})
	web := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	p := program.Start(t, program.Command{Path: program.RelayAgent(), Netns: n.Inside, Args: append(house.CertificateFlags(out),
		"--relay.address="+OutsideAddress+":9443", "--web.listen-address="+web)})
	client.Eventually(t, 20*time.Second, name+" ready", func() error { _, err := n.Get(t, n.Inside, "http://"+web+"/-/ready"); return err })
	return p
}
