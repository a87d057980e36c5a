//go:build linux

package durability_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/faultdisk"
	"pushrelay/internal/e2e/house"
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
	faultdisk.Fill(t, ballast)
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
		fmt.Fprintf(&b, "large{l=\"%s\"} %d\n", faultdisk.Noise(15000), value)
	}
	return b.String()
}

// untilRefused pushes until a push is refused with 503, and returns the values that were taken by job.
func untilRefused(t *testing.T, url string) map[string]int {
	t.Helper()
	taken := map[string]int{}
	for value := range 1000 {
		job := fmt.Sprint("during_", value)
		got, err := client.Fetch(http.MethodPut, url+"/metrics/job/"+job, strings.NewReader(fmt.Sprintf("full %d\n%s", value, large(1, value))))
		switch {
		case err != nil:
			t.Fatal(err)
		case got.Status == http.StatusServiceUnavailable:
			return taken
		case got.Status != http.StatusOK && got.Status != http.StatusAccepted:
			t.Fatalf("a push on a disk that fills up: %d %s", got.Status, got.Body)
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
			disk := faultdisk.SmallDisk(t, roomDisk)
			relay := house.StartRelay(t)
			relay.Stop(t)
			relay.DataDir = filepath.Join(disk, "data")
			for i, arg := range relay.Command.Args {
				if strings.HasPrefix(arg, "--data.dir=") {
					relay.Command.Args[i] = "--data.dir=" + relay.DataDir
				}
			}
			relay.Start(t)
			for i := range roomPushes {
				if got, err := client.Fetch(http.MethodPut, fmt.Sprint(relay.URL, "/metrics/job/kept_", i), strings.NewReader(large(5, i))); err != nil || got.Status != http.StatusOK {
					t.Fatalf("a push before: %d %s, %v", got.Status, got.Body, err)
				}
			}
			fillBut(t, disk, 0)
			taken := untilRefused(t, relay.URL)
			if restart {
				relay.Kill(t)
				relay.Start(t)
			}
			makeRoom(t, disk, roomBytes/2)
			client.Eventually(t, 20*time.Second, "pushes are taken again", func() error {
				if got := client.PushOne(t, relay.URL, "after", 2); got != http.StatusOK {
					return fmt.Errorf("%w: %d", client.ErrStatus, got)
				}
				return nil
			})
			client.WantSeries(t, relay.URL, "relay_store_writable", 1)
			client.WantSeries(t, relay.URL, "relay_store_snapshot_timestamp_seconds", 0)
			relay.Kill(t)
			relay.Start(t)
			want := map[string]float64{`full{instance="", job="after"}`: 2}
			for job, value := range taken {
				want[fmt.Sprintf(`full{instance="", job=%q}`, job)] = float64(value)
			}
			client.WantAllSeries(t, relay.URL, want)
			relay.Stop(t)
		})
	}
}

// TestSpoolRoomForTheLogOnly is the same for a spool, with a relay that comes back and decides while the disk is full: what it
// decided is known afterwards too.
func TestSpoolRoomForTheLogOnly(t *testing.T) {
	t.Parallel()
	disk := faultdisk.SmallDisk(t, roomDisk)
	r := house.StartRelay(t)
	a := house.NewAgentVia(t, r, r.GRPC, "site-a", "scrape_configs: []\n", "--data.dir="+filepath.Join(disk, "data"), "--push.wait=10s")
	a.Start(t)
	r.Kill(t)
	a.Away(t, r)
	for i := range roomPushes {
		if got := a.PushNoise(t, fmt.Sprint("kept_", i), roomLetters, i); got.Status != http.StatusAccepted {
			t.Fatalf("a push before: %d %s", got.Status, got.Body)
		}
	}
	fillBut(t, disk, 0)
	taken := untilRefused(t, a.URL)
	r.Start(t) // The agent has no room to keep what the relay decides.
	client.Eventually(t, client.Patience, "all but what is in doubt is decided", func() error {
		if entries := house.EntriesOf(t, a); entries > 1 {
			return fmt.Errorf("%w: %v changes wait", client.ErrStatus, entries)
		}
		return nil
	})
	makeRoom(t, disk, roomBytes)
	client.Eventually(t, 20*time.Second, "pushes are taken again", func() error {
		if got := a.Ask(t, http.MethodPut, "after", 2); got.Status != http.StatusOK {
			return fmt.Errorf("%w: %d %s", client.ErrStatus, got.Status, got.Body)
		}
		return nil
	})
	client.WantSeries(t, a.URL, "relay_agent_spool_writable", 1)
	a.Kill(t)
	a.StartAlone(t)
	a.Attached(t)
	a.WantDrained(t)
	client.WantSeries(t, r.URL, house.SeriesOfJob("after"), 2)
	want := map[string]float64{}
	for job, value := range taken {
		want[fmt.Sprintf(`full{agent="site-a", instance="", job=%q}`, job)] = float64(value)
	}
	client.WantAllSeries(t, r.URL, want)
	// Each was sent once: what was decided while the disk was full was not sent again. What was in doubt until there was room,
	// and the push after it, may have been decided so short before the kill that the journal does not know of it.
	changes, there, err := client.ValueOf(r.URL, `relay_changes_total{result="duplicate"}`)
	if err != nil || there && changes > 2 {
		t.Errorf("relay_changes_total{result=\"duplicate\"} = %v (there: %t), %v", changes, there, err)
	}
	a.Stop(t)
	r.Stop(t)
}
