//go:build linux

package durability_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/house"
	"pushrelay/internal/e2e/program"
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
			store := filepath.Join(r.DataDir, "store")
			tt.damage(t, store)
			refused := program.Output(t, r.Command)
			if refused.Code != 1 || !strings.Contains(refused.Stderr, "relay-server repair --data.dir") {
				t.Errorf("a start: exit code %d, want 1 and the name of the repair:\n%s", refused.Code, refused.Stderr)
			}
			said := program.MustOutput(t, program.Command{Path: program.RelayServer(), Args: []string{"--data.dir=" + r.DataDir, "repair"}})
			if strings.Contains(said, "nothing that was acknowledged is missing") == tt.lost || strings.Contains(said, "not damaged") {
				t.Errorf("the repair says:\n%s", said)
			}
			r.Start(t)
			for job, value := range map[string]float64{"backed up": 1, "restored": 2, "restarted": 3} {
				if !tt.lost {
					client.WantSeries(t, r.URL, `full{instance="", job="`+job+`"}`, value)
				}
			}
			r.WantLoss(t, tt.lost)
			client.PushOne(t, r.URL, "after", 4)
			r.Stop(t)
			r.Start(t)
			r.WantLoss(t, tt.lost)
			noted := program.MustOutput(t, program.Command{Path: program.RelayServer(), Args: []string{"--data.dir=" + r.DataDir, "acknowledge-loss"}})
			if strings.Contains(noted, "acknowledged, found") != tt.lost {
				t.Errorf("acknowledge-loss says:\n%s", noted)
			}
			r.WantLoss(t, false)
			client.WantSeries(t, r.URL, `full{instance="", job="after"}`, 4)
			r.Stop(t)
		})
	}
}

// restoredRelay returns a relay that was made from a backup, got pushes in two lives, and was killed.
func restoredRelay(t *testing.T) *house.Relay {
	t.Helper()
	first := house.StartRelay(t)
	client.PushOne(t, first.URL, "backed up", 1)
	file := filepath.Join(t.TempDir(), "relay.backup")
	program.MustOutput(t, program.Command{Path: program.RelayServer(), Args: []string{"--data.dir=" + first.DataDir, "backup", "--to=" + file}})
	first.Stop(t)
	r := house.StartRelay(t)
	r.Stop(t)
	r.LoseStore(t)
	program.MustOutput(t, program.Command{Path: program.RelayServer(), Args: []string{"--data.dir=" + r.DataDir, "restore", "--from=" + file}})
	r.Start(t)
	client.PushOne(t, r.URL, "restored", 2)
	r.Kill(t)
	r.Start(t)
	client.PushOne(t, r.URL, "restarted", 3)
	r.Kill(t)
	return r
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
	r := house.StartRelay(t)
	a, dataDir := house.StartSpooling(t, r)
	r.Kill(t)
	a.Away(t, r)
	a.Kept(t, "one", 1)
	a.Kill(t)
	a.StartAlone(t)
	a.Kept(t, "two", 2)
	a.Kill(t)
	logs := filesOf(t, filepath.Join(dataDir, "spool"), "*.log")
	removeAll(t, logs[len(logs)-1:])
	if refused := program.Output(t, a.Command); refused.Code != 1 || !strings.Contains(refused.Stderr, "relay-agent repair --data.dir") {
		t.Errorf("a start: exit code %d, want 1 and the name of the repair:\n%s", refused.Code, refused.Stderr)
	}
	if said := program.MustOutput(t, program.Command{Path: program.RelayAgent(), Args: []string{"repair", "--data.dir=" + dataDir}}); !strings.Contains(said, "may have been acknowledged") {
		t.Errorf("the repair says:\n%s", said)
	}
	a.StartAlone(t)
	client.WantSeries(t, a.URL, "relay_agent_spool_losses", 1)
	if page := client.MustGet(t, a.URL+"/-/ready"); !strings.Contains(page, "relay-agent acknowledge-loss") {
		t.Errorf("/-/ready: %q", page)
	}
	program.MustOutput(t, program.Command{Path: program.RelayAgent(), Args: []string{"acknowledge-loss", "--data.dir=" + dataDir}})
	client.WantSeries(t, a.URL, "relay_agent_spool_losses", 0)
	a.Back(t, r)
	client.WantSeries(t, r.URL, house.SeriesOfJob("one"), 1)
}
