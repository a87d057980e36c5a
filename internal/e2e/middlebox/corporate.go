//go:build linux

package middlebox

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"

	"pushrelay/internal/e2e/certificate"
	"pushrelay/internal/e2e/client"
)

// A CorporateProxy is what stands between an office and the Internet: it wants a password, resolves the names itself, and
// may look into TLS.
type CorporateProxy struct {
	Authorization string            // as the header has it; empty lets everybody through
	Hosts         map[string]string // what it can reach: addresses by host:port
	Inspect       *certificate.Leaf // the certificate that it shows instead of the relay's; nil looks into nothing

	Address string
	mu      sync.Mutex
	asked   []string // guarded by mu; every host:port of a CONNECT
}

// Start serves until the test ends.
func (p *CorporateProxy) Start(t testing.TB) *CorporateProxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	server := &http.Server{Handler: p, ReadHeaderTimeout: client.Patience, BaseContext: func(net.Listener) context.Context { return ctx }}
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(listener) })
	t.Cleanup(func() {
		cancel() // ends what is tunnelled
		server.Close()
		serving.Wait()
	})
	p.Address = listener.Addr().String()
	return p
}

func (p *CorporateProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.asked = append(p.asked, r.Method+" "+r.Host)
	p.mu.Unlock()
	if r.Header.Get("Proxy-Authorization") != p.Authorization {
		w.Header().Set("Proxy-Authenticate", `Basic realm="office"`)
		http.Error(w, "<html>Who are you?</html>", http.StatusProxyAuthRequired)
		return
	}
	address, known := p.Hosts[r.Host]
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
	if p.Inspect != nil {
		shown := tls.Server(near, &tls.Config{Certificates: []tls.Certificate{p.Inspect.TLS}, NextProtos: []string{"h2"}})
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

// WasAsked reports whether a CONNECT came for an address, and what came.
func (p *CorporateProxy) WasAsked(host string) (bool, []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Contains(p.asked, "CONNECT "+host), slices.Clone(p.asked)
}

// RelayName is the relay's name, which only the proxy can resolve.
const RelayName = "relay.example.org:443"
