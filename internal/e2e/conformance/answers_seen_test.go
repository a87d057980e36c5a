//go:build linux

package conformance_test

import (
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/gateway"
	"pushrelay/internal/e2e/house"
	"pushrelay/internal/e2e/program"
)

// urllibPut pushes 17 MB by Python's standard library, which sends all before it reads, and prints what was answered.
const urllibPut = `
import sys, urllib.request, urllib.error
request = urllib.request.Request(sys.argv[1], data=b"x" * 17_000_000, method="PUT")
try:
    print(urllib.request.urlopen(request, timeout=50).status)
except urllib.error.HTTPError as e:
    print(e.code, e.read().decode())
`

// TestRefusalIsSeen: whoever sends all before reading sees why it was refused, and no connection that is reset.
func TestRefusalIsSeen(t *testing.T) {
	t.Parallel()
	python := program.RequireProgram(t, "/usr/bin/python3", "python3-prometheus-client")
	hash := filepath.Join(t.TempDir(), "web.yml")
	// Nobody knows the password.
	client.WriteFile(t, hash, "basic_auth_users: {somebody: \"$2y$05$0Pq8ZOPcXXr2Zl3AVJYVQOBRMVQ9xfeHkpwfSFMOiu7sT1bZCVmx6\"}\n")
	r := house.StartRelay(t)
	open, closed := r.URL, gateway.Relay(t, "--web.config.file="+hash)
	full := gateway.Relay(t, "--push.max-inflight-bytes=1MB")
	a := house.StartSite(t, r, "site-a", "scrape_configs: []\n")
	for _, tt := range []struct{ url, want string }{
		{open + "/metrics/job/large", "413 body is larger than 16777216 bytes (--push.max-body-size)"},
		{a.URL + "/metrics/job/large", "413 body is larger than 16777216 bytes (--push.max-body-size)"},
		{open + "/metrics/job/j/branch/a%2Fb", "400 a value has a slash"},
		{open + "/api/v1/admin/wipe", "404 the admin API is not enabled (--web.enable-admin-api)"},
		{closed.URL + "/metrics/job/large", "401 Unauthorized"},
		{full.URL + "/metrics/job/large", "413 body is larger"},
	} {
		out, err := exec.CommandContext(t.Context(), python, "-c", urllibPut, tt.url).CombinedOutput()
		if err != nil || !strings.HasPrefix(string(out), tt.want) {
			t.Errorf("%s: %q, %v, want %q", tt.url, out, err, tt.want)
		}
	}
}

// TestHalfClosedPusher: whoever closes the sending half once all is sent, as socat does, hears what became of it.
func TestHalfClosedPusher(t *testing.T) {
	t.Parallel()
	r := house.StartRelay(t, "--web.enable-admin-api")
	a := house.StartSite(t, r, "site-a", "scrape_configs: []\n")
	r.Session(t, "site-a")
	for _, tt := range []struct{ url, method, path, want string }{
		{r.URL, "PUT", "/metrics/job/nc", "200"},
		{r.URL, "POST", "/metrics/job/nc", "200"},
		{r.URL, "DELETE", "/metrics/job/nc", "202"},
		{r.URL, "PUT", "/api/v1/admin/wipe", "202"},
		{a.URL, "PUT", "/metrics/job/nc", "200"},
		{a.URL, "POST", "/metrics/job/nc", "200"},
		{a.URL, "DELETE", "/metrics/job/nc", "202"},
	} {
		for range 5 {
			got := raw(t, &gateway.Gateway{URL: tt.url}, tt.method+" "+tt.path+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 4\r\n\r\nm 7\n")
			if !strings.HasPrefix(got, "HTTP/1.1 "+tt.want) {
				t.Errorf("%s %s%s: %q, want %s", tt.method, tt.url, tt.path, got, tt.want)
			}
		}
	}
}

// TestPushWithWholeURL: a client that takes the relay for its proxy still pushes to it, if it says so.
func TestPushWithWholeURL(t *testing.T) {
	t.Parallel()
	g := gateway.Relay(t, "--web.external-url=https://relay.example.org/", "--web.enable-admin-api")
	address := strings.TrimPrefix(g.URL, "http://")
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		line   string
		status int
	}{
		{"PUT http://" + address + "/metrics/job/j", 200},
		{"POST http://" + address + "/metrics/job/j/instance/i", 200},
		{"DELETE http://" + address + "/metrics/job/j", 202},
		{"PUT http://localhost:" + port + "/metrics/job/j", 200},
		{"PUT https://RELAY.example.org/metrics/job@base64/ag", 200},
		{"PUT https://relay.example.org:443/metrics/job/j", 200},
		{"PUT http://" + address + "/metrics/job/j/branch/a%2Fb", 400},
		{"PUT http://" + address + "/metrics/job/", 400},
		{"PUT http://relay.example.org/metrics/job/j", 405}, // another port
		{"PUT http://127.0.0.1:1/metrics/job/j", 405},
		{"PUT http://127.0.0.2:" + port + "/metrics/job/j", 405},
		{"PUT http://elsewhere.example.org/metrics/job/j", 405},
		{"PUT http://" + address + "/api/v1/admin/wipe", 405},
		{"GET http://" + address + "/metrics", 404}, // as a proxy
	} {
		got := raw(t, g, tt.line+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 4\r\n\r\nm 7\n")
		if !strings.HasPrefix(got, fmt.Sprintf("HTTP/1.1 %d ", tt.status)) {
			t.Errorf("%s: %q, want %d", tt.line, got, tt.status)
		}
	}
}

// TestHeadOfTheAgent: what answers GET answers HEAD, as at the relay.
func TestHeadOfTheAgent(t *testing.T) {
	t.Parallel()
	r := house.StartRelay(t)
	a := house.StartSite(t, r, "site-a", "scrape_configs: []\n")
	for _, path := range []string{"/metrics", "/-/healthy", "/-/ready", "/api/v1/status", "/api/v1/spool"} {
		if got, err := client.Fetch(http.MethodHead, a.URL+path, nil); err != nil || got.Status != http.StatusOK || got.Body != "" {
			t.Errorf("HEAD %s = %d %q, %v, want 200", path, got.Status, got.Body, err)
		}
	}
}
