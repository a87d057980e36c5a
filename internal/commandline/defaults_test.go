package commandline_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"pushrelay/internal/commandline"
)

func TestCount(t *testing.T) {
	for n, want := range map[int]string{0: "0 groups", 1: "1 group", 2: "2 groups"} {
		if got := commandline.Count(n, "group"); got != want {
			t.Errorf("Count(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestDefaultsAreWrittenShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 5 * time.Second: "5s", 10 * time.Second: "10s", 2 * time.Minute: "2m", 90 * time.Second: "1m30s",
		24 * time.Hour: "24h", 48 * time.Hour: "2d", 49 * time.Hour: "49h", 10 * time.Minute: "10m", 90 * time.Minute: "1h30m", time.Hour + time.Second: "1h0m1s",
	} {
		if got := commandline.Duration(d); got != want {
			t.Errorf("Duration(%d) = %q, want %q", d, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0B", 1500: "1500B", 16 << 10: "16KiB", 256 << 20: "256MiB", 1 << 30: "1GiB"} {
		if got := commandline.Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestText(t *testing.T) {
	app := kingpin.New("program", "")
	var one string
	var all []string
	commandline.Text(app.Flag("one", ""), &one)
	commandline.Texts(app.Flag("all", ""), &all)
	if _, err := app.Parse([]string{"--one=x", "--all=a", "--all", "b"}); err != nil || one != "x" || !slices.Equal(all, []string{"a", "b"}) {
		t.Errorf("Parse() = %v, %q, %q", err, one, all)
	}
	for _, args := range [][]string{{"--one="}, {"--one", ""}, {"--all=x", "--all="}} {
		if _, err := app.Parse(args); err == nil || !strings.Contains(err.Error(), "is empty: give it a value, or leave it away") {
			t.Errorf("Parse(%q) = %v", args, err)
		}
	}
}
