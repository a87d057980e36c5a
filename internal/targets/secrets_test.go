package targets_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"pushrelay/internal/target"
	"pushrelay/internal/targets"
)

// TestSecretsOfTheConfiguration: what is wrong with the configuration is told with its line, and without the value that stands there.
func TestSecretsOfTheConfiguration(t *testing.T) {
	for name, tt := range map[string]struct{ job, says string }{
		"no mapping":            {"basic_auth: hunter2", "line 3: cannot unmarshal !!str into"},
		"no mapping, long":      {"authorization: hunter2hunter2", "line 3: cannot unmarshal !!str into"},
		"no mapping, two lines": {"authorization: \"h`\\nhunter2\"", "line 3: cannot unmarshal !!str into"},
		"no mapping of TLS":     {"tls_config: hunter2", "line 3: cannot unmarshal !!str into"},
		"no list":               {"http_headers: {Token: {secrets: hunter2}}", "line 3: cannot unmarshal !!str into"},
		"no list of parameters": {"params: {token: hunter2}", "line 3: cannot unmarshal !!str into"},
		"no blank":              {"basic_auth: {username: u, password:hunter2}", `line 3: field "password…" (a blank belongs after its colon) not found`},
		"no blank, outside":     {"{bearer_token:hunter2}", "line 3: "},
		"asterisk":              {"basic_auth: {username: u, password: *hunter2}", "a value that begins with * stands for another one"},
		"tag":                   {"basic_auth: {username: u, password: !!int hunter2}", "line 3: basic_auth: cannot decode !!str as a !!int"},
		"proxy":                 {"proxy_url: 'http://u:hunter2@proxy:port'", "line 3: proxy_url: "},
		"user in an address":    {"static_configs: [{targets: ['u:hunter2@host:80']}]", `target "…@host:80": write host:port alone, user and password belong into basic_auth`},
		"URL as an address":     {"static_configs: [{targets: ['http://u:hunter2@host/metrics']}]", `target "…@host/metrics": write host:port alone`},
		"token in an address":   {"static_configs: [{targets: ['host/metrics?token=hunter2']}]", `target "host/metrics?…": it is not host:port`},
		"token in a path":       {"metrics_path: /x?token=hunter2", `metrics_path "/x?…" holds a query: write "/x" there, and in the job params: {"token": ["…"]}`},
		"token in a label":      {"static_configs: [{targets: [a:1], labels: {__metrics_path__: '/x?token=hunter2'}}]", `__metrics_path__ "/x?…" holds a query`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := targets.Load(write(t, "scrape_configs:\n- job_name: j\n  "+tt.job+"\n"))
			if err == nil || strings.Contains(err.Error(), "hunter") || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("Load() error = %v, want one line with %q and no secret", err, tt.says)
			}
		})
	}
	for _, text := range []string{
		"scrape_configs:\n- {job_name: x, bearer_token:hunter2}\n", "textfile_configs: [{directory: x, job:hunter2}]\n", "scrape_configs:hunter2: x\n", "global: {scrape_interval: [hunter2]}\n", "global: hunter2\n",
	} {
		if _, err := targets.Load(write(t, text)); err == nil || strings.Contains(err.Error(), "hunter") || !strings.Contains(err.Error(), "line ") {
			t.Errorf("Load(%q) error = %v", text, err)
		}
	}
}

// TestSecretsOfTargetFiles: a file that is no list of targets may be anybody's, whom a pattern matches by a link. Nothing of it is told, to nobody.
func TestSecretsOfTargetFiles(t *testing.T) {
	const want = "want a list of elements with targets"
	for name, tt := range map[string]struct{ text, says string }{
		"a token":            {"hunter2\n", "line 1: " + want},
		"a list":             {"- a\n- hunter2\n", "line 1: " + want},
		"passwords of users": {"root:$6$hunter2$hunter2:19000:0:99999:7:::\n", "line 1: " + want},
		"variables":          {"PASSWORD=hunter2\n", "line 1: " + want},
		"a mapping":          {"hunter2: x\n", "line 1: " + want},
		"JSON":               {`{"password": "hunter2"}`, "line 1: " + want},
		"a key":              {"-----BEGIN PRIVATE KEY-----\nhunter2\n", "line 1: " + want},
		"an unknown key":     {"- targets: [a:1]\n  hunter2: x\n", "line 2: " + want},
		"a key twice":        {"- hunter2: x\n  hunter2: y\n", "line 2: " + want},
		"no list of targets": {"- targets: hunter2\n", "line 1: " + want},
		"no mapping":         {"- targets: [a:1]\n  labels: hunter2\n", "line 2: " + want},
		"an alias":           {"*hunter2\n", "a value that begins with *"},
		"a tag":              {"- !!int hunter2\n", want},
		"a circle":           {"- &hunter2 {targets: *hunter2}\n", want},
		"not YAML":           {"a: b: hunter2\n", "mapping values are not allowed"},
		"an INI file":        {"[login]\npassword = hunter2\n", "line 2: what begins here"},
		"user in an address": {"- targets: ['u:hunter2@host:80']\n", `target "…@host:80"`},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, text := range map[string]string{"agent.yml": "scrape_configs: [{job_name: j, file_sd_configs: [{files: ['*.d']}]}]\n", "secret": tt.text} {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Symlink("secret", filepath.Join(dir, "x.d")); err != nil {
				t.Fatal(err)
			}
			cfg, err := targets.Load(filepath.Join(dir, "agent.yml"))
			if err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			d := targets.NewDiscovery(targets.DiscoveryConfig{Announce: func(target.Set) {}, Logger: slog.New(slog.NewTextHandler(&log, nil)), Registerer: prometheus.NewRegistry()})
			defer d.Close()
			if err := d.Apply(cfg); err != nil {
				t.Fatal(err)
			}
			found, err := targets.Check(filepath.Join(dir, "agent.yml"))
			if err != nil || len(found.BadFiles) != 1 || !strings.Contains(found.BadFiles[0], "x.d: ") || !strings.Contains(found.BadFiles[0], tt.says) {
				t.Fatalf("Check() = %+v, %v, want %q", found, err, tt.says)
			}
			for where, said := range map[string]string{"log": log.String(), "status": d.Missing(), "check": found.BadFiles[0]} {
				if said == "" || strings.Contains(said, "hunt") || strings.Contains(said, "PASSWOR") || strings.Contains(said, "$6") {
					t.Errorf("the %s says %q", where, said)
				}
			}
		})
	}
}
