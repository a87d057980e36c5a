package tunnel_test

import (
	"context"
	"io"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A name stands for several addresses, which take connections in ways of their own.
type name struct {
	addresses []string // in the order of the resolver
	take      map[string]func(c net.Conn)
	relay     *network // what takes the connections of the addresses that are in no other list
	refused   map[string]bool

	mu       sync.Mutex
	serving  sync.WaitGroup
	dialled  []string // guarded by mu
	resolved []string // guarded by mu
}

// from is a connection whose other end has an address.
type from struct {
	net.Conn

	address net.Addr
}

func (c *from) RemoteAddr() net.Addr { return c.address }

func (n *name) resolve(_ context.Context, host string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.resolved = append(n.resolved, host)
	var found []netip.Addr
	for _, address := range n.addresses {
		found = append(found, netip.MustParseAddr(address))
	}
	return found, nil
}

// dial dials the first address for a name, as net.Dialer does if that takes the connection.
func (n *name) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	n.dialled = append(n.dialled, host)
	refused, take := n.refused[host], n.take[host]
	n.mu.Unlock()
	ip, err := netip.ParseAddr(host)
	if err != nil {
		ip = netip.MustParseAddr(n.addresses[0])
		take = n.take[ip.String()]
	}
	if refused {
		return nil, errRefused
	}
	remote := net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip, 9443))
	if take == nil {
		c, err := n.relay.Dial(ctx, network, net.JoinHostPort(ip.String(), port))
		if err != nil {
			return nil, err
		}
		return &from{c, remote}, nil
	}
	near, far := net.Pipe()
	n.serving.Go(func() {
		defer far.Close()
		take(far)
	})
	return &from{near, remote}, nil
}

// done returns what was dialled and resolved since the last call.
func (n *name) done() (dialled, resolved []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	dialled, resolved = n.dialled, n.resolved
	n.dialled, n.resolved = nil, nil
	return dialled, resolved
}

func silent(c net.Conn)  { io.Copy(io.Discard, c) }
func closing(c net.Conn) {}

// TestNextAddressAfterFailure: an address that takes a connection and lets no session come of it is not all that the relay's name
// has.
func TestNextAddressAfterFailure(t *testing.T) {
	const first, second, third = "192.0.2.1", "2001:db8::2", "192.0.2.3"
	for _, tt := range []struct {
		name string
		take map[string]func(net.Conn)
		want []string // dialled until the agent is attached
	}{
		{"all is well", nil, []string{"relay.test"}},
		{"silent", map[string]func(net.Conn){first: silent}, []string{"relay.test", second}},
		{"closing at once", map[string]func(net.Conn){first: closing}, []string{"relay.test", second}},
		{"two of three", map[string]func(net.Conn){first: closing, second: silent}, []string{"relay.test", second, third}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &name{addresses: []string{first, second, third}, take: tt.take, relay: newNetwork(0), refused: map[string]bool{}}
				h := newHouseAt(t, pusherFunc(noPushes), n.relay)
				h.addr, h.dial, h.resolve = "relay.test:9443", n.dial, n.resolve
				link, stop := h.start(h.authority, "site", scraperFunc(nil))
				connected := func(when string) {
					t.Helper()
					for end := time.Now().Add(2 * time.Minute); !link.Status().Connected; time.Sleep(time.Second) {
						if time.Now().After(end) {
							t.Fatalf("%s: not attached: %s", when, link.Status().LastError)
						}
					}
				}
				connected("at first")
				dialled, _ := n.done()
				if diff := cmp.Diff(tt.want, dialled); diff != "" {
					t.Errorf("dialled (-want +got):\n%s", diff)
				}

				// What worked is begun with again.
				n.relay.set(swallowing)
				n.relay.set(carrying)
				time.Sleep(3 * time.Minute)
				connected("after a loss")
				if dialled, _ = n.done(); !slices.Equal(dialled, tt.want[len(tt.want)-1:]) {
					t.Errorf("after a loss: dialled %q, want %q", dialled, tt.want[len(tt.want)-1:])
				}

				// Where it takes no connection any more, the others follow in the same attempt.
				if len(tt.want) > 1 {
					gone := tt.want[len(tt.want)-1]
					n.mu.Lock()
					n.refused[gone], n.take = true, nil
					n.mu.Unlock()
					n.relay.set(swallowing)
					n.relay.set(carrying)
					time.Sleep(3 * time.Minute)
					connected("after another loss")
					if dialled, _ = n.done(); len(dialled) != 2 || dialled[0] != gone {
						t.Errorf("after another loss: dialled %q, want %q and the next", dialled, gone)
					}
				}
				stop()
				n.serving.Wait()
				h.server.Stop()
				n.relay.Close()
				n.relay.pumps.Wait()
			})
		})
	}
}

// TestProxyResolvesTheRelay: with a proxy only the proxy's own name is looked up.
func TestProxyResolvesTheRelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &name{addresses: []string{"192.0.2.1", "192.0.2.2"}, take: map[string]func(net.Conn){"192.0.2.1": closing, "192.0.2.2": silent}}
		h := newHouseAt(t, pusherFunc(noPushes), newNetwork(0)) // nobody dials this one
		h.addr, h.dial, h.resolve, h.proxy = "relay.test:9443", n.dial, n.resolve, &url.URL{Scheme: "http", Host: "proxy.test:3128"}
		_, stop := h.start(h.authority, "site", scraperFunc(nil))
		time.Sleep(time.Minute)
		stop()
		n.serving.Wait()
		dialled, resolved := n.done()
		if len(dialled) < 3 || dialled[0] != "proxy.test" || dialled[1] != "192.0.2.2" || dialled[2] != "192.0.2.1" {
			t.Errorf("dialled %q, want the proxy, its second address, its first", dialled)
		}
		if i := slices.IndexFunc(resolved, func(host string) bool { return host != "proxy.test" }); len(resolved) == 0 || i >= 0 {
			t.Errorf("resolved %q, want the proxy's name only", resolved)
		}
	})
}

// TestProxyAsksWhoTheAgentIs: a 407 tells how the proxy would be told.
func TestProxyAsksWhoTheAgentIs(t *testing.T) {
	for _, tt := range []struct {
		name string
		head string
		user *url.Userinfo
		want string
	}{
		{"Basic", "Proxy-Authenticate: Basic realm=\"a, b\"\r\n", nil, `it offers Basic; give user and password in the proxy's URL`},
		{"Basic, and it was given", "Proxy-Authenticate: basic\r\n", url.UserPassword("u", "open-sesame"), "it offers basic, and takes neither user nor password"},
		{
			"others in one line", "Proxy-Authenticate: Negotiate, NTLM TlRM==, Digest realm=\"x\\\", y\", nonce=\"Basic, z\"\r\n", nil,
			"it offers Negotiate, NTLM, Digest, and an agent knows Basic only",
		},
		{"in several lines", "Proxy-Authenticate: Negotiate\r\nProxy-Authenticate: Basic realm=x\r\n", nil, "it offers Negotiate, Basic; give"},
		{"none", "", nil, "407 Who are you: it does not say how"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &name{addresses: []string{"192.0.2.1"}, take: map[string]func(net.Conn){"192.0.2.1": func(c net.Conn) {
					c.Read(make([]byte, 4096))
					io.WriteString(c, "HTTP/1.1 407 Who are you\r\n"+tt.head+"Content-Length: 0\r\n\r\n")
				}}}
				h := newHouseAt(t, pusherFunc(noPushes), newNetwork(0)) // nobody dials this one
				h.addr, h.dial, h.proxy = "relay.test:9443", n.dial, &url.URL{Scheme: "http", Host: "proxy.test:3128", User: tt.user}
				link, stop := h.start(h.authority, "site", scraperFunc(nil))
				synctest.Wait()
				stop()
				n.serving.Wait()
				if got := link.Status().LastError; !strings.Contains(got, tt.want) || strings.Contains(got, "sesame") {
					t.Errorf("LastError = %q, want it to say %q", got, tt.want)
				}
			})
		})
	}
}
