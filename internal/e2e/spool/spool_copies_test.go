//go:build linux

package spool_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/house"
	"pushrelay/internal/e2e/program"
	"pushrelay/internal/faultproxy"
)

// copyDir copies a data dir, as a backup or the cloning of a machine does.
func copyDir(t testing.TB, from string) (to string) {
	t.Helper()
	to = filepath.Join(t.TempDir(), "copy")
	program.MustOutput(t, program.Command{Path: "cp", Dir: ".", Args: []string{"-a", from, to}})
	if err := os.Remove(filepath.Join(to, "control.sock")); err != nil && !errors.Is(err, fs.ErrNotExist) { // backups leave sockets out
		t.Fatal(err)
	}
	return to
}

// TestSpoolRestoredCopy: an agent whose data dir is put back to yesterday's gives numbers again that it gave before. It finds
// out, begins a new journal, and nothing that it is pushed is taken for a duplicate; what yesterday waited is sent once more
// (T12).
func TestSpoolRestoredCopy(t *testing.T) {
	t.Parallel()
	r := house.StartRelay(t)
	a, dataDir := house.StartSpooling(t, r)
	a.Applied(t, "old", 1)
	r.Kill(t)
	a.Away(t, r)
	a.Kept(t, "waited", 2)
	a.Stop(t)
	yesterday := copyDir(t, dataDir)

	a.StartAlone(t)
	a.Back(t, r)
	a.Applied(t, "today", 3)
	a.Applied(t, "old", 4)
	a.Stop(t)

	restored := a.On(t, yesterday)
	restored.TakesOver(t) // Its next number is one that the relay knows.
	client.WantSeries(t, restored.URL, "relay_agent_journal_resets_total", 1)
	restored.WantLogged(t, "the data dir is a copy that was restored")
	restored.Applied(t, "after", 5)
	restored.Applied(t, "today", 6)
	restored.WantDrained(t)
	for job, want := range map[string]float64{"old": 4, "waited": 2, "after": 5, "today": 6} {
		client.WantSeries(t, r.URL, house.SeriesOfJob(job), want)
	}
	// It is found once: the next start is an ordinary one.
	restored.Kill(t)
	restored.TakesOver(t)
	restored.Applied(t, "after", 7)
	client.WantSeries(t, restored.URL, "relay_agent_journal_resets_total", 0)
	client.WantSeries(t, r.URL, house.SeriesOfJob("after"), 7)
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
			r := house.StartRelay(t)
			network := house.NewNetworkTo(t, r.GRPC, tt.name)
			dataDir := filepath.Join(t.TempDir(), "agent")
			a := house.StartAgentVia(t, r, network.Addr(), "site-a", "scrape_configs: []\n", "--data.dir="+dataDir, "--push.wait=30s")
			a.Applied(t, "before", 1)
			a.Stop(t)
			clone := a.On(t, copyDir(t, dataDir))

			a.TakesOver(t)
			for n := range 5 {
				a.Applied(t, fmt.Sprint("of_a_", n), n)
			}
			a.Stop(t)

			before := r.Session(t, "site-a")
			network.Set(faultproxy.Conditions{Refuse: true})
			clone.StartAlone(t)
			accepted := 0
			if tt.meanwhile {
				for ; accepted < 5; accepted++ {
					clone.Kept(t, fmt.Sprint("of_clone_", accepted), 10+accepted)
				}
			}
			network.Set(faultproxy.Conditions{})
			r.WantBack(t, before)
			clone.Attached(t)
			clone.WantDrained(t)
			for ; accepted < 10; accepted++ {
				clone.Applied(t, fmt.Sprint("of_clone_", accepted), 10+accepted)
			}
			client.WantSeries(t, clone.URL, "relay_agent_journal_resets_total", 1)

			// The first host takes the session over. Its numbers are its own. The clone keeps what it takes.
			a.TakesOver(t)
			a.Applied(t, "of_a_again", 5)
			client.WantSeries(t, a.URL, "relay_agent_journal_resets_total", 0)
			client.Eventually(t, client.Patience, "the clone was superseded", func() error {
				page, err := client.WantOK(clone.URL + "/-/ready")
				if err == nil && !strings.Contains(page, "is a second agent running with the same certificate?") {
					err = fmt.Errorf("%w: %s", house.ErrStillConnected, page)
				}
				return err
			})
			clone.Kept(t, "of_clone_10", 20, "is a second agent running with the same certificate?")
			clone.Kill(t)
			clone.TakesOver(t) // It would come by itself after one to two minutes.
			clone.WantDrained(t)
			client.WantSeries(t, clone.URL, "relay_agent_journal_resets_total", 0)

			for n := range 5 {
				client.WantSeries(t, r.URL, house.SeriesOfJob(fmt.Sprint("of_a_", n)), float64(n))
			}
			for n := range 11 {
				client.WantSeries(t, r.URL, house.SeriesOfJob(fmt.Sprint("of_clone_", n)), float64(10+n))
			}
			client.WantSeries(t, r.URL, house.SeriesOfJob("of_a_again"), 5)
			client.WantSeries(t, r.URL, `relay_changes_total{result="duplicate"}`, 0)
		})
	}
}

// TestSpoolRelayLost: a relay that lost its store has a new one; it gets every group back, as it was last, and none that was
// deleted (T18).
func TestSpoolRelayLost(t *testing.T) {
	t.Parallel()
	r := house.StartRelay(t)
	a, _ := house.StartSpooling(t, r)
	a.Applied(t, "stays", 1)
	a.Applied(t, "stays", 2)
	a.Applied(t, "deleted", 3)
	if got, err := client.Fetch(http.MethodPost, a.URL+"/metrics/job/stays", strings.NewReader("added 4\n")); err != nil || got.Status != http.StatusOK {
		t.Fatalf("POST: %d %s, %v", got.Status, got.Body, err)
	}
	pushedAt, _, err := client.ValueOf(r.URL, `push_time_seconds{agent="site-a", instance="", job="stays"}`)
	if err != nil {
		t.Fatal(err)
	}
	a.Ask(t, http.MethodDelete, "deleted", 0)
	r.Kill(t)
	r.LoseStore(t)
	a.Away(t, r)
	house.WantKept(t, a.Ask(t, http.MethodDelete, "never", 0))
	a.Back(t, r)
	client.WantSeries(t, r.URL, house.SeriesOfJob("stays"), 2)
	client.WantSeries(t, r.URL, `added{agent="site-a", instance="", job="stays"}`, 4)
	client.WantNoSeries(t, r.URL, house.SeriesOfJob("deleted"))
	client.WantSeries(t, a.URL, "relay_agent_journal_resets_total", 0)
	again, _, err := client.ValueOf(r.URL, `push_time_seconds{agent="site-a", instance="", job="stays"}`)
	if err != nil || again < pushedAt-1 || again > pushedAt+1 {
		t.Errorf("push_time_seconds is %v, %v; it was %v", again, err, pushedAt)
	}
	a.WantLogged(t, "relay has another store than before")
}

// TestSpoolRelayRestored: a relay that was restored from a backup has a new store id: it gets what it has missed since, and
// keeps what it has (T18).
func TestSpoolRelayRestored(t *testing.T) {
	t.Parallel()
	r := house.StartRelay(t)
	a, _ := house.StartSpooling(t, r)
	a.Applied(t, "same", 1)
	a.Applied(t, "newer", 2)
	file := filepath.Join(t.TempDir(), "relay.backup")
	program.MustOutput(t, program.Command{Path: program.RelayServer(), Args: []string{"--data.dir=" + r.DataDir, "backup", "--to=" + file}})
	a.Applied(t, "newer", 3)
	a.Applied(t, "new", 4)
	r.Kill(t)
	r.LoseStore(t)
	program.MustOutput(t, program.Command{Path: program.RelayServer(), Args: []string{"--data.dir=" + r.DataDir, "restore", "--from=" + file}})
	a.Away(t, r)
	a.Kept(t, "waited", 5)
	a.Back(t, r)
	for job, want := range map[string]float64{"same": 1, "newer": 3, "new": 4, "waited": 5} {
		client.WantSeries(t, r.URL, house.SeriesOfJob(job), want)
	}
	a.WantLogged(t, "relay has another store than before")
	// The next change is no duplicate of any that the backup knows.
	a.Applied(t, "same", 6)
	client.WantSeries(t, r.URL, house.SeriesOfJob("same"), 6)
}

// TestSpoolRelayWiped: what was wiped at the relay is not sent again, whoever is started again; a later push makes its group
// anew (T18).
func TestSpoolRelayWiped(t *testing.T) {
	t.Parallel()
	r := house.StartRelay(t, "--web.enable-admin-api")
	a, _ := house.StartSpooling(t, r)
	a.Applied(t, "one", 1)
	a.Applied(t, "two", 2)
	if got, err := client.Fetch(http.MethodPut, r.URL+"/api/v1/admin/wipe", nil); err != nil || got.Status != http.StatusAccepted {
		t.Fatalf("wipe: %d %s, %v", got.Status, got.Body, err)
	}
	a.Kill(t)
	a.TakesOver(t)
	a.WantDrained(t) // a verdict that the agent had not noted yet when it was killed comes again
	r.Kill(t)
	a.Away(t, r)
	a.Back(t, r)
	a.Applied(t, "two", 3)
	client.WantSeries(t, r.URL, house.SeriesOfJob("two"), 3)
	client.WantNoSeries(t, r.URL, house.SeriesOfJob("one"))
	client.WantSeries(t, a.URL, "relay_agent_journal_resets_total", 0)
	client.WantSeries(t, r.URL, `relay_changes_total{result="applied"}`, 1)
	client.WantSeries(t, r.URL, `relay_changes_total{result="duplicate"}`, 0)
	if got, err := client.Fetch(http.MethodPut, a.URL+"/api/v1/admin/wipe", nil); err != nil || got.Status != http.StatusNotFound {
		t.Errorf("the agent answers a wipe with %d, %v", got.Status, err)
	}
}
