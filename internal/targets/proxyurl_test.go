package targets_test

import (
	"strings"
	"testing"

	"pushrelay/internal/targets"
)

func TestProxyOfTheEnvironment(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://user:sec#ret@proxy.test")
	t.Setenv("NO_PROXY", "relay.test")
	job := "scrape_configs:\n  - job_name: j\n"
	if _, err := targets.Load(write(t, job)); err != nil {
		t.Error(err)
	}
	_, err := targets.Load(write(t, job+"    proxy_from_environment: true\n"))
	if err == nil || !strings.Contains(err.Error(), "proxy_from_environment: HTTPS_PROXY: percent-encode") || strings.Contains(err.Error(), "ret@") {
		t.Errorf("Load() error = %v, want one about HTTPS_PROXY", err)
	}
}

// A proxy of targets without a scheme is one of HTTP, wherever it is written.
func TestTargetProxies(t *testing.T) {
	cfg, err := targets.Load(write(t, `
scrape_configs:
  - job_name: plain
    proxy_url: 127.0.0.1:3128
  - job_name: quoted
    proxy_url: "user:secret@proxy.test:3128"   # ours
  - {job_name: flow, proxy_url: 'proxy.test:3128', static_configs: [{targets: ["a:1"], labels: {proxy_url: "a/b"}}]}
  - job_name: complete
    proxy_url: socks5://proxy.test:1080
    no_proxy: "x"
  - job_name: none
    proxy_url: ""
`))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"plain": "http://127.0.0.1:3128", "quoted": "http://user:secret@proxy.test:3128", "flow": "http://proxy.test:3128",
		"complete": "socks5://proxy.test:1080", "none": "",
	}
	for _, sc := range cfg.ScrapeConfigs {
		got := ""
		if u := sc.HTTPClient.ProxyURL.URL; u != nil {
			got = u.String()
		}
		if got != want[sc.JobName] {
			t.Errorf("job %s: proxy_url = %q, want %q", sc.JobName, got, want[sc.JobName])
		}
	}
}
