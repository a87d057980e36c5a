//go:build linux

package e2e_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
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

// deleted deletes a group and wants the answer of a relay that has done it.
func (a *agent) deleted(t testing.TB, job string) {
	t.Helper()
	if got := a.ask(t, http.MethodDelete, job, 0); got.status != http.StatusAccepted || got.header.Get("X-Relay-Spooled") != "" {
		t.Errorf("DELETE %s: %d %s", job, got.status, got.body)
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
			r := startRelay(t)
			a, _ := startSpooling(t, r)
			for _, job := range []string{"same", "g", "h"} {
				a.applied(t, job, 1)
			}
			var copied string
			if tt.running {
				copied = copyDir(t, r.dataDir)
			} else {
				r.stop(t)
				copied = copyDir(t, r.dataDir)
				a.away(t, r)
				a.back(t, r)
			}
			a.applied(t, "g", 2)
			a.applied(t, "new", 2)
			a.deleted(t, "h")
			r.stop(t)
			putBack(t, r.dataDir, copied)
			a.away(t, r)
			a.back(t, r)
			wantSeries(t, a.url, "relay_agent_stores_put_back_total", 1)
			for job, want := range map[string]float64{"same": 1, "g": 2, "new": 2} {
				wantSeries(t, r.url, seriesOfJob(job), want)
			}
			wantNoSeries(t, r.url, seriesOfJob("h"))
			a.wantLogged(t, "was put back to an older copy")
			if page := mustGet(t, a.url+"/-/ready"); !strings.Contains(page, "put back to an older copy") {
				t.Errorf("/-/ready of the agent: %s", page)
			}
			// What is done at a relay that goes on never looks like that.
			a.applied(t, "g", 3)
			r.kill(t)
			a.away(t, r)
			a.back(t, r)
			wantSeries(t, a.url, "relay_agent_stores_put_back_total", 1)
			wantSeries(t, r.url, seriesOfJob("g"), 3)
		})
	}
}

// TestAgentPutBack: an agent whose data dir is put back to an older copy undoes nothing that it did since, and what it loses is counted
// (T12).
func TestAgentPutBack(t *testing.T) {
	t.Parallel()
	r := startRelay(t)
	a, dataDir := startSpooling(t, r)
	for _, job := range []string{"g", "keep", "gone"} {
		a.applied(t, job, 1)
	}
	r.kill(t)
	a.away(t, r)
	a.kept(t, "g", 2)
	wantKept(t, a.ask(t, http.MethodDelete, "keep", 0))
	a.kept(t, "gone", 2)
	a.kept(t, "late", 2)
	a.stop(t)
	older := copyDir(t, dataDir)
	a.startAlone(t)
	a.back(t, r)
	a.applied(t, "g", 3)
	a.applied(t, "keep", 3)
	a.deleted(t, "gone")
	eventually(t, patience, "the marks of what was deleted are forgotten", func() error {
		n, _, err := valueOf(r.url, "relay_store_tombstones")
		if err == nil && n != 0 {
			err = errModel
		}
		return err
	})
	pushed, _, err := valueOf(r.url, `push_time_seconds{agent="site-a", instance="", job="g"}`)
	if err != nil {
		t.Fatal(err)
	}
	a.stop(t)
	putBack(t, dataDir, older)
	a.takesOver(t)
	a.wantDrained(t)
	for job, want := range map[string]float64{"g": 3, "keep": 3, "late": 2} {
		wantSeries(t, r.url, seriesOfJob(job), want)
	}
	wantNoSeries(t, r.url, seriesOfJob("gone"))
	if again, _, err := valueOf(r.url, `push_time_seconds{agent="site-a", instance="", job="g"}`); err != nil || again != pushed {
		t.Errorf("push_time_seconds of g is %v, %v, and was %v", again, err, pushed)
	}
	// The push of late comes a second time, and is judged by the times that two journeys took: it may count as the older of the two.
	superseded, _, err := valueOf(a.url, "relay_agent_superseded_total")
	if err != nil || superseded != 3 && superseded != 4 {
		t.Errorf("%v changes were superseded, %v, want 3 or 4", superseded, err)
	}
	wantSeries(t, r.url, `relay_pushes_total{reason="superseded", result="rejected"}`, superseded)
	wantSeries(t, r.url, `relay_changes_total{result="rejected"}`, superseded)
	wantSeries(t, a.url, "relay_agent_changes_sent_total", 4)
	wantSeries(t, a.url, "relay_agent_late_rejections_total", 0)
	// What is pushed now is newer than anything.
	a.applied(t, "g", 4)
	wantSeries(t, r.url, seriesOfJob("g"), 4)
}

// TestOlderProcessComesBack: a process of an identity delivers what it kept after a newer process of it has pushed.
func TestOlderProcessComesBack(t *testing.T) {
	t.Parallel()
	r := startRelay(t)
	older, dataDir := startSpooling(t, r)
	older.applied(t, "g", 1)
	older.stop(t)
	newer := older.on(t, filepath.Join(t.TempDir(), "newer"))
	r.kill(t)
	older.startAlone(t)
	older.kept(t, "g", 2)
	older.kept(t, "other", 2)
	older.stop(t)
	r.start(t)
	newer.takesOver(t)
	newer.applied(t, "g", 3)
	newer.stop(t)
	again := older.on(t, dataDir)
	again.takesOver(t)
	again.wantDrained(t)
	wantSeries(t, r.url, seriesOfJob("g"), 3)
	wantSeries(t, r.url, seriesOfJob("other"), 2)
	wantSeries(t, again.url, "relay_agent_superseded_total", 1)
}

// TestTwoRelaysOnCopiesOfAStore: what is pushed through the agent is at one of them, nobody is told that it is at both, and both ends say
// what is wrong (T17).
func TestTwoRelaysOnCopiesOfAStore(t *testing.T) {
	t.Parallel()
	first := startRelay(t)
	second := startRelay(t)
	second.stop(t)
	first.stop(t)
	putBack(t, second.dataDir, copyDir(t, first.dataDir)) // one store id, and one authority
	first.start(t)
	second.start(t)
	a, _ := startSpooling(t, first, "--relay.address="+second.grpc, "--push.wait=5s")
	eventually(t, patience, "the agent sees a copy", func() error {
		n, _, err := valueOf(a.url, "relay_agent_store_copies")
		if err == nil && n != 1 {
			err = errModel
		}
		return err
	})
	got := a.ask(t, http.MethodPut, "g", 2)
	wantKept(t, got, "runs on a copy of the store of relay")
	a.wantLogged(t, "two relays run on copies of one store")
	told := 0
	for _, r := range []*relay{first, second} {
		eventually(t, 30*time.Second, "the relay says so", func() error {
			n, _, err := valueOf(r.url, "relay_store_copies_seen")
			if err == nil && n != 1 {
				err = errModel
			}
			return err
		})
		r.wantLogged(t, "another relay runs on a copy of this relay's store")
		if _, there, _ := valueOf(r.url, seriesOfJob("g")); there {
			told++
		}
	}
	if told != 1 {
		t.Errorf("the push is at %d of the two relays", told)
	}
	// When one of them goes, the other gets all.
	if _, there, _ := valueOf(second.url, seriesOfJob("g")); there {
		first, second = second, first
	}
	first.stop(t)
	a.away(t, first)
	eventually(t, patience, "the other has it", func() error {
		_, there, err := valueOf(second.url, seriesOfJob("g"))
		if err == nil && !there {
			err = errModel
		}
		return err
	})
	eventually(t, 30*time.Second, "the relay is told that there is no copy any more", func() error {
		n, _, err := valueOf(second.url, "relay_store_copies_seen")
		if err == nil && n != 0 {
			err = errModel
		}
		return err
	})
}
