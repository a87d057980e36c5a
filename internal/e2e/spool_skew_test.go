//go:build linux

package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// skew is how far the clock of a program that [buildSkewed] made is ahead.
const skew = 2 * time.Hour

// buildSkewed builds both programs with a wall clock that is ahead. A static binary asks the kernel for the time without a
// library that could be put in between, and the kernel has one wall clock for all; so package time itself is built with another
// Now, and everything else as it is.
func buildSkewed(t *testing.T) (relayServer, relayAgent string) {
	t.Helper()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	original := filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go")
	const now = "sec, nsec, mono := runtimeNow()\n"
	source := readFile(t, original)
	if strings.Count(source, now) < 1 {
		t.Fatalf("%s does not read the clock by %q any more", original, now)
	}
	dir := t.TempDir()
	skewed, overlay := filepath.Join(dir, "time.go"), filepath.Join(dir, "overlay.json")
	writeFile(t, skewed, strings.ReplaceAll(source, now, now+fmt.Sprintf("\tsec += %d\n", int(skew.Seconds()))))
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {original: skewed}})
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, overlay, string(replace))
	build := exec.Command("go", "build", "-buildvcs=false", "-overlay="+overlay, "-o", dir+string(filepath.Separator), "./cmd/relay-server", "./cmd/relay-agent")
	build.Dir = filepath.Join("..", "..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the programs with another clock: %v\n%s", err, out)
	}
	return filepath.Join(dir, "relay-server"), filepath.Join(dir, "relay-agent")
}

// TestSpoolClockSkew: with two hours between the clocks of agent and relay, the time of a push is the relay's, also of one that
// waited while the agent was started again; and the relay shows the difference (T19).
func TestSpoolClockSkew(t *testing.T) {
	t.Parallel()
	relayServer, relayAgent := buildSkewed(t)
	for _, tt := range []struct {
		name, relayServer, relayAgent string
		relayAhead, agentAhead        time.Duration
	}{
		{"agent ahead", programs.relayServer, relayAgent, 0, skew},
		{"relay ahead", relayServer, programs.relayAgent, skew, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := startRelay(t)
			a, _ := startSpooling(t, r)
			a.stop(t)
			r.stop(t)
			r.command.path, a.command.path = tt.relayServer, tt.relayAgent
			r.start(t)
			a.start(t)
			pushed := map[string]time.Time{}
			pushed["attached"] = time.Now()
			a.applied(t, "attached", 1)
			eventually(t, patience, "the clock skew is measured", func() error {
				value, there, err := valueOf(r.url, `relay_agent_clock_skew_seconds{agent="site-a"}`)
				if want := (tt.agentAhead - tt.relayAhead).Seconds(); err == nil && (!there || value < want-10 || value > want+10) {
					err = fmt.Errorf("%w: it is %v (there: %v), want about %v", errVitals, value, there, want)
				}
				return err
			})
			r.kill(t)
			a.away(t, r)
			pushed["waited"] = time.Now()
			a.kept(t, "waited", 2)
			<-time.After(3 * time.Second)
			a.kill(t)
			r.start(t)
			a.startAlone(t)
			a.attached(t)
			a.wantDrained(t)
			for job, at := range pushed {
				got, there, err := valueOf(r.url, fmt.Sprintf(`push_time_seconds{agent="site-a", instance="", job=%q}`, job))
				if want := float64(at.Add(tt.relayAhead).UnixMilli()) / 1000; err != nil || !there || got < want-0.1 || got > want+2 {
					t.Errorf("push_time_seconds of %s is %v (there: %v), %v; by the relay's clock it was pushed at %v", job, got, there, err, want)
				}
			}
		})
	}
}
