//go:build linux

package hostile_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestPagesOfOtherSites: a page that somebody on the agent's machine looks at, or on one that reaches the relay, changes nothing at either
// and reads nothing of the agent. Neither does one whose domain was made to lead to the agent. Programs push on.
func TestPagesOfOtherSites(t *testing.T) {
	r := startRelay(t, "--web.enable-admin-api", "--web.enable-lifecycle")
	a := startAgent(t, r.grpc, r.files("honest"), "scrape_configs: []")
	a.attached()
	_, port, _ := strings.Cut(strings.TrimPrefix(a.url, "http://"), ":")
	evil := "evil.test:" + port
	for _, attack := range []struct {
		method, url, host, origin, site string
		want                            int
	}{
		{"POST", a.url + "/metrics/job/evil", "", "http://evil.test", "cross-site", 403},
		{"PUT", a.url + "/metrics/job/evil", "", "http://evil.test", "", 403},
		{"DELETE", a.url + "/metrics/job/honest", "", "https://evil.test", "cross-site", 403},
		{"POST", a.url + "/-/reload", "", "http://evil.test", "cross-site", 403},
		{"POST", a.url + "/metrics/job/evil", evil, "http://" + evil, "", 421},
		{"POST", a.url + "/metrics/job/evil", evil, "null", "same-origin", 421},
		{"POST", a.url + "/-/reload", evil, "http://" + evil, "", 421},
		{"GET", a.url + "/metrics", evil, "", "", 421},
		{"GET", a.url + "/api/v1/status", evil, "", "", 421},
		{"GET", a.url + "/api/v1/spool", evil, "", "", 421},
		{"POST", r.url + "/metrics/job/evil", "", "http://evil.test", "cross-site", 403},
		{"PUT", r.url + "/metrics/job/evil/agent/honest", "", "null", "", 403},
		{"PUT", r.url + "/api/v1/admin/wipe", "", "http://evil.test", "cross-site", 403},
		{"DELETE", r.url + "/api/v1/agents/honest", "", "http://evil.test", "cross-site", 403},
		{"POST", r.url + "/-/quit", "", "http://evil.test", "cross-site", 403},
	} {
		req, err := http.NewRequest(attack.method, attack.url, strings.NewReader("evil 1\n"))
		if err != nil {
			t.Fatal(err)
		}
		req.Host = attack.host
		for name, value := range map[string]string{"Origin": attack.origin, "Sec-Fetch-Site": attack.site} {
			if value != "" {
				req.Header.Set(name, value)
			}
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != attack.want {
			t.Errorf("%s %s for a page of %s is answered %d %q (%v), want %d", attack.method, attack.url, attack.origin, resp.StatusCode, text, err, attack.want)
		}
	}
	if strings.Contains(a.logged(), "configuration reloaded") {
		t.Error("the agent read its configuration again")
	}
	resp, err := client.Post(a.url+"/metrics/job/honest", "text/plain", strings.NewReader("honest 1\n"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("a push of a program is answered %d", resp.StatusCode)
	}
	if _, text := r.do(t.Context(), http.MethodGet, "/metrics", ""); strings.Contains(text, "\nevil") || !strings.Contains(text, `honest{agent="honest",`) {
		t.Errorf("the relay has %s", tail(text))
	}
}
