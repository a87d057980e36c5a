//go:build linux

package e2e_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// startNginx starts Debian's nginx in front of a relay, as little configured as can be: it speaks HTTP/1.0 to the relay then.
func startNginx(t testing.TB, relayURL string) (url string) {
	t.Helper()
	return startNginxAt(t, relayURL, "/")
}

// startNginxAt is startNginx that passes on what is below a path alone, and leaves the path as it is. It returns the address with the path, less its last slash.
func startNginxAt(t testing.TB, relayURL, path string) (url string) {
	t.Helper()
	dir, address := t.TempDir(), freeAddress(t)
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;"
	}
	config := filepath.Join(dir, "nginx.conf")
	writeFile(t, config, fmt.Sprintf(`
daemon off; master_process off; %[1]s
pid %[2]s/pid; error_log stderr warn;
events {}
http {
	access_log off;
	client_body_temp_path %[2]s/client; proxy_temp_path %[2]s/proxy; fastcgi_temp_path %[2]s/fastcgi;
	uwsgi_temp_path %[2]s/uwsgi; scgi_temp_path %[2]s/scgi;
	server {
		listen %[3]s;
		location %[5]s { proxy_pass %[4]s; }
	}
}
`, user, dir, address, relayURL, path))
	p := start(t, command{path: requireProgram(t, "/usr/sbin/nginx", "nginx"), dir: dir, args: []string{"-p", dir, "-c", config, "-e", "stderr"}})
	url = "http://" + address + strings.TrimSuffix(path, "/")
	waitReady(t, p, url)
	return url
}

// TestCutThroughNginx: part of a body must not look like the whole behind a proxy that speaks HTTP/1.0, where a body ends
// with its connection.
func TestCutThroughNginx(t *testing.T) {
	t.Parallel()
	staged := newStagedTarget()
	address := serveHandler(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/dies" {
			staged.ServeHTTP(w, r)
			return
		}
		for n := range 20_000 {
			fmt.Fprintf(w, "metric{n=\"%d\"} 1\n", n)
		}
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	r := startRelay(t)
	a := startSite(t, r, "site-a", configOf(address, append([]string{"dies"}, stagedPaths...)...))
	doomed := startSite(t, r, "site-b", configOf(address, stagedPaths...))
	r.session(t, "site-a")
	r.session(t, "site-b")
	proxied := &relay{url: startNginx(t, r.url)}

	dir, web := t.TempDir(), freeAddress(t)
	config := filepath.Join(dir, "prometheus.yml")
	job := func(path string) string {
		u := proxied.targetURL(a.name, path, address)
		host, metrics, _ := strings.Cut(strings.TrimPrefix(u, "http://"), "/")
		return fmt.Sprintf("  - {job_name: %s, metrics_path: /%s, static_configs: [{targets: [%q]}]}\n", path, metrics, host)
	}
	writeFile(t, config, "global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n"+job("metrics")+job("dies")+job("body"))
	p := &prometheusProcess{url: "http://" + web, get: wantOK}
	p.process = start(t, prometheusCommandOf(t, config, web))
	p.waitReady(t)
	p.wantValue(t, `up{job="metrics"}`, 1)
	p.wantValue(t, `up{job="dies"}`, 0)
	p.wantValue(t, `up{job="body"}`, 0) // does not end before its timeout
	p.wantValue(t, `max_over_time(up{job="dies"}[1m])`, 0)

	late := staged.begin(t, proxied.urlOf(a.name, address), inBody, 2*time.Second)
	late.wantFailed(t, "a body that takes too long", time.Now().Add(patience))
	killed := staged.begin(t, proxied.urlOf(doomed.name, address), inBody, time.Minute)
	doomed.kill(t)
	killed.wantFailed(t, "an agent that is killed", time.Now().Add(patience))
	gone := staged.begin(t, proxied.urlOf(a.name, address), inBody, time.Minute)
	r.kill(t)
	gone.wantFailed(t, "a relay that is killed", time.Now().Add(patience))
}

// TestCutOfHTTP10: the same, seen by the bytes.
func TestCutOfHTTP10(t *testing.T) {
	t.Parallel()
	address := serveHandler(t, newStagedTarget())
	r := startRelay(t)
	a := startSite(t, r, "site-a", configOf(address, stagedPaths...))
	r.session(t, "site-a")
	for _, end := range []struct {
		name string
		do   func()
	}{
		{"its timeout", func() {}},
		{"the agent's end", func() { a.kill(t) }},
	} {
		c, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		path := strings.TrimPrefix(r.targetURL(a.name, "body", address), r.url)
		fmt.Fprintf(c, "GET %s HTTP/1.0\r\n%s: 2\r\n\r\n", path, timeoutHeader)
		if _, err := io.ReadFull(c, make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		end.do()
		if n, err := io.Copy(io.Discard, c); err == nil {
			t.Errorf("%s: %d bytes more and a clean end, want a reset", end.name, n)
		}
	}
}

// TestOwnPageThroughNginx: nginx by default tells the relay its own address as Host. A page of the external URL is the relay's all the same,
// and every other one is another site's, whether it names the relay or not.
func TestOwnPageThroughNginx(t *testing.T) {
	t.Parallel()
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	url := startNginx(t, startRelay(t, "--web.external-url=http://relay.test/").url)
	for origin, want := range map[string]int{"": 200, "http://relay.test": 200, "http://evil.test": 403, "http://relay.test:81": 403, "null": 403} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url+"/metrics/job/page", strings.NewReader("m 1\n"))
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "relay.test"
		if origin != "" {
			req.Header.Set("Origin", origin)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != want || want == 403 && !strings.Contains(string(text), "--web.external-url") {
			t.Errorf("a push of a page of %q is answered %d %q (%v), want %d", origin, resp.StatusCode, text, err, want)
		}
	}
}
