//go:build linux

package e2e_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestRepairTellsTheTruth damages stores in ways in which a relay started with less than it had acknowledged, or a repair said
// that nothing was missing: it refuses to start and names the repair, after which it starts, and what is lost is told until
// somebody takes note of it.
func TestRepairTellsTheTruth(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		damage func(t *testing.T, store string)
		lost   bool
	}{
		"a byte of the snapshot": {func(t *testing.T, store string) {
			snapshot := filesOf(t, store, "*.snapshot")[0]
			content, err := os.ReadFile(snapshot)
			if err != nil {
				t.Fatal(err)
			}
			content[len(content)/2] ^= 1
			if err := os.WriteFile(snapshot, content, 0o600); err != nil {
				t.Fatal(err)
			}
		}, true},
		"all logs missing": {func(t *testing.T, store string) { removeAll(t, filesOf(t, store, "*.log")) }, true},
		"the newest log missing": {func(t *testing.T, store string) {
			logs := filesOf(t, store, "*.log")
			removeAll(t, logs[len(logs)-1:])
		}, true},
		"two logs exchanged": {func(t *testing.T, store string) {
			logs := filesOf(t, store, "*.log")
			for _, names := range [][2]string{{logs[0], store + "/x"}, {logs[1], logs[0]}, {store + "/x", logs[1]}} {
				if err := os.Rename(names[0], names[1]); err != nil {
					t.Fatal(err)
				}
			}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := restoredRelay(t)
			store := filepath.Join(r.dataDir, "store")
			tt.damage(t, store)
			refused := output(t, r.command)
			if refused.code != 1 || !strings.Contains(refused.stderr, "relay-server repair --data.dir") {
				t.Errorf("a start: exit code %d, want 1 and the name of the repair:\n%s", refused.code, refused.stderr)
			}
			said := mustOutput(t, command{path: programs.relayServer, args: []string{"--data.dir=" + r.dataDir, "repair"}})
			if strings.Contains(said, "nothing that was acknowledged is missing") == tt.lost || strings.Contains(said, "not damaged") {
				t.Errorf("the repair says:\n%s", said)
			}
			r.start(t)
			for job, value := range map[string]float64{"backed up": 1, "restored": 2, "restarted": 3} {
				if !tt.lost {
					wantSeries(t, r.url, `full{instance="", job="`+job+`"}`, value)
				}
			}
			r.wantLoss(t, tt.lost)
			pushOne(t, r.url, "after", 4)
			r.stop(t)
			r.start(t)
			r.wantLoss(t, tt.lost)
			noted := mustOutput(t, command{path: programs.relayServer, args: []string{"--data.dir=" + r.dataDir, "acknowledge-loss"}})
			if strings.Contains(noted, "acknowledged, found") != tt.lost {
				t.Errorf("acknowledge-loss says:\n%s", noted)
			}
			r.wantLoss(t, false)
			wantSeries(t, r.url, `full{instance="", job="after"}`, 4)
			r.stop(t)
		})
	}
}

// restoredRelay returns a relay that was made from a backup, got pushes in two lives, and was killed.
func restoredRelay(t *testing.T) *relay {
	t.Helper()
	first := startRelay(t)
	pushOne(t, first.url, "backed up", 1)
	file := filepath.Join(t.TempDir(), "relay.backup")
	mustOutput(t, command{path: programs.relayServer, args: []string{"--data.dir=" + first.dataDir, "backup", "--to=" + file}})
	first.stop(t)
	r := startRelay(t)
	r.stop(t)
	r.loseStore(t)
	mustOutput(t, command{path: programs.relayServer, args: []string{"--data.dir=" + r.dataDir, "restore", "--from=" + file}})
	r.start(t)
	pushOne(t, r.url, "restored", 2)
	r.kill(t)
	r.start(t)
	pushOne(t, r.url, "restarted", 3)
	r.kill(t)
	return r
}

// wantLoss checks whether the relay shows a loss, everywhere where it does.
func (r *relay) wantLoss(t *testing.T, want bool) {
	t.Helper()
	losses := 0.0
	if want {
		losses = 1
	}
	wantSeries(t, r.url, "relay_store_losses", losses)
	if page := mustGet(t, r.url+"/-/ready"); strings.Contains(page, "acknowledge-loss") != want {
		t.Errorf("/-/ready: %q", page)
	}
}

// filesOf returns the files of a directory that match, in order.
func filesOf(t *testing.T, dir, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s in %s: %q, %v", pattern, dir, files, err)
	}
	slices.Sort(files)
	return files
}

func removeAll(t *testing.T, files []string) {
	t.Helper()
	for _, file := range files {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSpoolNewestLogMissing removes the newest file of an agent's journal: the agent does not start without a word, and once
// it is repaired it shows the loss until somebody takes note of it.
func TestSpoolNewestLogMissing(t *testing.T) {
	t.Parallel()
	r := startRelay(t)
	a, dataDir := startSpooling(t, r)
	r.kill(t)
	a.away(t, r)
	a.kept(t, "one", 1)
	a.kill(t)
	a.startAlone(t)
	a.kept(t, "two", 2)
	a.kill(t)
	logs := filesOf(t, filepath.Join(dataDir, "spool"), "*.log")
	removeAll(t, logs[len(logs)-1:])
	if refused := output(t, a.command); refused.code != 1 || !strings.Contains(refused.stderr, "relay-agent repair --data.dir") {
		t.Errorf("a start: exit code %d, want 1 and the name of the repair:\n%s", refused.code, refused.stderr)
	}
	if said := mustOutput(t, command{path: programs.relayAgent, args: []string{"repair", "--data.dir=" + dataDir}}); !strings.Contains(said, "may have been acknowledged") {
		t.Errorf("the repair says:\n%s", said)
	}
	a.startAlone(t)
	wantSeries(t, a.url, "relay_agent_spool_losses", 1)
	if page := mustGet(t, a.url+"/-/ready"); !strings.Contains(page, "relay-agent acknowledge-loss") {
		t.Errorf("/-/ready: %q", page)
	}
	mustOutput(t, command{path: programs.relayAgent, args: []string{"acknowledge-loss", "--data.dir=" + dataDir}})
	wantSeries(t, a.url, "relay_agent_spool_losses", 0)
	a.back(t, r)
	wantSeries(t, r.url, seriesOfJob("one"), 1)
}
