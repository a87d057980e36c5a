//go:build linux

package tunnel_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/exporter"
	"pushrelay/internal/e2e/house"
	"pushrelay/internal/e2e/middlebox"
	"pushrelay/internal/e2e/program"
	"pushrelay/internal/e2e/promserver"
)

// TestCutThroughNginx: part of a body must not look like the whole behind a proxy that speaks HTTP/1.0, where a body ends
// with its connection.
func TestCutThroughNginx(t *testing.T) {
	t.Parallel()
	staged := exporter.NewStaged()
	address := exporter.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
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
	r := house.StartRelay(t)
	a := house.StartSite(t, r, "site-a", house.ConfigOf(address, append([]string{"dies"}, exporter.StagedPaths...)...))
	doomed := house.StartSite(t, r, "site-b", house.ConfigOf(address, exporter.StagedPaths...))
	r.Session(t, "site-a")
	r.Session(t, "site-b")
	proxied := &house.Relay{URL: middlebox.StartNginx(t, r.URL)}

	dir, web := t.TempDir(), program.FreeAddress(t)
	config := filepath.Join(dir, "prometheus.yml")
	job := func(path string) string {
		u := proxied.TargetURL(a.Name, path, address)
		host, metrics, _ := strings.Cut(strings.TrimPrefix(u, "http://"), "/")
		return fmt.Sprintf("  - {job_name: %s, metrics_path: /%s, static_configs: [{targets: [%q]}]}\n", path, metrics, host)
	}
	client.WriteFile(t, config, "global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n"+job("metrics")+job("dies")+job("body"))
	p := &promserver.Server{URL: "http://" + web, Get: client.WantOK}
	p.Process = program.Start(t, promserver.CommandOf(t, config, web))
	p.WaitReady(t)
	p.WantValue(t, `up{job="metrics"}`, 1)
	p.WantValue(t, `up{job="dies"}`, 0)
	p.WantValue(t, `up{job="body"}`, 0) // does not end before its timeout
	p.WantValue(t, `max_over_time(up{job="dies"}[1m])`, 0)

	late := staged.Begin(t, proxied.URLOf(a.Name, address), exporter.InBody, 2*time.Second)
	late.WantFailed(t, "a body that takes too long", time.Now().Add(client.Patience))
	killed := staged.Begin(t, proxied.URLOf(doomed.Name, address), exporter.InBody, time.Minute)
	doomed.Kill(t)
	killed.WantFailed(t, "an agent that is killed", time.Now().Add(client.Patience))
	gone := staged.Begin(t, proxied.URLOf(a.Name, address), exporter.InBody, time.Minute)
	r.Kill(t)
	gone.WantFailed(t, "a relay that is killed", time.Now().Add(client.Patience))
}

// TestCutOfHTTP10: the same, seen by the bytes.
func TestCutOfHTTP10(t *testing.T) {
	t.Parallel()
	address := exporter.Serve(t, exporter.NewStaged())
	r := house.StartRelay(t)
	a := house.StartSite(t, r, "site-a", house.ConfigOf(address, exporter.StagedPaths...))
	r.Session(t, "site-a")
	for _, end := range []struct {
		name string
		do   func()
	}{
		{"its timeout", func() {}},
		{"the agent's end", func() { a.Kill(t) }},
	} {
		c, err := net.Dial("tcp", strings.TrimPrefix(r.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(client.Patience)); err != nil {
			t.Fatal(err)
		}
		path := strings.TrimPrefix(r.TargetURL(a.Name, "body", address), r.URL)
		fmt.Fprintf(c, "GET %s HTTP/1.0\r\n%s: 2\r\n\r\n", path, client.TimeoutHeader)
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
	client := &http.Client{Timeout: client.Patience, Transport: &http.Transport{DisableKeepAlives: true}}
	url := middlebox.StartNginx(t, house.StartRelay(t, "--web.external-url=http://relay.test/").URL)
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
