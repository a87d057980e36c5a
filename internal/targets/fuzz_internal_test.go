package targets

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzConfig looks for a configuration that is taken and announces what no relay takes, or of which a part is not read.
func FuzzConfig(f *testing.F) {
	for _, text := range []string{
		"scrape_configs:\n- job_name: node\n  static_configs:\n  - targets: [\"localhost:9100\", \"b\"]\n    labels: {env: x, instance: i}\n",
		"global: {scrape_interval: 15s}\nscrape_configs:\n- job_name: a\n  scheme: https\n  metrics_path: /m\n  params: {a: [b]}\n  proxy_url: user:hunter2@proxy:3128\n  basic_auth: {username: u, password: hunter2}\n  file_sd_configs: [{files: [\"*.yml\"]}]\n  relabel_configs: []\n",
		"textfile_configs:\n- directory: texts\n  job: node\n  labels: {a: b}\n  every: 1d\n  grace: none\n  ttl: 0\n",
		"push_rules:\n- match: '{job=\"j\"}'\n  aggregate: sum\n  put: true\n- {match: x, ttl: 1d}\n", "push_rules: &a [*a]\n",
		"scrape_configs: []\n---\n", "scrape_configs:\n- job_name: a\n  tls_config: {insecure_skip_verify: true}\n  scrape_timeout: 1h\n  oauth2: {proxy_url: \"http://a\"}\n",
		"scrape_configs: [{job_name: a, static_configs: [{targets: [a], labels: {__address__: b, __param_x: y}}]}, &x {job_name: b}, *x]\n",
		"&a\n<<: *a\nscrape_configs: []\n", "scrape_configs:\n- &b\n  job_name: x\n  <<: [*b, {scheme: https}]\n",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		cfg, err := parse([]byte(text), "/etc/agent")
		if err != nil {
			if cfg != nil || err.Error() == "" {
				t.Errorf("%q: %v beside %v", text, cfg, err)
			}
			return
		}
		for _, warning := range cfg.Warnings {
			if warning == "" || strings.Contains(warning, "\n") {
				t.Errorf("%q: the warning %q", text, warning)
			}
		}
		names, all := map[string]bool{}, []configured{}
		for _, sc := range cfg.ScrapeConfigs {
			if sc.JobName == "" || names[sc.JobName] {
				t.Errorf("%q: there is a job %q twice, or none", text, sc.JobName)
			}
			names[sc.JobName] = true
			found, err := sc.targets(sc.StaticConfigs)
			if err != nil {
				t.Errorf("%q: job %q is taken: %v", text, sc.JobName, err)
			}
			all = append(all, found...)
			for _, files := range sc.FileSDConfigs {
				for _, file := range files.Files {
					if !filepath.IsAbs(file) {
						t.Errorf("%q: the file %q is relative", text, file)
					}
				}
			}
		}
		seen := map[string]bool{}
		for i, name := range assignNames(all) {
			one := all[i].target
			one.Name = name
			if err := one.Validate(); err != nil || seen[name] {
				t.Errorf("%q: target %+v is announced: %v", text, one, err)
			}
			seen[name] = true
		}
		for _, d := range cfg.TextfileConfigs {
			if !filepath.IsAbs(d.Path) || d.Job == "" {
				t.Errorf("%q: text files %+v", text, d)
			}
		}
		if len(cfg.ScrapeConfigs)+len(cfg.TextfileConfigs) > 0 && !strings.HasPrefix(text, "\xfe\xff") && !strings.HasPrefix(text, "\xff\xfe") {
			if _, err := parse([]byte(text+"\n---\nscrape_configs: []\n"), "/etc/agent"); err == nil {
				t.Errorf("%q with a second document is taken", text)
			}
		}
	})
}

// FuzzTargetFile looks for a target file that is taken and names what no agent can announce.
func FuzzTargetFile(f *testing.F) {
	for _, text := range []string{"- targets: [\"a:1\", \"[::1]:2\", b]\n  labels: {a: b, job: j}\n", `[{"targets": ["a:1"], "labels": {"__scheme__": "https"}}]`, "[]", "", "- null\n", "- targets: [\"http://a\"]\n"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		lists, err := parseTargets([]byte(text))
		if err != nil {
			if lists != nil {
				t.Errorf("%q: %v beside %v", text, lists, err)
			}
			return
		}
		sc := &ScrapeConfig{JobName: "j", Scheme: "http", MetricsPath: "/metrics"}
		found, err := sc.targets(lists)
		if err != nil {
			return
		}
		for _, c := range found {
			host, port, err := net.SplitHostPort(c.target.Address)
			if err != nil || host == "" || port == "" || strings.ContainsAny(c.target.Address, "/@?# ") || c.target.Instance == "" || c.target.ValidateUnnamed() != nil {
				t.Errorf("%q: target %+v: %v", text, c.target, err)
			}
		}
	})
}

// FuzzProxyURL looks for the URL of a proxy whose password is told, or that is taken for another host's.
func FuzzProxyURL(f *testing.F) {
	f.Add("http", "hunter2", "proxy:3128")
	f.Add("socks5", "hun#ter?2", "proxy:0")
	f.Add("ftp", "%zz/@:", "[::1")
	f.Fuzz(func(t *testing.T, scheme, password, host string) {
		secret := "S3CRET" + password + "S3CRET"
		u, err := ParseProxyURL(scheme+schemeEnd+"user:"+secret+"@"+host, targetProxySchemes...)
		if err != nil {
			if strings.Contains(err.Error(), "S3CRET") {
				t.Errorf("the error tells of the password: %v", err)
			}
			return
		}
		if strings.Contains(u.Host, "S3CRET") || strings.Contains(u.Redacted(), "S3CRET") && !strings.Contains(host, "S3CRET") || u.Hostname() == "" || u.Path != "" || u.RawQuery != "" {
			t.Errorf("%q is %s", scheme+schemeEnd+"user:"+secret+"@"+host, u)
		}
	})
}
