package main

import (
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
