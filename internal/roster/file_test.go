package roster_test

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"pushrelay/internal/datadir"
	"pushrelay/internal/roster"
)

// reopen opens a file and returns what was logged.
func reopen(t *testing.T, file string) (*roster.Registry, string, error) {
	t.Helper()
	var logged bytes.Buffer
	r, err := roster.Open(roster.Config{
		File: file, ForgetAfter: time.Hour, MaxConcurrentScrapes: 2, Release: "0.5",
		Logger: slog.New(slog.NewTextHandler(&logged, nil)), Registerer: prometheus.NewRegistry(),
	})
	return r, logged.String(), err
}

// knownFile returns the content of a file of two agents.
func knownFile(t *testing.T) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), "agents.json")
	synctest.Test(t, func(t *testing.T) {
		r, _, err := reopen(t, file)
		if err != nil {
			t.Fatal(err)
		}
		run(t, r, func() {
			for _, name := range []string{"site-a", "site-b"} {
				if err := register(r, name, &session{}, 1).SetTargets(set("a", "b")); err != nil {
					t.Fatal(err)
				}
			}
		})
	})
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestEveryDamageIsSeen: whatever bit of the file flips and wherever it ends, nothing is believed that was not written.
func TestEveryDamageIsSeen(t *testing.T) {
	good := knownFile(t)
	file := filepath.Join(t.TempDir(), "agents.json")
	names := func(content []byte) (known []string, err error) {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		r, _, err := reopen(t, file)
		if err != nil {
			return nil, err
		}
		for _, a := range r.Agents() {
			known = append(known, a.Name)
		}
		return known, nil
	}
	want, err := names(good)
	if err != nil || len(want) != 2 {
		t.Fatalf("the file as it was written: %v, %v", want, err)
	}
	check := func(what string, place int, content []byte) {
		t.Helper()
		known, err := names(content)
		var newer *datadir.NewerError
		switch {
		case errors.As(err, &newer) && place == len(`{"version":`): // The version itself: rather refused than written over.
		case err != nil:
			t.Errorf("%s at %d: %v", what, place, err)
		case len(known) > 0 && !cmp.Equal(known, want):
			t.Errorf("%s at %d: %q is known, want %q or nobody", what, place, known, want)
		}
	}
	for place := 0; place < len(good); place += 3 {
		flipped := bytes.Clone(good)
		flipped[place] ^= 1 << (place % 8)
		check("bit", place, flipped)
	}
	for place := 0; place < len(good); place += 31 {
		check("cut", place, good[:place])
	}
	check("cut", len(good)-1, good[:len(good)-1])
	check("appended", len(good), append(bytes.Clone(good), 0))
}

// TestDamagedFileIsSetAside: the relay starts, knows the agents again as they come, and takes no short list of targets for
// the truth meanwhile.
func TestDamagedFileIsSetAside(t *testing.T) {
	good := string(knownFile(t))
	for name, content := range map[string]string{
		"empty": "", "cut": good[:len(good)/2], "zeros": strings.Repeat("\x00", len(good)), "no file of agents": "{}", "null": "null",
		"other content under the checksum": strings.Replace(good, "site-a", "site-c", 1),
		"a name that is none":              `{"version":1,"agents":[{"agent":"../x"}]}`,
		"one agent twice":                  `{"version":1,"agents":[{"agent":"x"},{"agent":"x"}]}`,
	} {
		file := filepath.Join(t.TempDir(), "agents.json")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		synctest.Test(t, func(t *testing.T) {
			for range 2 { // The second start comes before anything is known again.
				r, logged, err := reopen(t, file)
				if err != nil || !strings.Contains(logged, "level=WARN") || !strings.Contains(logged, file+".damaged") {
					t.Fatalf("%s: %v, logged %q, want a warning that names the file", name, err, logged)
				}
				if aside, _ := os.ReadFile(file + ".damaged"); string(aside) != content {
					t.Errorf("%s: %q was set aside", name, aside)
				}
				run(t, r, func() { time.Sleep(30 * time.Second) })
				if r.Settled() {
					t.Errorf("%s: nobody known is called the truth", name)
				}
			}
			r, _, err := reopen(t, file)
			if err != nil {
				t.Fatal(err)
			}
			run(t, r, func() {
				if err := register(r, "site-b", &session{}, 1).SetTargets(set("a")); err != nil {
					t.Fatal(err)
				}
				if r.Settled() {
					t.Errorf("%s: the first agent that came is called all of them", name)
				}
				time.Sleep(2 * time.Minute)
				if !r.Settled() {
					t.Errorf("%s: never settled", name)
				}
			})
			r, logged, err := reopen(t, file)
			if err != nil || logged != "" || !r.Known("site-b") {
				t.Errorf("%s: the file that took its place: %v, logged %q, knows %+v", name, err, logged, r.Agents())
			}
		})
	}
}

// TestLostFileWithoutAgents: nobody came in a minute, and perhaps nobody can.
func TestLostFileWithoutAgents(t *testing.T) {
	file := filepath.Join(t.TempDir(), "agents.json")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		r, _, err := reopen(t, file)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if r.Settled() {
			t.Error("an empty list is called the truth, although there was a file")
		}
	})
}

// TestFormats: files of early releases have no checksum, and those of later ones are refused by name and left alone.
func TestFormats(t *testing.T) {
	file := filepath.Join(t.TempDir(), "agents.json")
	early := `{"version":1,"agents":[{"agent":"site","last_seen":"2026-01-02T03:04:05Z","targets":[]}]}`
	if err := os.WriteFile(file, []byte(early), 0o600); err != nil {
		t.Fatal(err)
	}
	if r, logged, err := reopen(t, file); err != nil || logged != "" || !r.Known("site") {
		t.Errorf("a file of an early release: %v, logged %q", err, logged)
	}
	for _, later := range []string{
		`{"version":2,"release":"0.7","agents":[]}`, `{"version":7,"release":"0.7","agents":{"site":{}},"sum":"x"}`,
	} {
		if err := os.WriteFile(file, []byte(later), 0o600); err != nil {
			t.Fatal(err)
		}
		_, _, err := reopen(t, file)
		var newer *datadir.NewerError
		if !errors.As(err, &newer) || newer.Release != "0.7" || newer.What != file || !strings.Contains(err.Error(), "written by a newer release, 0.7") {
			t.Errorf("opening %s: %v, want an error that names the release", later, err)
		}
		if left, _ := os.ReadFile(file); string(left) != later {
			t.Errorf("the file of a later release was changed to %q", left)
		}
		if _, err := os.Stat(file + ".damaged"); err == nil {
			t.Error("the file of a later release was called damaged")
		}
	}
}

// TestUnsavedFileIsCounted: that the file cannot be written shows in a metric.
func TestUnsavedFileIsCounted(t *testing.T) {
	file := filepath.Join(t.TempDir(), "no such directory", "agents.json")
	var reg *prometheus.Registry
	synctest.Test(t, func(t *testing.T) {
		var r *roster.Registry
		r, reg = open(t, file)
		run(t, r, func() {
			register(r, "site", &session{}, 1)
			synctest.Wait()
		})
	})
	want := `
# HELP relay_agents_file_failures_total Writes of the file of known agents that failed. What is lost at a restart is agents that were not known before.
# TYPE relay_agents_file_failures_total counter
relay_agents_file_failures_total 2
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "relay_agents_file_failures_total"); err != nil {
		t.Error(err)
	}
}
