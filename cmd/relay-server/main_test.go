package main

import (
	"testing"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/relay"
)

// What a relay does without flags is said once, by its options.
func TestFlagsHaveTheDefaultsOfTheOptions(t *testing.T) {
	app := kingpin.New("relay-server", "")
	opts := serveFlags(app.Command("serve", "").Default())
	if _, err := app.Parse(nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(relay.DefaultOptions(), opts()); diff != "" {
		t.Errorf("without flags (-DefaultOptions +flags):\n%s", diff)
	}
}

// TestLongTimesAreGivenInDays: also in hours, as the other durations.
func TestLongTimesAreGivenInDays(t *testing.T) {
	for text, want := range map[string]time.Duration{"3d": 72 * time.Hour, "72h": 72 * time.Hour, "0": 0, "0s": 0} {
		app := kingpin.New("relay-server", "")
		opts := serveFlags(app.Command("serve", "").Default())
		if _, err := app.Parse([]string{"--groups.forget-after=" + text}); err != nil {
			t.Fatal(err)
		}
		if got := opts().GroupsForgetAfter; got != want {
			t.Errorf("--groups.forget-after=%s is %v, want %v", text, got, want)
		}
	}
}
