package httpserver_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/common/promslog"
	"github.com/prometheus/exporter-toolkit/web"

	"pushrelay/internal/httpserver"
)

// serveFlags runs a server until stop is called, or the test ends. It is given four seconds for its end.
func serveFlags(t *testing.T, f *web.FlagConfig, handler http.HandlerFunc) (s *httpserver.Server, stop func()) {
	t.Helper()
	s, err := httpserver.Listen(httpserver.Config{Flags: f, Logger: promslog.NewNopLogger()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := s.Run(ctx, handler, 4*time.Second); err != nil {
			t.Error(err)
		}
	})
	stop = func() {
		cancel()
		running.Wait()
	}
	t.Cleanup(stop)
	return s, stop
}

// listeners runs servers with the handler on every kind of socket, and returns what dials each.
func listeners(t *testing.T, handler http.HandlerFunc) map[string]func(*testing.T) net.Conn {
	t.Helper()
	secured := flags("127.0.0.1:0")
	*secured.WebConfigFile = webConfig(t)
	path := filepath.Join(t.TempDir(), "s")
	plain, _ := serveFlags(t, flags("127.0.0.1:0"), handler)
	behindTLS, _ := serveFlags(t, secured, handler)
	serveFlags(t, flags("unix:"+path), handler)
	return map[string]func(*testing.T) net.Conn{
		"tcp":  func(t *testing.T) net.Conn { return clientTLS(false)(t, plain.Addr().String()) },
		"tls":  func(t *testing.T) net.Conn { return clientTLS(true)(t, behindTLS.Addr().String()) },
		"unix": func(t *testing.T) net.Conn { return dialUnix(t, path) },
	}
}

// clientTLS returns what dials a TCP port, with TLS or without.
func clientTLS(secured bool) func(t *testing.T, address string) net.Conn {
	return func(t *testing.T, address string) net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if secured {
			c = tls.Client(c, &tls.Config{InsecureSkipVerify: true})
		}
		return bounded(t, c)
	}
}

func dialUnix(t *testing.T, path string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	return bounded(t, c)
}

// bounded bounds the life of a connection.
func bounded(t *testing.T, c net.Conn) net.Conn {
	t.Helper()
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

// exchange sends a request, and returns all that comes back and how that ends: nil for a clean end.
func exchange(t *testing.T, dial func(*testing.T) net.Conn, request string) ([]byte, error) {
	t.Helper()
	c := dial(t)
	defer c.Close()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	return io.ReadAll(c)
}

// webConfig writes a web configuration file with a certificate that nobody need trust, and further lines.
func webConfig(t *testing.T, more ...string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config := "tls_server_config:\n  cert_file: web.crt\n  key_file: web.key\n"
	for _, line := range more {
		config += line + "\n"
	}
	for name, content := range map[string][]byte{
		"web.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}),
		"web.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}),
		"web.yml": []byte(config),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "web.yml")
}
