//go:build linux

package asunit_test

import (
	"errors"
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
	before := slackOf(t, (*exec.Cmd).Start)
	if got := slackOf(t, asunit.Start); got != want {
		t.Errorf("the program's timers may be %s ns late, want %s", got, want)
	}
	if after := slackOf(t, (*exec.Cmd).Start); after != before {
		t.Errorf("other programs' timers may be %s ns late afterwards, want %s as before", after, before)
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

// slackOf returns the nanoseconds that the timers of a program may be late that was started so.
func slackOf(t *testing.T, start func(*exec.Cmd) error) string {
	t.Helper()
	var out strings.Builder
	cmd := exec.CommandContext(t.Context(), "cat", "/proc/self/timerslack_ns")
	cmd.Stdout = &out
	if err := errors.Join(start(cmd), cmd.Wait()); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out.String())
}
