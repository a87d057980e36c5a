package main

import (
	"testing"

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
