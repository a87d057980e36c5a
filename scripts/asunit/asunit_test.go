//go:build linux

package asunit_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"pushrelay/scripts/asunit"
)

// TestStart: the program has the slack that its units give it, and whoever started it has not.
func TestStart(t *testing.T) {
	want := fmt.Sprint(asunit.TimerSlack.Nanoseconds())
	before, err := exec.CommandContext(t.Context(), "cat", "/proc/self/timerslack_ns").Output()
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	cmd := exec.CommandContext(t.Context(), "cat", "/proc/self/timerslack_ns")
	cmd.Stdout = &got
	if err := asunit.Start(cmd); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if strings.TrimSpace(got.String()) != want {
		t.Errorf("the program's timers may be %s ns late, want %s", strings.TrimSpace(got.String()), want)
	}
	after, err := exec.CommandContext(t.Context(), "cat", "/proc/self/timerslack_ns").Output()
	if err != nil || string(after) != string(before) {
		t.Errorf("other programs' timers may be %q ns late afterwards (%v), want %q as before", after, err, before)
	}

	units, err := filepath.Glob(filepath.Join("..", "..", "deploy", "*.service"))
	if err != nil || len(units) == 0 {
		t.Fatalf("there are no units: %v", err)
	}
	slack := regexp.MustCompile(`(?m)^TimerSlackNSec=(\d+)us$`)
	for _, unit := range units {
		text, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		if m := slack.FindSubmatch(text); m == nil || string(m[1])+"000" != want {
			t.Errorf("%s says %q, want %s ns", unit, m, want)
		}
	}
}
