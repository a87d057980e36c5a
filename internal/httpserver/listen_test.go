package httpserver_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/common/promslog"

	"pushrelay/internal/authority"
	"pushrelay/internal/httpserver"
)

// passwordConfig is a web configuration file with a user.
const passwordConfig = "basic_auth_users:\n  alice: $2b$04$3gPF8D8C6AyueEcL6cR8SerOdA7.gr9gMvoMrD1lTei5mVTFhwFS2\n"

// TestPasswordsOfSockets: the mode of a socket is its password, where the program says so; everything else wants that of the web
// configuration file.
func TestPasswordsOfSockets(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name                  string
		plain                 bool
		path, abstract, byTCP int // statuses without a password
	}{
		{"a program that trusts its sockets", true, 200, 401, 401},
		{"another program", false, 401, 401, 401},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			config := writeFile(t, dir, "web.yml", passwordConfig)
			path, abstract := filepath.Join(dir, "s"), "@"+filepath.Join(dir, "abstract")
			f := flags("127.0.0.1:0", "unix:"+path, "unix:"+abstract)
			f.WebConfigFile = &config
			s := run(t, httpserver.Config{Flags: f, PlainSockets: tt.plain, Logger: promslog.NewNopLogger()})
			for address, want := range map[string]int{path: tt.path, abstract: tt.abstract} {
				if got := status(t, "unix", address, "http"); got != want {
					t.Errorf("status at unix:%s = %d, want %d", address, got, want)
				}
			}
			if got := status(t, "tcp", s.Addr().String(), "http"); got != tt.byTCP {
				t.Errorf("status at %s = %d, want %d", s.Addr(), got, tt.byTCP)
			}
		})
	}
}

// TestSocketsWithoutTLS: neither has a socket the TLS of the web configuration file.
func TestSocketsWithoutTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca, err := authority.Create(filepath.Join(dir, "ca"), authority.Config{})
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := ca.EnsureRelay([]string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	config := writeFile(t, dir, "web.yml", "tls_server_config:\n  cert_file: "+certificate.Files.CertFile+"\n  key_file: "+certificate.Files.KeyFile+"\n")
	path := filepath.Join(dir, "s")
	f := flags("127.0.0.1:0", "unix:"+path)
	f.WebConfigFile = &config
	s := run(t, httpserver.Config{Flags: f, PlainSockets: true, Logger: promslog.NewNopLogger()})
	if got := status(t, "unix", path, "http"); got != 200 {
		t.Errorf("status at the socket = %d, want 200", got)
	}
	if got := status(t, "tcp", s.Addr().String(), "https"); got != 200 {
		t.Errorf("status with TLS = %d, want 200", got)
	}
}

// TestMissingAddress: an address that the machine does not have is left out if it is one of the default's, and told.
func TestMissingAddress(t *testing.T) {
	t.Parallel()
	const missing = "192.0.2.1:0" // for documentation: no machine has it
	var log bytes.Buffer
	c := httpserver.Config{Flags: flags("127.0.0.1:0", missing), Optional: []string{missing}, Logger: slog.New(slog.NewTextHandler(&log, nil))}
	s, err := httpserver.Listen(c)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "level=INFO") || !strings.Contains(got, missing) {
		t.Errorf("the log is %q, want one line of information on %s", got, missing)
	}
	wantRefused(t, missing, "127.0.0.1:0", missing)
}

// TestPortTaken: the error says with which flag another port is chosen, also if the address is one that may be missing.
func TestPortTaken(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().String()
	wantRefused(t, "choose another one, such as --web.listen-address=127.0.0.1:", taken)
	c := httpserver.Config{Flags: flags("127.0.0.1:0", taken), Optional: []string{taken}, Logger: promslog.NewNopLogger()}
	if s, err := httpserver.Listen(c); err == nil {
		s.Close()
		t.Errorf("Listen succeeded on %s, which is taken", taken)
	}
}

// run runs a server until the test ends.
func run(t *testing.T, c httpserver.Config) *httpserver.Server {
	t.Helper()
	s, err := httpserver.Listen(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := s.Run(ctx, hello, time.Second); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return s
}

// status asks for a page and returns the status of the answer.
func status(t *testing.T, network, address, scheme string) int {
	t.Helper()
	transport := &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, scheme+"://localhost/", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func writeFile(t *testing.T, dir, name, content string) (path string) {
	t.Helper()
	path = filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
