//go:build linux

package spool_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/house"
)

// putBack replaces a data dir by a copy of it.
func putBack(t testing.TB, dataDir, copied string) {
	t.Helper()
	if err := os.RemoveAll(dataDir); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(dataDir, os.DirFS(copied)); err != nil {
		t.Fatal(err)
	}
}

// TestRelayPutBack: a relay whose data dir is put back to an older copy of itself gets again what it lost, deletions included, and both
// say so (T18).
func TestRelayPutBack(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		running bool
	}{{"a copy of the stopped relay", false}, {"a copy of the running relay", true}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := house.StartRelay(t)
			a, _ := house.StartSpooling(t, r)
			for _, job := range []string{"same", "g", "h"} {
				a.Applied(t, job, 1)
			}
			var copied string
			if tt.running {
				copied = copyDir(t, r.DataDir)
			} else {
				r.Stop(t)
				copied = copyDir(t, r.DataDir)
				a.Away(t, r)
				a.Back(t, r)
			}
			a.Applied(t, "g", 2)
			a.Applied(t, "new", 2)
			a.Deleted(t, "h")
			r.Stop(t)
			putBack(t, r.DataDir, copied)
			a.Away(t, r)
			a.Back(t, r)
			client.WantSeries(t, a.URL, "relay_agent_stores_put_back_total", 1)
			for job, want := range map[string]float64{"same": 1, "g": 2, "new": 2} {
				client.WantSeries(t, r.URL, house.SeriesOfJob(job), want)
			}
			client.WantNoSeries(t, r.URL, house.SeriesOfJob("h"))
			a.WantLogged(t, "was put back to an older copy")
			if page := client.MustGet(t, a.URL+"/-/ready"); !strings.Contains(page, "put back to an older copy") {
				t.Errorf("/-/ready of the agent: %s", page)
			}
			// What is done at a relay that goes on never looks like that.
			a.Applied(t, "g", 3)
			r.Kill(t)
			a.Away(t, r)
			a.Back(t, r)
			client.WantSeries(t, a.URL, "relay_agent_stores_put_back_total", 1)
			client.WantSeries(t, r.URL, house.SeriesOfJob("g"), 3)
		})
	}
}

// TestAgentPutBack: an agent whose data dir is put back to an older copy undoes nothing that it did since, and what it loses is counted
// (T12).
func TestAgentPutBack(t *testing.T) {
	t.Parallel()
	r := house.StartRelay(t)
	a, dataDir := house.StartSpooling(t, r)
	for _, job := range []string{"g", "keep", "gone"} {
		a.Applied(t, job, 1)
	}
	r.Kill(t)
	a.Away(t, r)
	a.Kept(t, "g", 2)
	house.WantKept(t, a.Ask(t, http.MethodDelete, "keep", 0))
	a.Kept(t, "gone", 2)
	a.Kept(t, "late", 2)
	a.Stop(t)
	older := copyDir(t, dataDir)
	a.StartAlone(t)
	a.Back(t, r)
	a.Applied(t, "g", 3)
	a.Applied(t, "keep", 3)
	a.Deleted(t, "gone")
	client.Eventually(t, client.Patience, "the marks of what was deleted are forgotten", func() error {
		n, _, err := client.ValueOf(r.URL, "relay_store_tombstones")
		if err == nil && n != 0 {
			err = house.ErrModel
		}
		return err
	})
	pushed, _, err := client.ValueOf(r.URL, `push_time_seconds{agent="site-a", instance="", job="g"}`)
	if err != nil {
		t.Fatal(err)
	}
	a.Stop(t)
	putBack(t, dataDir, older)
	a.TakesOver(t)
	a.WantDrained(t)
	for job, want := range map[string]float64{"g": 3, "keep": 3, "late": 2} {
		client.WantSeries(t, r.URL, house.SeriesOfJob(job), want)
	}
	client.WantNoSeries(t, r.URL, house.SeriesOfJob("gone"))
	if again, _, err := client.ValueOf(r.URL, `push_time_seconds{agent="site-a", instance="", job="g"}`); err != nil || again != pushed {
		t.Errorf("push_time_seconds of g is %v, %v, and was %v", again, err, pushed)
	}
	// The push of late comes a second time, and is judged by the times that two journeys took: it may count as the older of the two.
	superseded, _, err := client.ValueOf(a.URL, "relay_agent_superseded_total")
	if err != nil || superseded != 3 && superseded != 4 {
		t.Errorf("%v changes were superseded, %v, want 3 or 4", superseded, err)
	}
	client.WantSeries(t, r.URL, `relay_pushes_total{reason="superseded", result="rejected"}`, superseded)
	client.WantSeries(t, r.URL, `relay_changes_total{result="rejected"}`, superseded)
	client.WantSeries(t, a.URL, "relay_agent_changes_sent_total", 4)
	client.WantSeries(t, a.URL, "relay_agent_late_rejections_total", 0)
	// What is pushed now is newer than anything.
	a.Applied(t, "g", 4)
	client.WantSeries(t, r.URL, house.SeriesOfJob("g"), 4)
}

// TestOlderProcessComesBack: a process of an identity delivers what it kept after a newer process of it has pushed.
func TestOlderProcessComesBack(t *testing.T) {
	t.Parallel()
	r := house.StartRelay(t)
	older, dataDir := house.StartSpooling(t, r)
	older.Applied(t, "g", 1)
	older.Stop(t)
	newer := older.On(t, filepath.Join(t.TempDir(), "newer"))
	r.Kill(t)
	older.StartAlone(t)
	older.Kept(t, "g", 2)
	older.Kept(t, "other", 2)
	older.Stop(t)
	r.Start(t)
	newer.TakesOver(t)
	newer.Applied(t, "g", 3)
	newer.Stop(t)
	again := older.On(t, dataDir)
	again.TakesOver(t)
	again.WantDrained(t)
	client.WantSeries(t, r.URL, house.SeriesOfJob("g"), 3)
	client.WantSeries(t, r.URL, house.SeriesOfJob("other"), 2)
	client.WantSeries(t, again.URL, "relay_agent_superseded_total", 1)
}

// TestTwoRelaysOnCopiesOfAStore: what is pushed through the agent is at one of them, nobody is told that it is at both, and both ends say
// what is wrong (T17).
func TestTwoRelaysOnCopiesOfAStore(t *testing.T) {
	t.Parallel()
	first := house.StartRelay(t)
	second := house.StartRelay(t)
	second.Stop(t)
	first.Stop(t)
	putBack(t, second.DataDir, copyDir(t, first.DataDir)) // one store id, and one authority
	first.Start(t)
	second.Start(t)
	a, _ := house.StartSpooling(t, first, "--relay.address="+second.GRPC, "--push.wait=5s")
	client.Eventually(t, client.Patience, "the agent sees a copy", func() error {
		n, _, err := client.ValueOf(a.URL, "relay_agent_store_copies")
		if err == nil && n != 1 {
			err = house.ErrModel
		}
		return err
	})
	got := a.Ask(t, http.MethodPut, "g", 2)
	house.WantKept(t, got, "runs on a copy of the store of relay")
	a.WantLogged(t, "two relays run on copies of one store")
	told := 0
	for _, r := range []*house.Relay{first, second} {
		client.Eventually(t, 30*time.Second, "the relay says so", func() error {
			n, _, err := client.ValueOf(r.URL, "relay_store_copies_seen")
			if err == nil && n != 1 {
				err = house.ErrModel
			}
			return err
		})
		r.WantLogged(t, "another relay runs on a copy of this relay's store")
		if _, there, _ := client.ValueOf(r.URL, house.SeriesOfJob("g")); there {
			told++
		}
	}
	if told != 1 {
		t.Errorf("the push is at %d of the two relays", told)
	}
	// When one of them goes, the other gets all.
	if _, there, _ := client.ValueOf(second.URL, house.SeriesOfJob("g")); there {
		first, second = second, first
	}
	first.Stop(t)
	a.Away(t, first)
	client.Eventually(t, client.Patience, "the other has it", func() error {
		_, there, err := client.ValueOf(second.URL, house.SeriesOfJob("g"))
		if err == nil && !there {
			err = house.ErrModel
		}
		return err
	})
	client.Eventually(t, 30*time.Second, "the relay is told that there is no copy any more", func() error {
		n, _, err := client.ValueOf(second.URL, "relay_store_copies_seen")
		if err == nil && n != 0 {
			err = house.ErrModel
		}
		return err
	})
}
