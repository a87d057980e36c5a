//go:build linux

package e2e_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A disk that was full has room for the log again, and none for the whole of what is kept: roomBytes of it, when more than twice
// that is in use.
const (
	roomDisk    = 20 << 20
	roomBytes   = 2 << 20
	roomPushes  = 90
	roomLetters = 80_000
)

// fillBut fills a disk, and leaves that many bytes free.
func fillBut(t *testing.T, dir string, free int64) {
	t.Helper()
	ballast := filepath.Join(dir, "ballast")
	fill(t, ballast)
	stat, err := os.Stat(ballast)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(ballast, stat.Size()-free); err != nil {
		t.Fatal(err)
	}
}

// makeRoom frees that many bytes more of a disk that [fillBut] filled.
func makeRoom(t *testing.T, dir string, bytes int64) {
	t.Helper()
	stat, err := os.Stat(filepath.Join(dir, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, "ballast"), stat.Size()-bytes); err != nil {
		t.Fatal(err)
	}
}

// large is a push of so many series with 15,000 letters each that compress badly.
func large(series, value int) string {
	var b strings.Builder
	for range series {
		fmt.Fprintf(&b, "large{l=\"%s\"} %d\n", noise(15000), value)
	}
	return b.String()
}

// untilRefused pushes until a push is refused with 503, and returns the values that were taken by job.
func untilRefused(t *testing.T, url string) map[string]int {
	t.Helper()
	taken := map[string]int{}
	for value := range 1000 {
		job := fmt.Sprint("during_", value)
		got, err := fetch(http.MethodPut, url+"/metrics/job/"+job, strings.NewReader(fmt.Sprintf("full %d\n%s", value, large(1, value))))
		switch {
		case err != nil:
			t.Fatal(err)
		case got.status == http.StatusServiceUnavailable:
			return taken
		case got.status != http.StatusOK && got.status != http.StatusAccepted:
			t.Fatalf("a push on a disk that fills up: %d %s", got.status, got.body)
		}
		taken[job] = value
	}
	t.Fatal("the disk is never full")
	return nil
}

// TestRoomForTheLogOnly: a relay whose disk was full takes pushes again as soon as its log fits, although the whole store does not
// fit twice; also after a start on the full disk. Nothing that was acknowledged is lost (S20).
func TestRoomForTheLogOnly(t *testing.T) {
	t.Parallel()
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("restart %t", restart), func(t *testing.T) {
			t.Parallel()
			disk := smallDisk(t, roomDisk)
			relay := startRelay(t)
			relay.stop(t)
			relay.dataDir = filepath.Join(disk, "data")
			for i, arg := range relay.command.args {
				if strings.HasPrefix(arg, "--data.dir=") {
					relay.command.args[i] = "--data.dir=" + relay.dataDir
				}
			}
			relay.start(t)
			for i := range roomPushes {
				if got, err := fetch(http.MethodPut, fmt.Sprint(relay.url, "/metrics/job/kept_", i), strings.NewReader(large(5, i))); err != nil || got.status != http.StatusOK {
					t.Fatalf("a push before: %d %s, %v", got.status, got.body, err)
				}
			}
			fillBut(t, disk, 0)
			taken := untilRefused(t, relay.url)
			if restart {
				relay.kill(t)
				relay.start(t)
			}
			makeRoom(t, disk, roomBytes/2)
			eventually(t, 20*time.Second, "pushes are taken again", func() error {
				if got := pushOne(t, relay.url, "after", 2); got != http.StatusOK {
					return fmt.Errorf("%w: %d", errStatus, got)
				}
				return nil
			})
			wantSeries(t, relay.url, "relay_store_writable", 1)
			wantSeries(t, relay.url, "relay_store_snapshot_timestamp_seconds", 0)
			relay.kill(t)
			relay.start(t)
			want := map[string]float64{`full{instance="", job="after"}`: 2}
			for job, value := range taken {
				want[fmt.Sprintf(`full{instance="", job=%q}`, job)] = float64(value)
			}
			wantAllSeries(t, relay.url, want)
			relay.stop(t)
		})
	}
}

// TestSpoolRoomForTheLogOnly is the same for a spool, with a relay that comes back and decides while the disk is full: what it
// decided is known afterwards too.
func TestSpoolRoomForTheLogOnly(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, roomDisk)
	r := startRelay(t)
	a := newAgentVia(t, r, r.grpc, "site-a", "scrape_configs: []\n", "--data.dir="+filepath.Join(disk, "data"), "--push.wait=10s")
	a.start(t)
	r.kill(t)
	a.away(t, r)
	for i := range roomPushes {
		if got := a.pushNoise(t, fmt.Sprint("kept_", i), roomLetters, i); got.status != http.StatusAccepted {
			t.Fatalf("a push before: %d %s", got.status, got.body)
		}
	}
	fillBut(t, disk, 0)
	taken := untilRefused(t, a.url)
	r.start(t) // The agent has no room to keep what the relay decides.
	eventually(t, patience, "all but what is in doubt is decided", func() error {
		if entries := entriesOf(t, a); entries > 1 {
			return fmt.Errorf("%w: %v changes wait", errStatus, entries)
		}
		return nil
	})
	makeRoom(t, disk, roomBytes)
	eventually(t, 20*time.Second, "pushes are taken again", func() error {
		if got := a.ask(t, http.MethodPut, "after", 2); got.status != http.StatusOK {
			return fmt.Errorf("%w: %d %s", errStatus, got.status, got.body)
		}
		return nil
	})
	wantSeries(t, a.url, "relay_agent_spool_writable", 1)
	a.kill(t)
	a.startAlone(t)
	a.attached(t)
	a.wantDrained(t)
	wantSeries(t, r.url, seriesOfJob("after"), 2)
	want := map[string]float64{}
	for job, value := range taken {
		want[fmt.Sprintf(`full{agent="site-a", instance="", job=%q}`, job)] = float64(value)
	}
	wantAllSeries(t, r.url, want)
	// Each was sent once: what was decided while the disk was full was not sent again. What was in doubt until there was room,
	// and the push after it, may have been decided so short before the kill that the journal does not know of it.
	changes, there, err := valueOf(r.url, `relay_changes_total{result="duplicate"}`)
	if err != nil || there && changes > 2 {
		t.Errorf("relay_changes_total{result=\"duplicate\"} = %v (there: %t), %v", changes, there, err)
	}
	a.stop(t)
	r.stop(t)
}
