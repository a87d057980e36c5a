package relaytest_test

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/agent"
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

// TestChangeWithoutRoom: a change that a relay has no room for waits by itself, while others of the same agent go on; it goes through once there is room
// (T13).
func TestChangeWithoutRoom(t *testing.T) {
	opts := relaytest.Options(t)
	opts.MaxGroups = 3
	r := relaytest.Start(t, opts)
	a := r.StartAgent(t, "site-a", "").Restart(t, func(o *agent.Options) { o.PushWait = 2 * time.Second }) // so long the second push to the group waits behind the first
	r.WaitFor(t, a, "site-a")
	put := func(job string, value int) client.Response {
		got, err := client.Fetch(http.MethodPut, a.URL+"/metrics/job/"+job, strings.NewReader(fmt.Sprintf("%s %d\n", job, value)))
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	applied := func(job string, value int) {
		if got := put(job, value); got.Status != http.StatusOK || got.Body != "" || got.Header.Get("X-Relay-Spooled") != "" {
			t.Errorf("PUT %s: %d %s", job, got.Status, got.Body)
		}
	}
	seriesOf := func(job string) string { return fmt.Sprintf(`%s{agent="site-a", instance="", job=%q}`, job, job) }
	for n, job := range []string{"a", "b", "c"} {
		applied(job, n)
	}
	for i, why := range []string{"the store is full: it takes no more than 3 groups", "kept at the agent"} {
		if got := put("d", 1+i); got.Status != http.StatusAccepted || got.Header.Get("X-Relay-Spooled") != "true" || !strings.Contains(got.Body, why) {
			t.Errorf("a push without room: %d %s, want 202 with %q", got.Status, got.Body, why)
		}
	}
	for n := range 20 {
		applied("a", 10+n)
	}
	client.WantSeries(t, a.URL, "relay_agent_spool_entries", 1)
	client.WantNoSeries(t, r.URL, seriesOf("d"))
	if later, _, err := client.ValueOf(r.URL, `relay_changes_total{result="later"}`); err != nil || later == 0 {
		t.Errorf("the relay put %v changes off, %v", later, err)
	}
	if got, err := client.Fetch(http.MethodDelete, a.URL+"/metrics/job/c", nil); err != nil || got.Status != http.StatusAccepted || got.Header.Get("X-Relay-Spooled") != "" {
		t.Errorf("DELETE: %d %s, %v", got.Status, got.Body, err)
	}
	client.WantSeries(t, r.URL, seriesOf("d"), 2)
	relaytest.Eventually(t, "the spool is drained", func() bool {
		entries, there, err := client.ValueOf(a.URL, "relay_agent_spool_entries")
		return err == nil && there && entries == 0
	})
}
