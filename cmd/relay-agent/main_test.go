package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kingpin/v2"
	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/agent"
)

// What an agent does without flags is said once, by its options.
func TestFlagsHaveTheDefaultsOfTheOptions(t *testing.T) {
	for name, state := range map[string]string{"by hand": "", "as a unit": "/var/lib/relay-agent"} {
		t.Setenv("STATE_DIRECTORY", state)
		app := kingpin.New("relay-agent", "")
		opts := flags(app.Command("run", "").Default())
		if _, err := app.Parse(nil); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(agent.DefaultOptions(), opts()); diff != "" {
			t.Errorf("without flags, %s (-DefaultOptions +flags):\n%s", name, diff)
		}
	}
}

func TestGivenFlagsWin(t *testing.T) {
	app := kingpin.New("relay-agent", "")
	opts := flags(app.Command("run", "").Default())
	if _, err := app.Parse([]string{"--data.dir=", "--web.listen-address=127.0.0.1:1", "--spool.max-bytes=2MiB", "--push.max-series=5"}); err != nil {
		t.Fatal(err)
	}
	got := opts()
	if got.DataDir != "" || !got.DataDirAsked || got.SpoolMaxBytes != 2<<20 || got.PushLimits.MaxSeries != 5 {
		t.Errorf("options = %+v", got)
	}
	if diff := cmp.Diff([]string{"127.0.0.1:1"}, *got.Web.WebListenAddresses); diff != "" || got.WebOptional != nil {
		t.Errorf("addresses (-want +got):\n%s\noptional: %q", diff, got.WebOptional)
	}
}

// TestCheckWebConfig: the other file that an agent has.
func TestCheckWebConfig(t *testing.T) {
	for text, want := range map[string]struct {
		code int
		text string
	}{
		"basic_auth_users: {ops: $2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG}\n": {0, ": for --web.config.file: no TLS, users with a password: 1\n"},
		"basic_auth_users: {ops: hunter2}\n":                                                      {1, "relay-agent check-config: web configuration "},
		"scrape_configs: []\n":                                                                    {0, " is good\n"},
	} {
		file := filepath.Join(t.TempDir(), "file.yml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if code := run([]string{"check-config", file}, &out, &out); code != want.code || !strings.Contains(out.String(), want.text) || strings.Contains(out.String(), "hunter2") {
			t.Errorf("%s: %d %s", text, code, out.String())
		}
	}
}
