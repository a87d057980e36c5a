//go:build linux

package e2e_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pushrelay/internal/faultproxy"
)

// A corporateProxy is what stands between an office and the Internet: it wants a password, resolves the names itself, and
// may look into TLS.
type corporateProxy struct {
	authorization string            // as the header has it; empty lets everybody through
	hosts         map[string]string // what it can reach: addresses by host:port
	inspect       *leaf             // the certificate that it shows instead of the relay's; nil looks into nothing

	address string
	mu      sync.Mutex
	asked   []string // guarded by mu; every host:port of a CONNECT
}

func (p *corporateProxy) start(t testing.TB) *corporateProxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	server := &http.Server{Handler: p, ReadHeaderTimeout: patience, BaseContext: func(net.Listener) context.Context { return ctx }}
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(listener) })
	t.Cleanup(func() {
		cancel() // ends what is tunnelled
		server.Close()
		serving.Wait()
	})
	p.address = listener.Addr().String()
	return p
}

func (p *corporateProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.asked = append(p.asked, r.Method+" "+r.Host)
	p.mu.Unlock()
	if r.Header.Get("Proxy-Authorization") != p.authorization {
		w.Header().Set("Proxy-Authenticate", `Basic realm="office"`)
		http.Error(w, "<html>Who are you?</html>", http.StatusProxyAuthRequired)
		return
	}
	address, known := p.hosts[r.Host]
	if r.Method != http.MethodConnect || !known {
		http.Error(w, "<html>Not from here.</html>", http.StatusForbidden)
		return
	}
	near, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer near.Close()
	io.WriteString(near, "HTTP/1.1 200 Connection established\r\nVia: 1.1 office\r\n\r\n")
	if p.inspect != nil {
		shown := tls.Server(near, &tls.Config{Certificates: []tls.Certificate{p.inspect.tls}, NextProtos: []string{"h2"}})
		shown.HandshakeContext(r.Context()) // nobody gets any further
		return
	}
	far, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer far.Close()
	stop := context.AfterFunc(r.Context(), func() { near.Close(); far.Close() })
	defer stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(far, buffered)
		far.Close()
	}()
	io.Copy(near, far)
	near.Close()
	<-done
}

// wasAsked reports whether a CONNECT came for an address, and what came.
func (p *corporateProxy) wasAsked(host string) (bool, []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Contains(p.asked, "CONNECT "+host), slices.Clone(p.asked)
}

// relayName is the relay's name, which only the proxy can resolve.
const relayName = "relay.example.org:443"

const proxyUser, proxyPassword = "site-a", "open-sesame"

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// TestTunnelThroughProxy: an agent reaches its relay on port 443 through a CONNECT proxy that asks for a password and
// resolves the relay's name, and comes back through it.
func TestTunnelThroughProxy(t *testing.T) {
	t.Parallel()
	address := serveHandler(t, newStagedTarget())
	r := startRelay(t, "--grpc.tls.server-name=relay.example.org")
	network := newNetworkTo(t, r.grpc, "proxy")
	for _, tt := range []struct {
		name, password string
		flags          func(url string) (before, after []string)
	}{
		{"by flag", proxyPassword, func(url string) (_, after []string) { return nil, []string{"--relay.proxy-url=" + url} }},
		{"by environment", "p@ss/word", func(url string) (before, _ []string) { return []string{"HTTPS_PROXY=" + url, "NO_PROXY="}, nil }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			proxy := (&corporateProxy{authorization: basic(proxyUser, tt.password), hosts: map[string]string{relayName: network.Addr()}}).start(t)
			password := strings.NewReplacer("@", "%40", "/", "%2F").Replace(tt.password)
			environment, flags := tt.flags("http://" + proxyUser + ":" + password + "@" + proxy.address)
			name := strings.ReplaceAll(tt.name, " ", "-")
			a := newAgentVia(t, r, relayName, name, configOf(address, stagedPaths...), flags...)
			if environment != nil {
				a.command.args = slices.Concat(environment, []string{a.command.path}, a.command.args)
				a.command.path = "/usr/bin/env"
			}
			a.start(t)
			if asked, all := proxy.wasAsked(relayName); !asked {
				t.Errorf("the proxy was asked for %q, want %s", all, relayName)
			}
			url := r.targetURL(name, "metrics", address)
			wantScraped(t, patience, url, stagedBody)
			push(t, a.url+"/metrics/job/j", "m 1\n")
			session := r.session(t, name)
			network.Cut(faultproxy.Reset)
			r.wantBack(t, session)
			wantScraped(t, patience, url, stagedBody)
			if strings.Contains(a.log.String(), tt.password) {
				t.Error("the log has the proxy's password")
			}
		})
	}
}

// TestTunnelProxySaysNo: what a proxy has against the connection is told in the log and at /-/ready, in words that a person
// can act on and without the password; pushes are taken meanwhile.
func TestTunnelProxySaysNo(t *testing.T) {
	t.Parallel()
	r := startRelay(t, "--grpc.tls.server-name=relay.example.org")
	office := newAuthority(t, "Office Inspection CA")
	shown := relayTemplate()
	shown.DNSNames = []string{"relay.example.org"}
	inspecting := office.sign(t, "inspected", shown)
	hosts := map[string]string{relayName: r.grpc}
	for _, tt := range []struct {
		name  string
		proxy *corporateProxy
		want  []string
	}{
		{"wrong password", &corporateProxy{authorization: basic(proxyUser, "another"), hosts: hosts}, []string{"proxy", "407", "authentication"}},
		{"relay not allowed", &corporateProxy{authorization: basic(proxyUser, proxyPassword)}, []string{"proxy", relayName, "403"}},
		{"TLS is inspected", &corporateProxy{authorization: basic(proxyUser, proxyPassword), hosts: hosts, inspect: &inspecting}, []string{"Office Inspection CA", "inspected on the way"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			proxy := tt.proxy.start(t)
			a := newAgentVia(t, r, relayName, "site-a", "scrape_configs: []\n", "--relay.proxy-url=http://"+proxyUser+":"+proxyPassword+"@"+proxy.address)
			a.process = start(t, a.command)
			eventually(t, 20*time.Second, "the reason in the log", func() error { return warned(a.log.String(), tt.want) })
			ready := mustGet(t, a.url+"/-/ready") // it takes pushes, so it is ready
			for _, word := range tt.want {
				if !strings.Contains(strings.ToLower(ready), strings.ToLower(word)) {
					t.Errorf("/-/ready does not say %q:\n%s", word, ready)
				}
			}
			for where, text := range map[string]string{"log": a.log.String(), "/-/ready": ready} {
				if strings.Contains(text, proxyPassword) {
					t.Errorf("%s has the proxy's password", where)
				}
			}
			wantSeries(t, a.url, fmt.Sprintf("relay_agent_connected{relay=%q}", relayName), 0)
		})
	}
}
