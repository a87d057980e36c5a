package agent_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/exporter-toolkit/web"

	"pushrelay/internal/agent"
	"pushrelay/internal/authority"
	"pushrelay/internal/mtls"
	"pushrelay/internal/targets"
)

// write makes a configuration file.
func write(t *testing.T, text string) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "agent.yml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// newAgent makes an agent that listens and serves nothing, with its log.
func newAgent(t *testing.T, config string) (*agent.Agent, *bytes.Buffer, error) {
	t.Helper()
	dir := t.TempDir()
	ca, err := authority.Create(filepath.Join(dir, "ca"), authority.Config{})
	if err != nil {
		t.Fatal(err)
	}
	issued, err := ca.IssueAgent("site")
	if err != nil {
		t.Fatal(err)
	}
	if err := authority.WriteIssued(dir, "agent", issued); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer // written by this goroutine only, until the agent runs
	systemd, none := false, ""
	a, err := agent.New(agent.Options{
		RelayAddresses: []string{"127.0.0.1:1"}, ConfigFile: config, PushWait: 1, DataDirAsked: true,
		TLS: mtls.Files{CAFile: filepath.Join(dir, "ca.crt"), CertFile: filepath.Join(dir, "agent.crt"), KeyFile: filepath.Join(dir, "agent.key")},
		Web: &web.FlagConfig{WebListenAddresses: &[]string{"127.0.0.1:0"}, WebSystemdSocket: &systemd, WebConfigFile: &none},
		Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, attr slog.Attr) slog.Attr {
			if attr.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return attr
		}})),
	})
	if err == nil {
		t.Cleanup(func() {
			ended, end := context.WithCancel(context.Background())
			end()
			if err := a.Run(ended); err != nil { // closes what New opened
				t.Error(err)
			}
		})
	}
	return a, &log, err
}

// The start, a reload and check-config say the same of one file.
func TestStartReloadAndCheckAgree(t *testing.T) {
	good := "scrape_configs: []\n"
	for name, text := range map[string]string{
		"second document":    good + "---\n" + good,
		"pasted with indent": "  scrape_configs: []\ntextfile_configs: []\n",
		"agent's label":      "scrape_configs: [{job_name: j, static_configs: [{targets: [\"x:1\"], labels: {agent: y}}]}]\n",
		"target twice":       "scrape_configs: [{job_name: j, static_configs: [{targets: [\"x:1\", \"x:1\"]}]}]\n",
		"rule of a relay":    good + "push_rules:\n- match: '{job=\"j\"}'\n  ttl: 1d\n",
		"rule of nothing":    good + "push_rules: {match: x}\n",
		"rules twice":        "push_rules: []\npush_rules: []\n",
		"CA of a target":     "scrape_configs: [{job_name: j, scheme: https, tls_config: {ca_file: none}}]\n",
	} {
		t.Run(name, func(t *testing.T) {
			file := write(t, text)
			_, checked := targets.Check(file)
			if checked == nil {
				t.Fatal("Check() calls it good")
			}
			if _, _, err := newAgent(t, file); err == nil || err.Error() != checked.Error() {
				t.Errorf("start: %v\ncheck: %v\nwant the same", err, checked)
			}
			if err := os.WriteFile(file, []byte(good), 0o600); err != nil {
				t.Fatal(err)
			}
			a, _, err := newAgent(t, file)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := a.Reload(); err == nil || err.Error() != checked.Error() {
				t.Errorf("reload: %v\ncheck:  %v\nwant the same", err, checked)
			}
		})
	}
}

func TestStartAndReloadWarnAsCheckDoes(t *testing.T) {
	file := write(t, `
scrape_configs:
  - job_name: j
    static_configs: [{targets: ["static:1"]}]
    file_sd_configs: [{files: ["targets/*.yml"]}]
`+"    basic_auth: {username: u, password_file: none}\ntextfile_configs: [{directory: none, job: j}]\n")
	checked, err := targets.Check(file)
	if err != nil || len(checked.Warnings) != 3 {
		t.Fatalf("Check() = %+v, %v, want three warnings", checked, err)
	}
	a, log, err := newAgent(t, file)
	if err != nil {
		t.Fatal(err)
	}
	logged := func() []string {
		var warnings []string
		for line := range strings.Lines(log.String()) {
			if _, warning, ok := strings.Cut(line, `msg=configuration file=`+file+` warning=`); ok {
				warnings = append(warnings, strings.ReplaceAll(strings.Trim(strings.TrimSpace(warning), `"`), `\"`, `"`))
			}
		}
		log.Reset()
		slices.Sort(warnings)
		return warnings
	}
	slices.Sort(checked.Warnings)
	if diff := cmp.Diff(checked.Warnings, logged()); diff != "" {
		t.Errorf("start (-check +start):\n%s", diff)
	}
	if err := a.Reload(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(checked.Warnings, logged()); diff != "" {
		t.Errorf("reload (-check +reload):\n%s", diff)
	}
}
