package targets_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/targets"
	"pushrelay/internal/textfile"
)

func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "agent.yml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

const pasted = `
global:
  scrape_interval: 15s
scrape_configs:
  - job_name: node
    honor_labels: true
    scrape_interval: 30s
    scrape_timeout: 5s
    scheme: https
    metrics_path: /probe
    params: {module: [http_2xx, other]}
    basic_auth: {username: u, password_file: secret}
    tls_config: {ca_file: ca.crt, insecure_skip_verify: true}
    follow_redirects: false
    static_configs:
      - targets: ["localhost:9100", "localhost"]
        labels: {env: production}
    file_sd_configs:
      - files: ["targets/*.yml", "/etc/targets.json"]
        refresh_interval: 1m
  - job_name: plain
    static_configs: [{targets: ["[::1]:9100"]}]
`

func TestLoadConfig(t *testing.T) {
	file := write(t, pasted)
	cfg, err := targets.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(file)
	node, plain := cfg.ScrapeConfigs[0], cfg.ScrapeConfigs[1]
	if node.Scheme != "https" || node.MetricsPath != "/probe" || len(node.Params["module"]) != 2 || node.ScrapeInterval.String() != "30s" {
		t.Errorf("node = %+v", node)
	}
	if node.HTTPClient.FollowRedirects || node.HTTPClient.BasicAuth.PasswordFile != filepath.Join(dir, "secret") || node.HTTPClient.TLSConfig.CAFile != filepath.Join(dir, "ca.crt") {
		t.Errorf("HTTP client of node = %+v", node.HTTPClient)
	}
	if got := node.FileSDConfigs[0].Files; got[0] != filepath.Join(dir, "targets/*.yml") || got[1] != "/etc/targets.json" {
		t.Errorf("files = %q", got)
	}
	if plain.Scheme != "http" || plain.MetricsPath != "/metrics" || !plain.HTTPClient.FollowRedirects {
		t.Errorf("defaults = %+v", plain)
	}
	if len(cfg.Warnings) != 2 || !strings.Contains(cfg.Warnings[0], "line 2: global") || !strings.Contains(cfg.Warnings[1], "line 6: honor_labels") {
		t.Errorf("warnings = %q", cfg.Warnings)
	}
}

// Prometheus is told a pair that fits, or nothing.
func TestScrapeTimesArePairs(t *testing.T) {
	job := func(lines string) string { return "scrape_configs:\n  - job_name: j\n" + lines }
	for name, tt := range map[string]struct {
		text, interval, timeout string
		warns                   bool
	}{
		"nothing":                    {job(""), "0s", "0s", false},
		"nothing but global":         {"global: {scrape_interval: 5s, scrape_timeout: 2s}\n" + job(""), "0s", "0s", false},
		"short interval":             {job("    scrape_interval: 5s\n"), "5s", "5s", false},
		"long interval":              {job("    scrape_interval: 1m\n"), "1m", "10s", false},
		"interval and global":        {"global: {scrape_timeout: 20s}\n" + job("    scrape_interval: 1m\n"), "1m", "20s", false},
		"short interval and global":  {"global: {scrape_timeout: 20s}\n" + job("    scrape_interval: 15s\n"), "15s", "15s", false},
		"both":                       {job("    scrape_interval: 30s\n    scrape_timeout: 20s\n"), "30s", "20s", false},
		"timeout alone":              {job("    scrape_timeout: 5s\n"), "0s", "0s", true},
		"timeout and global":         {"global: {scrape_interval: 30s}\n" + job("    scrape_timeout: 20s\n"), "30s", "20s", false},
		"timeout and global without": {"global: {scrape_timeout: 20s}\n" + job("    scrape_timeout: 5s\n"), "0s", "0s", true},
	} {
		cfg, err := targets.Load(write(t, tt.text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		sc := cfg.ScrapeConfigs[0]
		if sc.ScrapeInterval.String() != tt.interval || sc.ScrapeTimeout.String() != tt.timeout {
			t.Errorf("%s: interval %s, timeout %s, want %s and %s", name, sc.ScrapeInterval, sc.ScrapeTimeout, tt.interval, tt.timeout)
		}
		if warned := strings.Contains(strings.Join(cfg.Warnings, "\n"), `job "j": scrape_timeout has no effect`); warned != tt.warns {
			t.Errorf("%s: warnings = %q", name, cfg.Warnings)
		}
	}
}

func TestTextfileConfigs(t *testing.T) {
	file := write(t, `
textfile_configs:
  - directory: textfiles
    job: node
    labels: {zone: z}
  - {directory: /var/lib/metrics, job: batch, every: 1d, grace: 30m, ttl: 0}
`)
	cfg, err := targets.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	want := []textfile.Directory{
		{Path: filepath.Join(filepath.Dir(file), "textfiles"), Job: "node", Labels: map[string]string{"zone": "z"}},
		{Path: "/var/lib/metrics", Job: "batch", Every: "1d", Grace: "30m", TTL: "0"},
	}
	if diff := cmp.Diff(want, cfg.TextfileConfigs); diff != "" {
		t.Errorf("textfile_configs (-want +got):\n%s", diff)
	}
}

func TestEmptyConfigs(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "scrape_configs:\n", "scrape_configs: []\n", "textfile_configs:\n"} {
		if cfg, err := targets.Load(write(t, text)); err != nil || len(cfg.ScrapeConfigs) != 0 {
			t.Errorf("%q: %+v, %v", text, cfg, err)
		}
	}
	if _, err := targets.Load(""); err != nil {
		t.Errorf("no file: %v", err)
	}
}

func TestBadConfigs(t *testing.T) {
	textfiles := func(lines string) string { return "textfile_configs:\n  - {directory: a, job: j}\n" + lines }
	job := func(lines string) string { return "scrape_configs:\n  - job_name: j\n" + lines }
	for name, tt := range map[string]struct{ text, says string }{
		"no YAML":             {"scrape_configs: [", "line 1"},
		"a list":              {"- a\n", "line 1: want a mapping"},
		"unknown section":     {"scrape_config: []\n", `line 1: unknown key "scrape_config"`},
		"unknown key":         {job("    metric_path: /x\n"), `line 3: unknown key "metric_path"`},
		"unknown nested key":  {job("    basic_auth: {user: x}\n"), `line 3: field "user" not found`},
		"wrong type":          {job("    static_configs: 7\n"), "line 3"},
		"relabelling":         {job("    relabel_configs: []\n"), "line 3: relabel_configs is not supported by the agent: write the labels that it makes (job, instance, __param_…) beside targets"},
		"another discovery":   {job("    kubernetes_sd_configs: []\n"), "line 3: kubernetes_sd_configs is not supported"},
		"no job name":         {"scrape_configs:\n  - scheme: http\n", "line 2"},
		"job name twice":      {job("") + "  - job_name: j\n", `line 3: job_name "j" comes twice`},
		"scheme":              {job("    scheme: ftp\n"), `scheme is "ftp"`},
		"proxy: path":         {job("    proxy_paths: [/probe, admin]\n"), `line 2: job "j": proxy_paths: "admin" does not begin with a slash`},
		"proxy: query":        {job("    proxy_paths: [\"/probe?module=x\"]\n"), `proxy_paths: "/probe?module=x" is more than a path`},
		"proxy: pattern":      {job("    proxy_paths: [\"/metrics/*\"]\n"), `proxy_paths: "/metrics/*" looks like a pattern`},
		"proxy: no list":      {job("    proxy_paths: {a: b}\n"), "line 3"},
		"path":                {job("    metrics_path: x\n"), `"x" does not begin with a slash`},
		"address with scheme": {job("    static_configs: [{targets: [\"http://x:1\"]}]\n"), `target "http://x:1"`},
		"address with path":   {job("    static_configs: [{targets: [\"x:1/metrics\"]}]\n"), `target "x:1/metrics"`},
		"reserved label":      {job("    static_configs: [{targets: [\"x:1\"], labels: {__address__: y}}]\n"), `label "__address__" is reserved`},
		"the agent's label":   {job("    static_configs: [{targets: [\"x:1\"], labels: {agent: y}}]\n"), `line 2: job "j": target "x:1": label "agent" is reserved`},
		"target twice":        {job("    static_configs: [{targets: [\"x:1\", \"y:1\", \"x:1\"]}]\n"), `line 2: job "j": static_configs: target "x:1" comes twice`},
		"target twice, port":  {job("    static_configs: [{targets: [\"x\"]}, {targets: [\"x:80\"]}]\n"), `target "x:80" comes twice`},
		"target in two jobs":  {job("    static_configs: [{targets: [\"x:1\"], labels: {job: k}}]\n") + "  - job_name: k\n    static_configs: [{targets: [\"x:1\"]}]\n", `line 4: job "k": static_configs: target "x:1" comes twice`},
		"second document":     {job("---\ntextfile_configs: []\n"), "line 3: a second document begins here"},
		"pasted with indent":  {"    scrape_configs:\n      - job_name: j\n\ntextfile_configs:\n  - {directory: a, job: j}\n", "line 4: what begins here belongs to nothing before it"},
		"proxy: fragment":     {job("    proxy_url: http://u:s3c#ret@proxy:3128\n"), "line 3: proxy_url: percent-encode"},
		"proxy: port":         {job("    proxy_url: proxy:312800\n"), "line 3: proxy_url: its port cannot be"},
		"proxy: of oauth2":    {job("    oauth2:\n      proxy_url: \"http://u:s3c/ret@proxy:3128\"\n"), "line 4: proxy_url: percent-encode"},
		"bad label":           {job("    static_configs: [{targets: [\"x:1\"], labels: {a-b: y}}]\n"), `label name "a-b" is not valid`},
		"port":                {job("    static_configs: [{targets: [\"x:70000\"]}]\n"), "want 1 to 65535"},
		"no address":          {job("    static_configs: [{targets: [\"\"]}]\n"), "it is empty, want host:port"},
		"no duration":         {job("    scrape_interval: 10\n"), "line 3: scrape_interval: not a valid duration"},
		"nested duration":     {job("    file_sd_configs:\n    - files: [x.yml]\n      refresh_interval: soon\n"), "line 3: file_sd_configs: not a valid duration"},
		"TLS version":         {job("    tls_config: {min_version: old}\n"), "line 3: tls_config: unknown TLS version"},
		"timeout":             {job("    scrape_interval: 1s\n    scrape_timeout: 2s\n"), "line 2: job \"j\": scrape_timeout 2s is longer than scrape_interval 1s"},
		"timeout and global":  {"global: {scrape_interval: 1s}\n" + job("    scrape_timeout: 2s\n"), "line 3: job \"j\": scrape_timeout 2s is longer than global's scrape_interval 1s"},
		"short interval":      {job("    scrape_interval: 999ms\n"), "line 2: job \"j\": scrape_interval is 999ms, want 1s to 1d"},
		"long interval":       {job("    scrape_interval: 25h\n"), "line 2: job \"j\": scrape_interval is 1d1h, want 1s to 1d"},
		"short timeout":       {job("    scrape_interval: 1s\n    scrape_timeout: 9ms\n"), "line 2: job \"j\": scrape_timeout is 9ms, want 10ms or more"},
		"short timeout alone": {job("    scrape_timeout: 9ms\n"), "line 2: job \"j\": scrape_timeout is 9ms"},
		"interval of global":  {"global: {scrape_interval: 1ms}\n" + job("    scrape_timeout: 1ms\n"), "line 3: job \"j\": scrape_interval is 1ms"},
		"timeout of global":   {"global: {scrape_timeout: 1ms}\n" + job("    scrape_interval: 1s\n"), "line 3: job \"j\": scrape_timeout is 1ms"},
		"large target":        {job(lists(1, 17, 1000)), "line 2: job \"j\": target \"h0:1\": a target has "},
		"many labels":         {job(lists(1, 65, 1)), "target \"h0:1\": a target has 65 labels"},
		"large set":           {job("") + "  - job_name: k\n" + lists(600, 15, 500), "line 3: job \"k\": static_configs: up to target \"h"},
		"many targets":        {job("") + "  - job_name: k\n" + lists(20001, 0, 0), "line 3: job \"k\": static_configs: up to target \"h20000:1\" there are more than 20000 targets"},
		"global interval":     {"global: {scrape_interval: soon}\n" + job(""), "line 1: global: not a valid duration"},
		"global list":         {"global: []\n" + job(""), "line 1: cannot unmarshal"},
		"path with a query":   {job("    metrics_path: /x?format=prometheus&a=1&a=2\n"), `metrics_path "/x?…" holds a query: write "/x" there, and in the job params: {"a": ["…", "…"], "format": ["…"]}`},
		"path with a mark":    {job("    metrics_path: /x?\n"), `metrics_path "/x?…" holds a query: name its parameters in params`},
		"label with a query":  {job("    static_configs: [{targets: [\"x:1\"], labels: {__metrics_path__: \"/x?a=1\"}}]\n"), `__metrics_path__ "/x?…" holds a query`},
		"two credentials":     {job("    basic_auth: {username: u}\n    authorization: {credentials: c}\n"), "at most one of"},
		"no files":            {job("    file_sd_configs: [{files: []}]\n"), "names no files"},
		"bad pattern":         {job("    file_sd_configs: [{files: [\"a/[\"]}]\n"), "no valid pattern"},
		"empty element":       {"scrape_configs:\n  -\n", "line 2"},
		"text files: no list": {"textfile_configs: {directory: a}\n", "line 1"},
		"text files: empty":   {textfiles("  -\n"), "line 3: an element of textfile_configs is a mapping with directory and job"},
		"text files: key":     {textfiles("  - {directory: b, job: j,\n     label: {}}\n"), `line 4: unknown key "label" in textfile_configs`},
		"text files: nothing": {textfiles("  - {job: j}\n"), "line 3: textfile_configs: directory is missing"},
		"text files: life":    {textfiles("  - directory: b\n    job: k\n    ttl: soon\n"), `line 3: textfile_configs: ttl is "soon", want a duration such as 30m`},
		"text files: list":    {textfiles("  - directory: b\n    job: k\n    every: [1d]\n"), "line 5"},
		"text files: no cron": {textfiles("  - {directory: b, job: k, schedule: x}\n"), `line 3: unknown key "schedule" in textfile_configs, want directory, job, labels, every, grace and ttl`},
		"text files: twice":   {textfiles("  - {directory: ./a, job: k}\n"), "line 3: textfile_configs: directory"},
		"text files: agent":   {textfiles("  - {directory: b, job: k, labels: {agent: a}}\n"), "line 3: textfile_configs: labels: agent is reserved"},
		"text files: groups":  {textfiles("\n  - {directory: b, job: j}\n"), "line 4: textfile_configs: job and labels are those of directory"},
	} {
		t.Run(name, func(t *testing.T) {
			file := write(t, tt.text)
			_, err := targets.Load(file)
			if err == nil {
				t.Fatal("it was taken")
			}
			if !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), file) || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "s3c") {
				t.Errorf("error = %q, want one line with the file and %q", err, tt.says)
			}
		})
	}
	if _, err := targets.Load("/does/not/exist.yml"); err == nil || !strings.Contains(err.Error(), "/does/not/exist.yml") {
		t.Errorf("a missing file: %v", err)
	}
}

// lists is a static_configs with so many targets, each with labels of so many bytes.
func lists(targets, labels, bytes int) string {
	var b strings.Builder
	b.WriteString("    static_configs:\n    - targets: [")
	for i := range targets {
		fmt.Fprintf(&b, "\"h%d:1\",", i)
	}
	b.WriteString("]\n      labels: {")
	for i := range labels {
		fmt.Fprintf(&b, "l%d: %s,", i, strings.Repeat("x", bytes))
	}
	b.WriteString("}\n")
	return b.String()
}
