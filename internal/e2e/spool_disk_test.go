//go:build linux

package e2e_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// spoolSegment is the first file of a spool's journal.
func spoolSegment(dataDir string) string {
	return filepath.Join(dataDir, "spool", "0000000000000001.log")
}

// pushNoise pushes something that no compression makes small.
func (a *agent) pushNoise(t testing.TB, job string, letters, value int) response {
	t.Helper()
	got, err := fetch(http.MethodPut, a.url+"/metrics/job/"+job, strings.NewReader(fmt.Sprintf("# %s\n%s %d\n", noise(letters), job, value)))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestSpoolFull: a full spool takes nothing more, says so, and drops nothing, whatever is killed; what takes no more room than
// it frees is taken all the same (T22).
func TestSpoolFull(t *testing.T) {
	t.Parallel()
	r := startRelay(t)
	a, _ := startSpooling(t, r, "--spool.max-bytes=64KiB")
	r.kill(t)
	a.away(t, r)
	jobs := 0
	var got response
	for got = a.pushNoise(t, "full_0", 8000, 0); got.status == http.StatusAccepted && jobs < 100; got = a.pushNoise(t, fmt.Sprint("full_", jobs), 8000, jobs) {
		jobs++
	}
	if got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") == "" || !strings.Contains(got.body, "--spool.max-bytes") || jobs < 4 {
		t.Fatalf("after %d pushes of 8 KB: %d %q, Retry-After %q", jobs, got.status, got.body, got.header.Get("Retry-After"))
	}
	wantSeries(t, a.url, "relay_agent_spool_full_total", 1)
	a.kill(t)
	a.startAlone(t)
	if got := a.pushNoise(t, "full_more", 8000, 1); got.status != http.StatusServiceUnavailable {
		t.Errorf("a push after a restart: %d %s", got.status, got.body)
	}
	wantKept(t, a.pushNoise(t, "full_1", 4000, 100)) // in the place of a larger one
	wantKept(t, a.ask(t, http.MethodDelete, "full_0", 0))
	a.back(t, r)
	wantNoSeries(t, r.url, seriesOfJob("full_0"))
	wantSeries(t, r.url, seriesOfJob("full_1"), 100)
	for n := 2; n < jobs; n++ {
		wantSeries(t, r.url, seriesOfJob(fmt.Sprint("full_", n)), float64(n))
	}
	// The newest content of each group is kept for a relay that loses its own (T18); the room of the deleted one is free.
	if got := a.pushNoise(t, "full_more", 6000, 5); got.status != http.StatusOK {
		t.Errorf("a push once the relay is back: %d %s", got.status, got.body)
	}
	wantSeries(t, r.url, seriesOfJob("full_more"), 5)
}

// TestSpoolUnwritableDisk: while the disk of the agent is full, pushes are refused with 503; then they are taken again without
// a restart, and nothing that was answered 202 is lost.
func TestSpoolUnwritableDisk(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, 8<<20)
	r := startRelay(t)
	a := newAgentVia(t, r, r.grpc, "site-a", "scrape_configs: []\n", "--data.dir="+filepath.Join(disk, "data"), "--push.wait=10s")
	a.start(t)
	a.applied(t, "before", 1)
	r.kill(t)
	a.away(t, r)
	ballast := filepath.Join(disk, "ballast")
	fill(t, ballast)
	accepted := map[string]int{}
	var refused response
	eventually(t, 30*time.Second, "a push is refused", func() error {
		job := fmt.Sprint("during_", len(accepted))
		refused = a.pushNoise(t, job, 16000, len(accepted))
		switch refused.status {
		case http.StatusAccepted:
			accepted[job] = len(accepted)
			return fmt.Errorf("%w: %d pushes were taken", errStatus, len(accepted))
		case http.StatusServiceUnavailable:
			return nil
		default:
			t.Fatalf("a push on a full disk: %d %s, want 503", refused.status, refused.body)
			return nil
		}
	})
	// The push that found the disk full may wait for it; the next one is told at once.
	refused = a.pushNoise(t, "more", 16000, 1)
	if refused.status != http.StatusServiceUnavailable || refused.header.Get("Retry-After") == "" || !strings.Contains(refused.body, "keeping the push at the agent") {
		t.Errorf("a push on a full disk: %d %q, Retry-After %q", refused.status, refused.body, refused.header.Get("Retry-After"))
	}
	wantSeries(t, a.url, "relay_agent_spool_writable", 0)
	if got, err := fetch(http.MethodGet, a.url+"/-/ready", nil); err != nil || got.status != http.StatusServiceUnavailable || !strings.Contains(got.body, "the spool takes no pushes") {
		t.Errorf("/-/ready on a full disk: %d %q, %v", got.status, got.body, err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "pushes are taken again", func() error {
		got := a.ask(t, http.MethodPut, "after", 2)
		if got.status != http.StatusAccepted {
			return fmt.Errorf("%w: %d %s", errStatus, got.status, got.body)
		}
		return nil
	})
	wantSeries(t, a.url, "relay_agent_spool_writable", 1)
	a.kill(t)
	a.startAlone(t)
	a.back(t, r)
	wantSeries(t, r.url, seriesOfJob("before"), 1)
	wantSeries(t, r.url, seriesOfJob("after"), 2)
	for job, value := range accepted {
		wantSeries(t, r.url, seriesOfJob(job), float64(value))
	}
	t.Logf("%d pushes were taken while the disk was full", len(accepted))
}

// TestSpoolTornTail leaves half of its last batch in the journal, as a power cut does: what is before it arrives, and
// the tail is kept aside.
func TestSpoolTornTail(t *testing.T) {
	t.Parallel()
	r := startRelay(t)
	a, dataDir := startSpooling(t, r)
	r.kill(t)
	a.away(t, r)
	a.kept(t, "one", 1)
	a.kept(t, "two", 2)
	a.kill(t)
	segment := spoolSegment(dataDir)
	tear(t, segment)
	a.startAlone(t)
	a.wantLogged(t, "torn tail of the journal was cut off")
	if tails, err := filepath.Glob(segment + ".tail-*"); err != nil || len(tails) != 1 {
		t.Errorf("tails saved aside: %q, %v", tails, err)
	}
	a.back(t, r)
	wantSeries(t, r.url, seriesOfJob("one"), 1)
	wantNoSeries(t, r.url, seriesOfJob("two"))
	a.applied(t, "three", 3)
	wantSeries(t, r.url, seriesOfJob("three"), 3)
}

// TestSpoolDamaged flips a byte in the middle of the journal: the agent refuses to start, changes nothing, and says where it is
// and how it goes on.
func TestSpoolDamaged(t *testing.T) {
	t.Parallel()
	r := startRelay(t)
	a, dataDir := startSpooling(t, r)
	for n, job := range []string{"one", "damaged", "three"} {
		a.applied(t, job, n)
	}
	a.kill(t)
	segment := spoolSegment(dataDir)
	content := damage(t, segment, "damaged", 'D')
	refused := output(t, a.command)
	if refused.code != 1 {
		t.Errorf("a start from a damaged journal: exit code %d, want 1", refused.code)
	}
	for _, part := range []string{segment, "at offset", "nothing was changed", "relay-agent repair --data.dir"} {
		if !strings.Contains(refused.stderr, part) {
			t.Errorf("the refusal does not say %q:\n%s", part, refused.stderr)
		}
	}
	if after, err := os.ReadFile(segment); err != nil || !bytes.Equal(after, content) {
		t.Errorf("the refused start has changed the journal: %v", err)
	}
	// Another agent on a directory that is in use is refused too.
	b, inUse := startSpooling(t, r)
	if second := output(t, b.on(t, inUse).command); second.code != 1 || !strings.Contains(second.stderr, "is in use by another agent") {
		t.Errorf("a second agent on one data dir: exit code %d\n%s", second.code, second.stderr)
	}
}
