//go:build linux

package hostile_test

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// house is a web server in the agent's network, with more than metrics on it. It remembers what it was asked for, and with which password.
type house struct {
	*httptest.Server
	mu    sync.Mutex
	asked map[string]string // guarded by mu; passwords by path
}

func newHouse(t *testing.T) *house {
	h := &house{asked: map[string]string{}}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, password, _ := r.BasicAuth()
		h.mu.Lock()
		h.asked[r.URL.Path] = password
		h.mu.Unlock()
		if r.URL.Path == "/redirects" {
			http.Redirect(w, r, "/admin", http.StatusFound)
			return
		}
		io.WriteString(w, "m 1\n")
	}))
	t.Cleanup(h.Close)
	return h
}

// address is the server's, as a configuration has it.
func (h *house) address() string { return strings.TrimPrefix(h.URL, "http://") }

// take returns what was asked for since the last call.
func (h *house) take() map[string]string {
	h.mu.Lock()
	defer h.mu.Unlock()
	taken := h.asked
	h.asked = map[string]string{}
	return taken
}

// TestProxyReachesListedPaths: who reaches the relay's port reaches of a target what the agent's file lists, by whatever way of writing, and its
// stored password goes nowhere else, be it that the target itself redirects.
func TestProxyReachesListedPaths(t *testing.T) {
	r := startRelay(t)
	h, open := newHouse(t), newHouse(t)
	startAgent(t, r.grpc, r.files("honest"), fmt.Sprintf(`
scrape_configs:
  - job_name: locked
    basic_auth: {username: u, password: stored}
    static_configs: [{targets: [%[1]q]}]
  - job_name: redirects
    metrics_path: /redirects
    basic_auth: {username: u, password: stored}
    static_configs: [{targets: [%[1]q]}]
  - job_name: open
    proxy_paths: [/probe]
    static_configs: [{targets: [%[2]q]}]
`, h.address(), open.address())).attached()
	relayURL, err := url.Parse(r.url)
	if err != nil {
		t.Fatal(err)
	}
	proxied := &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(relayURL)}, Timeout: patience}
	ask := func(client *http.Client, url string) (status int, text string) {
		req, err := http.NewRequest(http.MethodGet, url, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth("u", "guessed")
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	eventually(t, "the targets are announced", func() bool {
		_, list := r.do(t.Context(), http.MethodGet, "/sd/targets", "")
		return strings.Contains(list, "open")
	})
	for _, tt := range []struct {
		url    string
		status int
		says   string
	}{
		{h.URL + "/admin", 403, "proxy_paths"},
		{h.URL + "/", 403, "proxy_paths"},
		{h.URL + "/metrics/../admin", 403, "proxy_paths"},
		{h.URL + "/metrics%2F..%2Fadmin", 403, "proxy_paths"},
		{h.URL + "/%61dmin", 403, "proxy_paths"},
		{h.URL + "/metrics?delete=all", 403, "proxy_paths"},
		{h.URL + "/redirects", 502, "/admin"},
		{open.URL + "/admin", 403, "proxy_paths"},
		{open.URL + "/metrics", 403, "proxy_paths"},
	} {
		if status, text := ask(proxied, tt.url); status != tt.status || !strings.Contains(text, tt.says) {
			t.Errorf("%s as a proxy: %d %q, want %d with %q", tt.url, status, text, tt.status, tt.says)
		}
	}
	if status, text := ask(client, r.url+"/agents/honest/targets/redirects-"+h.address()+"/metrics"); status != 502 || !strings.Contains(text, "/admin") {
		t.Errorf("a target that redirects to another path: %d %q", status, text)
	}
	for path := range h.take() {
		if path != "/redirects" {
			t.Errorf("the target was asked for %s", path)
		}
	}
	if asked := open.take(); len(asked) > 0 {
		t.Errorf("the target was asked for %v", asked)
	}
	for url, password := range map[string]string{h.URL + "/metrics": "stored", open.URL + "/probe?target=x": ""} {
		status, text := ask(proxied, url)
		all := h.take()
		maps.Copy(all, open.take())
		for path, seen := range all {
			if seen != password {
				t.Errorf("%s was asked for with the password %q, want %q", path, seen, password)
			}
		}
		if status != 200 || len(all) != 1 {
			t.Errorf("%s as a proxy: %d %q, the targets were asked for %v", url, status, text, all)
		}
	}
}
