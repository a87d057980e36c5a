//go:build linux

package e2e_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pushrelay/internal/faultproxy"
)

// copyDir copies a data dir, as a backup or the cloning of a machine does.
func copyDir(t testing.TB, from string) (to string) {
	t.Helper()
	to = filepath.Join(t.TempDir(), "copy")
	mustOutput(t, command{path: "cp", dir: ".", args: []string{"-a", from, to}})
	if err := os.Remove(filepath.Join(to, "control.sock")); err != nil && !errors.Is(err, fs.ErrNotExist) { // backups leave sockets out
		t.Fatal(err)
	}
	return to
}

// on is the agent with another data dir, on another host as it were.
func (a *agent) on(t testing.TB, dataDir string) *agent {
	t.Helper()
	web := freeAddress(t)
	b := &agent{owner: a.owner, name: a.name, url: "http://" + web, relay: a.relay, dials: a.dials, command: a.command}
	b.command.args = slices.Clone(a.command.args)
	for i, arg := range b.command.args {
		switch {
		case strings.HasPrefix(arg, "--data.dir="):
			b.command.args[i] = "--data.dir=" + dataDir
		case strings.HasPrefix(arg, "--web.listen-address="):
			b.command.args[i] = "--web.listen-address=" + web
		}
	}
	return b
}

// takesOver starts the agent and waits until it has a session of its own, whoever had one before.
func (a *agent) takesOver(t testing.TB) {
	t.Helper()
	before := a.relay.session(t, a.name)
	a.startAlone(t)
	a.relay.wantBack(t, before)
	a.attached(t)
}

// TestSpoolRestoredCopy: an agent whose data dir is put back to yesterday's gives numbers again that it gave before. It finds
// out, begins a new journal, and nothing that it is pushed is taken for a duplicate; what yesterday waited is sent once more
// (T12).
func TestSpoolRestoredCopy(t *testing.T) {
	t.Parallel()
	r := startRelay(t)
	a, dataDir := startSpooling(t, r)
	a.applied(t, "old", 1)
	r.kill(t)
	a.away(t, r)
	a.kept(t, "waited", 2)
	a.stop(t)
	yesterday := copyDir(t, dataDir)

	a.startAlone(t)
	a.back(t, r)
	a.applied(t, "today", 3)
	a.applied(t, "old", 4)
	a.stop(t)

	restored := a.on(t, yesterday)
	restored.takesOver(t) // Its next number is one that the relay knows.
	wantSeries(t, restored.url, "relay_agent_journal_resets_total", 1)
	restored.wantLogged(t, "the data dir is a copy that was restored")
	restored.applied(t, "after", 5)
	restored.applied(t, "today", 6)
	restored.wantDrained(t)
	for job, want := range map[string]float64{"old": 4, "waited": 2, "after": 5, "today": 6} {
		wantSeries(t, r.url, seriesOfJob(job), want)
	}
	// It is found once: the next start is an ordinary one.
	restored.kill(t)
	restored.takesOver(t)
	restored.applied(t, "after", 7)
	wantSeries(t, restored.url, "relay_agent_journal_resets_total", 0)
	wantSeries(t, r.url, seriesOfJob("after"), 7)
}

// TestSpoolClonedHost: two hosts run from one data dir and with one identity, one after the other. Each finds numbers that
// are not its own, whether it has used them itself meanwhile or not, and what both accepted arrives (T12).
func TestSpoolClonedHost(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		// meanwhile is whether the clone takes pushes, under the same numbers, before it meets the relay.
		meanwhile bool
	}{{"idle clone", false}, {"busy clone", true}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := startRelay(t)
			network := newNetworkTo(t, r.grpc, tt.name)
			dataDir := filepath.Join(t.TempDir(), "agent")
			a := startAgentVia(t, r, network.Addr(), "site-a", "scrape_configs: []\n", "--data.dir="+dataDir, "--push.wait=30s")
			a.applied(t, "before", 1)
			a.stop(t)
			clone := a.on(t, copyDir(t, dataDir))

			a.takesOver(t)
			for n := range 5 {
				a.applied(t, fmt.Sprint("of_a_", n), n)
			}
			a.stop(t)

			before := r.session(t, "site-a")
			network.Set(faultproxy.Conditions{Refuse: true})
			clone.startAlone(t)
			accepted := 0
			if tt.meanwhile {
				for ; accepted < 5; accepted++ {
					clone.kept(t, fmt.Sprint("of_clone_", accepted), 10+accepted)
				}
			}
			network.Set(faultproxy.Conditions{})
			r.wantBack(t, before)
			clone.attached(t)
			clone.wantDrained(t)
			for ; accepted < 10; accepted++ {
				clone.applied(t, fmt.Sprint("of_clone_", accepted), 10+accepted)
			}
			wantSeries(t, clone.url, "relay_agent_journal_resets_total", 1)

			// The first host takes the session over. Its numbers are its own. The clone keeps what it takes.
			a.takesOver(t)
			a.applied(t, "of_a_again", 5)
			wantSeries(t, a.url, "relay_agent_journal_resets_total", 0)
			eventually(t, patience, "the clone was superseded", func() error {
				page, err := wantOK(clone.url + "/-/ready")
				if err == nil && !strings.Contains(page, "is a second agent running with the same certificate?") {
					err = fmt.Errorf("%w: %s", errStillConnected, page)
				}
				return err
			})
			clone.kept(t, "of_clone_10", 20, "is a second agent running with the same certificate?")
			clone.kill(t)
			clone.takesOver(t) // It would come by itself after one to two minutes.
			clone.wantDrained(t)
			wantSeries(t, clone.url, "relay_agent_journal_resets_total", 0)

			for n := range 5 {
				wantSeries(t, r.url, seriesOfJob(fmt.Sprint("of_a_", n)), float64(n))
			}
			for n := range 11 {
				wantSeries(t, r.url, seriesOfJob(fmt.Sprint("of_clone_", n)), float64(10+n))
			}
			wantSeries(t, r.url, seriesOfJob("of_a_again"), 5)
			wantSeries(t, r.url, `relay_changes_total{result="duplicate"}`, 0)
		})
	}
}

// TestSpoolRelayLost: a relay that lost its store has a new one; it gets every group back, as it was last, and none that was
// deleted (T18).
func TestSpoolRelayLost(t *testing.T) {
	t.Parallel()
	r := startRelay(t)
	a, _ := startSpooling(t, r)
	a.applied(t, "stays", 1)
	a.applied(t, "stays", 2)
	a.applied(t, "deleted", 3)
	if got, err := fetch(http.MethodPost, a.url+"/metrics/job/stays", strings.NewReader("added 4\n")); err != nil || got.status != http.StatusOK {
		t.Fatalf("POST: %d %s, %v", got.status, got.body, err)
	}
	pushedAt, _, err := valueOf(r.url, `push_time_seconds{agent="site-a", instance="", job="stays"}`)
	if err != nil {
		t.Fatal(err)
	}
	a.ask(t, http.MethodDelete, "deleted", 0)
	r.kill(t)
	r.loseStore(t)
	a.away(t, r)
	wantKept(t, a.ask(t, http.MethodDelete, "never", 0))
	a.back(t, r)
	wantSeries(t, r.url, seriesOfJob("stays"), 2)
	wantSeries(t, r.url, `added{agent="site-a", instance="", job="stays"}`, 4)
	wantNoSeries(t, r.url, seriesOfJob("deleted"))
	wantSeries(t, a.url, "relay_agent_journal_resets_total", 0)
	again, _, err := valueOf(r.url, `push_time_seconds{agent="site-a", instance="", job="stays"}`)
	if err != nil || again < pushedAt-1 || again > pushedAt+1 {
		t.Errorf("push_time_seconds is %v, %v; it was %v", again, err, pushedAt)
	}
	a.wantLogged(t, "relay has another store than before")
}

// TestSpoolRelayRestored: a relay that was restored from a backup has a new store id: it gets what it has missed since, and
// keeps what it has (T18).
func TestSpoolRelayRestored(t *testing.T) {
	t.Parallel()
	r := startRelay(t)
	a, _ := startSpooling(t, r)
	a.applied(t, "same", 1)
	a.applied(t, "newer", 2)
	file := filepath.Join(t.TempDir(), "relay.backup")
	mustOutput(t, command{path: programs.relayServer, args: []string{"--data.dir=" + r.dataDir, "backup", "--to=" + file}})
	a.applied(t, "newer", 3)
	a.applied(t, "new", 4)
	r.kill(t)
	r.loseStore(t)
	mustOutput(t, command{path: programs.relayServer, args: []string{"--data.dir=" + r.dataDir, "restore", "--from=" + file}})
	a.away(t, r)
	a.kept(t, "waited", 5)
	a.back(t, r)
	for job, want := range map[string]float64{"same": 1, "newer": 3, "new": 4, "waited": 5} {
		wantSeries(t, r.url, seriesOfJob(job), want)
	}
	a.wantLogged(t, "relay has another store than before")
	// The next change is no duplicate of any that the backup knows.
	a.applied(t, "same", 6)
	wantSeries(t, r.url, seriesOfJob("same"), 6)
}

// TestSpoolRelayWiped: what was wiped at the relay is not sent again, whoever is started again; a later push makes its group
// anew (T18).
func TestSpoolRelayWiped(t *testing.T) {
	t.Parallel()
	r := startRelay(t, "--web.enable-admin-api")
	a, _ := startSpooling(t, r)
	a.applied(t, "one", 1)
	a.applied(t, "two", 2)
	if got, err := fetch(http.MethodPut, r.url+"/api/v1/admin/wipe", nil); err != nil || got.status != http.StatusAccepted {
		t.Fatalf("wipe: %d %s, %v", got.status, got.body, err)
	}
	a.kill(t)
	a.takesOver(t)
	a.wantDrained(t) // a verdict that the agent had not noted yet when it was killed comes again
	r.kill(t)
	a.away(t, r)
	a.back(t, r)
	a.applied(t, "two", 3)
	wantSeries(t, r.url, seriesOfJob("two"), 3)
	wantNoSeries(t, r.url, seriesOfJob("one"))
	wantSeries(t, a.url, "relay_agent_journal_resets_total", 0)
	wantSeries(t, r.url, `relay_changes_total{result="applied"}`, 1)
	wantSeries(t, r.url, `relay_changes_total{result="duplicate"}`, 0)
	if got, err := fetch(http.MethodPut, a.url+"/api/v1/admin/wipe", nil); err != nil || got.status != http.StatusNotFound {
		t.Errorf("the agent answers a wipe with %d, %v", got.status, err)
	}
}
