//go:build linux

package spool_test

import (
	"bytes"
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
	"pushrelay/internal/e2e/program"
)

// spoolSegment is the first file of a spool's journal.
func spoolSegment(dataDir string) string {
	return filepath.Join(dataDir, "spool", "0000000000000001.log")
}

// TestSpoolFull: a full spool takes nothing more, says so, and drops nothing, whatever is killed; what takes no more room than
// it frees is taken all the same (T22).
func TestSpoolFull(t *testing.T) {
	t.Parallel()
	r := house.StartRelay(t)
	a, _ := house.StartSpooling(t, r, "--spool.max-bytes=64KiB")
	r.Kill(t)
	a.Away(t, r)
	jobs := 0
	var got client.Response
	for got = a.PushNoise(t, "full_0", 8000, 0); got.Status == http.StatusAccepted && jobs < 100; got = a.PushNoise(t, fmt.Sprint("full_", jobs), 8000, jobs) {
		jobs++
	}
	if got.Status != http.StatusServiceUnavailable || got.Header.Get("Retry-After") == "" || !strings.Contains(got.Body, "--spool.max-bytes") || jobs < 4 {
		t.Fatalf("after %d pushes of 8 KB: %d %q, Retry-After %q", jobs, got.Status, got.Body, got.Header.Get("Retry-After"))
	}
	client.WantSeries(t, a.URL, "relay_agent_spool_full_total", 1)
	a.Kill(t)
	a.StartAlone(t)
	if got := a.PushNoise(t, "full_more", 8000, 1); got.Status != http.StatusServiceUnavailable {
		t.Errorf("a push after a restart: %d %s", got.Status, got.Body)
	}
	house.WantKept(t, a.PushNoise(t, "full_1", 4000, 100)) // in the place of a larger one
	house.WantKept(t, a.Ask(t, http.MethodDelete, "full_0", 0))
	a.Back(t, r)
	client.WantNoSeries(t, r.URL, house.SeriesOfJob("full_0"))
	client.WantSeries(t, r.URL, house.SeriesOfJob("full_1"), 100)
	for n := 2; n < jobs; n++ {
		client.WantSeries(t, r.URL, house.SeriesOfJob(fmt.Sprint("full_", n)), float64(n))
	}
	// The newest content of each group is kept for a relay that loses its own (T18); the room of the deleted one is free.
	if got := a.PushNoise(t, "full_more", 6000, 5); got.Status != http.StatusOK {
		t.Errorf("a push once the relay is back: %d %s", got.Status, got.Body)
	}
	client.WantSeries(t, r.URL, house.SeriesOfJob("full_more"), 5)
}

// TestSpoolUnwritableDisk: while the disk of the agent is full, pushes are refused with 503; then they are taken again without
// a restart, and nothing that was answered 202 is lost.
func TestSpoolUnwritableDisk(t *testing.T) {
	t.Parallel()
	disk := faultdisk.SmallDisk(t, 8<<20)
	r := house.StartRelay(t)
	a := house.NewAgentVia(t, r, r.GRPC, "site-a", "scrape_configs: []\n", "--data.dir="+filepath.Join(disk, "data"), "--push.wait=10s")
	a.Start(t)
	a.Applied(t, "before", 1)
	r.Kill(t)
	a.Away(t, r)
	ballast := filepath.Join(disk, "ballast")
	faultdisk.Fill(t, ballast)
	accepted := map[string]int{}
	var refused client.Response
	client.Eventually(t, 30*time.Second, "a push is refused", func() error {
		job := fmt.Sprint("during_", len(accepted))
		refused = a.PushNoise(t, job, 16000, len(accepted))
		switch refused.Status {
		case http.StatusAccepted:
			accepted[job] = len(accepted)
			return fmt.Errorf("%w: %d pushes were taken", client.ErrStatus, len(accepted))
		case http.StatusServiceUnavailable:
			return nil
		default:
			t.Fatalf("a push on a full disk: %d %s, want 503", refused.Status, refused.Body)
			return nil
		}
	})
	// The push that found the disk full may wait for it; the next one is told at once.
	refused = a.PushNoise(t, "more", 16000, 1)
	if refused.Status != http.StatusServiceUnavailable || refused.Header.Get("Retry-After") == "" || !strings.Contains(refused.Body, "keeping the push at the agent") {
		t.Errorf("a push on a full disk: %d %q, Retry-After %q", refused.Status, refused.Body, refused.Header.Get("Retry-After"))
	}
	client.WantSeries(t, a.URL, "relay_agent_spool_writable", 0)
	if got, err := client.Fetch(http.MethodGet, a.URL+"/-/ready", nil); err != nil || got.Status != http.StatusServiceUnavailable || !strings.Contains(got.Body, "the spool takes no pushes") {
		t.Errorf("/-/ready on a full disk: %d %q, %v", got.Status, got.Body, err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	client.Eventually(t, 30*time.Second, "pushes are taken again", func() error {
		got := a.Ask(t, http.MethodPut, "after", 2)
		if got.Status != http.StatusAccepted {
			return fmt.Errorf("%w: %d %s", client.ErrStatus, got.Status, got.Body)
		}
		return nil
	})
	client.WantSeries(t, a.URL, "relay_agent_spool_writable", 1)
	a.Kill(t)
	a.StartAlone(t)
	a.Back(t, r)
	client.WantSeries(t, r.URL, house.SeriesOfJob("before"), 1)
	client.WantSeries(t, r.URL, house.SeriesOfJob("after"), 2)
	for job, value := range accepted {
		client.WantSeries(t, r.URL, house.SeriesOfJob(job), float64(value))
	}
	t.Logf("%d pushes were taken while the disk was full", len(accepted))
}

// TestSpoolTornTail leaves half of its last batch in the journal, as a power cut does: what is before it arrives, and
// the tail is kept aside.
func TestSpoolTornTail(t *testing.T) {
	t.Parallel()
	r := house.StartRelay(t)
	a, dataDir := house.StartSpooling(t, r)
	r.Kill(t)
	a.Away(t, r)
	a.Kept(t, "one", 1)
	a.Kept(t, "two", 2)
	a.Kill(t)
	segment := spoolSegment(dataDir)
	faultdisk.Tear(t, segment)
	a.StartAlone(t)
	a.WantLogged(t, "torn tail of the journal was cut off")
	if tails, err := filepath.Glob(segment + ".tail-*"); err != nil || len(tails) != 1 {
		t.Errorf("tails saved aside: %q, %v", tails, err)
	}
	a.Back(t, r)
	client.WantSeries(t, r.URL, house.SeriesOfJob("one"), 1)
	client.WantNoSeries(t, r.URL, house.SeriesOfJob("two"))
	a.Applied(t, "three", 3)
	client.WantSeries(t, r.URL, house.SeriesOfJob("three"), 3)
}

// TestSpoolDamaged flips a byte in the middle of the journal: the agent refuses to start, changes nothing, and says where it is
// and how it goes on.
func TestSpoolDamaged(t *testing.T) {
	t.Parallel()
	r := house.StartRelay(t)
	a, dataDir := house.StartSpooling(t, r)
	for n, job := range []string{"one", "damaged", "three"} {
		a.Applied(t, job, n)
	}
	a.Kill(t)
	segment := spoolSegment(dataDir)
	content := faultdisk.Damage(t, segment, "damaged", 'D')
	refused := program.Output(t, a.Command)
	if refused.Code != 1 {
		t.Errorf("a start from a damaged journal: exit code %d, want 1", refused.Code)
	}
	for _, part := range []string{segment, "at offset", "nothing was changed", "relay-agent repair --data.dir"} {
		if !strings.Contains(refused.Stderr, part) {
			t.Errorf("the refusal does not say %q:\n%s", part, refused.Stderr)
		}
	}
	if after, err := os.ReadFile(segment); err != nil || !bytes.Equal(after, content) {
		t.Errorf("the refused start has changed the journal: %v", err)
	}
	// Another agent on a directory that is in use is refused too.
	b, inUse := house.StartSpooling(t, r)
	if second := program.Output(t, b.On(t, inUse).Command); second.Code != 1 || !strings.Contains(second.Stderr, "is in use by another agent") {
		t.Errorf("a second agent on one data dir: exit code %d\n%s", second.Code, second.Stderr)
	}
}
