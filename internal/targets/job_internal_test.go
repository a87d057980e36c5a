package targets

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/scrape"
)

// TestCredentialsAndPathsOfJobs: what the file says of a job is what its endpoints are asked with, and where.
func TestCredentialsAndPathsOfJobs(t *testing.T) {
	dir := t.TempDir()
	for text, want := range map[string]scrape.Endpoint{
		"":                                       {},
		"proxy_paths: [/a, /b]":                  {ProxyPaths: []string{"/a", "/b"}},
		"proxy_paths: []":                        {ProxyPaths: []string{}},
		"proxy_paths:":                           {},
		"proxy_url: http://u:p@x:1":              {},
		"tls_config: {ca_file: crt}":             {},
		"basic_auth: {username: u, password: p}": {Credentials: scrape.HeaderCredentials},
		"authorization: {credentials: t}":        {Credentials: scrape.HeaderCredentials},
		"bearer_token: t":                        {Credentials: scrape.HeaderCredentials},
		"bearer_token_file: t":                   {Credentials: scrape.HeaderCredentials},
		"oauth2: {client_id: c, client_secret: s, token_url: 'http://t'}":          {Credentials: scrape.HeaderCredentials},
		"http_headers: {X-Key: {secrets: [s]}}":                                    {Credentials: scrape.HeaderCredentials},
		"tls_config: {cert_file: crt, key_file: key}":                              {Credentials: scrape.ClientCertificate},
		"{tls_config: {cert_file: crt, key_file: key}, basic_auth: {username: u}}": {Credentials: scrape.ClientCertificate},
		"{tls_config: {cert_file: crt, key_file: key}, proxy_paths: [/a]}":         {Credentials: scrape.ClientCertificate, ProxyPaths: []string{"/a"}},
	} {
		file := filepath.Join(dir, "agent.yml")
		whole := "scrape_configs:\n  - &job\n    job_name: j\n    follow_redirects: false\n    static_configs: [{targets: [x]}]\n"
		switch {
		case len(text) > 0 && text[0] == '{':
			whole += "    <<: " + text + "\n"
		case text != "":
			whole += "    " + text + "\n"
		}
		if err := os.WriteFile(file, []byte(whole), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg, err := Load(file)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		job := cfg.ScrapeConfigs[0]
		got := scrape.Endpoint{ProxyPaths: job.ProxyPaths, Credentials: credentialsOf(&job.HTTPClient)}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}
