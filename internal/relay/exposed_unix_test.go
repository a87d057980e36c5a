//go:build unix

package relay_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pushrelay/internal/relaytest"
)

// TestWhatOthersMayWriteIsToldAtTheStart: the data dir, and what lies in it.
func TestWhatOthersMayWriteIsToldAtTheStart(t *testing.T) {
	for open, want := range map[string]string{
		"":      `"everybody may write to \"DATA\", and so decides what is in --data.dir: `,
		"store": `"everybody may write to \"DATA/store\", and so decides what is in store in --data.dir: `,
	} {
		data := filepath.Join(t.TempDir(), "data")
		if err := os.MkdirAll(filepath.Join(data, "store"), 0o700); err != nil {
			t.Fatal(err)
		}
		if told := runOnce(t, data); strings.Contains(told, "may write to") {
			t.Errorf("the log of a good one:\n%s", told)
		}
		if err := os.Chmod(filepath.Join(data, open), 0o777); err != nil {
			t.Fatal(err)
		}
		if told := runOnce(t, data); strings.Count(told, "others may change what the relay relies on") != 1 || !strings.Contains(told, strings.ReplaceAll(want, "DATA", data)) {
			t.Errorf("the log:\n%s\nwant %s", told, want)
		}
	}
}

// TestWhoMayWriteTheRulesIsTold: at the start, and whenever they are read again.
func TestWhoMayWriteTheRulesIsTold(t *testing.T) {
	var log bytes.Buffer // written by one goroutine at a time, and read after the end
	opts := relaytest.Options(t)
	opts.ConfigFile, opts.Logger = filepath.Join(t.TempDir(), "relay.yml"), slog.New(slog.NewTextHandler(&log, nil))
	write(t, opts.ConfigFile, oneRule)
	if err := os.Chmod(opts.ConfigFile, 0o666); err != nil {
		t.Fatal(err)
	}
	r := relaytest.Start(t, opts)
	if err := r.Reload(); err != nil {
		t.Fatal(err)
	}
	r.Stop()
	if told := strings.Count(log.String(), "and so decides what is in --config.file"); told != 2 {
		t.Errorf("it is told %d times, want twice:\n%s", told, log.String())
	}
}
