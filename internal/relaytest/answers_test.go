package relaytest_test

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/relaytest"
)

// TestHalfClosedPusher: whoever closes the sending half once all is sent, as socat does, hears what became of it.
func TestHalfClosedPusher(t *testing.T) {
	r := relaytest.Start(t, relaytest.Options(t))
	a := r.StartAgent(t, "site-a", "")
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
			got := client.Raw(t, tt.url, tt.method+" "+tt.path+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 4\r\n\r\nm 7\n")
			if !strings.HasPrefix(got, "HTTP/1.1 "+tt.want) {
				t.Errorf("%s %s%s: %q, want %s", tt.method, tt.url, tt.path, got, tt.want)
			}
		}
	}
}

// TestPushWithWholeURL: a client that takes the relay for its proxy still pushes to it, if it says so.
func TestPushWithWholeURL(t *testing.T) {
	opts := relaytest.Options(t)
	opts.ExternalURL = "https://relay.example.org/"
	r := relaytest.Start(t, opts)
	address := r.Addr().String()
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
		got := client.Raw(t, r.URL, tt.line+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 4\r\n\r\nm 7\n")
		if !strings.HasPrefix(got, fmt.Sprintf("HTTP/1.1 %d ", tt.status)) {
			t.Errorf("%s: %q, want %d", tt.line, got, tt.status)
		}
	}
}

// TestHeadOfTheAgent: what answers GET answers HEAD, as at the relay.
func TestHeadOfTheAgent(t *testing.T) {
	a := relaytest.Start(t, relaytest.Options(t)).StartAgent(t, "site-a", "")
	for _, path := range []string{"/metrics", "/-/healthy", "/-/ready", "/api/v1/status", "/api/v1/spool"} {
		if got, err := client.Fetch(http.MethodHead, a.URL+path, nil); err != nil || got.Status != http.StatusOK || got.Body != "" {
			t.Errorf("HEAD %s = %d %q, %v, want 200", path, got.Status, got.Body, err)
		}
	}
}
