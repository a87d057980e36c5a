//go:build unix

package agent_test

import (
	"os"
	"strings"
	"testing"
)

// TestWhatOthersMayWriteIsToldAtTheStart: once for the configuration, which is told of as whenever it is read.
func TestWhatOthersMayWriteIsToldAtTheStart(t *testing.T) {
	config := write(t, "scrape_configs: []\n")
	if err := os.Chmod(config, 0o666); err != nil {
		t.Fatal(err)
	}
	_, log, err := newAgent(t, config)
	if err != nil {
		t.Fatal(err)
	}
	if told := log.String(); strings.Count(told, "everybody may write to") != 1 || !strings.Contains(told, "what is in the configuration file") {
		t.Errorf("the log:\n%s", told)
	}
}
