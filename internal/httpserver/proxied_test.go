package httpserver_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/common/promslog"
	"github.com/prometheus/exporter-toolkit/web"

	"pushrelay/internal/httpserver"
)

// A request to a proxy has its password where proxies are told it; any other where it always was.
func TestPasswordOfProxiedRequests(t *testing.T) {
	file := filepath.Join(t.TempDir(), "web.yml")
	if err := os.WriteFile(file, []byte("basic_auth_users: {u: $2a$04$.zO5j3VtMz1LUnzcTL6Lne2UZkYRetQs.nZ/FaO/5TvBmCtPNDwKe}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const good, bad = "Basic dTpw", "Basic dTp4"
	for _, config := range []string{file, ""} {
		var seen http.Header
		addresses := listenBoth(t, config, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { seen = r.Header.Clone() }))
		for _, tt := range []struct {
			line, authorization, proxyAuthorization string
			status                                  int // with a password
		}{
			{"GET http://target:1/metrics", "", good, 200},
			{"GET http://target:1/metrics", good, "", 200},
			{"GET http://target:1/metrics", bad, good, 200}, // which is the target's business
			{"GET http://target:1/metrics", "", bad, 401},
			{"GET http://target:1/metrics", "", "", 401},
			{"CONNECT target:1", "", good, 200},
			{"GET /metrics", "", good, 401},
			{"GET /metrics", good, "", 200},
			{"GET /metrics", good, bad, 200},
		} {
			want := tt.status
			if config == "" {
				want = 200
			}
			for _, address := range addresses {
				seen = nil
				if got := speak(t, address, tt.line, tt.authorization, tt.proxyAuthorization); got != want {
					t.Errorf("%s with %q and %q: %d, want %d", tt.line, tt.authorization, tt.proxyAuthorization, got, want)
				}
				if seen != nil && !strings.HasPrefix(tt.line, "GET /") && seen.Get("Proxy-Authorization") != "" {
					t.Errorf("%s: Proxy-Authorization is still there", tt.line)
				}
			}
		}
	}
}

// listenBoth serves on two listeners until the test ends.
func listenBoth(t *testing.T, config string, handler http.Handler) []string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	flags := &web.FlagConfig{WebListenAddresses: &[]string{"127.0.0.1:0", "unix:" + socket}, WebConfigFile: &config}
	server, err := httpserver.Listen(httpserver.Config{Flags: flags, Logger: promslog.NewNopLogger()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := server.Run(ctx, handler, time.Second); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(running.Wait)
	t.Cleanup(cancel)
	return []string{"tcp " + server.Addr().String(), "unix " + socket}
}

// speak sends a request as it is written and returns the status of the answer.
func speak(t *testing.T, address, line, authorization, proxyAuthorization string) int {
	t.Helper()
	network, address, _ := strings.Cut(address, " ")
	c, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	request := line + " HTTP/1.1\r\nHost: target:1\r\nConnection: close\r\n"
	if authorization != "" {
		request += "Authorization: " + authorization + "\r\n"
	}
	if proxyAuthorization != "" {
		request += "Proxy-Authorization: " + proxyAuthorization + "\r\n"
	}
	if _, err := io.WriteString(c, request+"\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	resp.Body.Close()
	return resp.StatusCode
}
