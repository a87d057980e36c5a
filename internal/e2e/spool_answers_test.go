//go:build linux

package e2e_test

import (
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestSpoolAnswers: what a job hears of a push, as the relay is (T16, T14).
func TestSpoolAnswers(t *testing.T) {
	t.Parallel()
	const wait = 2 * time.Second
	r := startRelay(t)
	a, _ := startSpooling(t, r, "--push.wait="+wait.String())
	a.applied(t, "attached", 1)
	wantSeries(t, r.url, seriesOfJob("attached"), 1)

	r.suspend(t)
	began := time.Now()
	a.kept(t, "silent", 2, "relay "+r.grpc+" did not answer within 2s")
	if took := time.Since(began); took < wait {
		t.Errorf("the push was answered after %v, want no answer before %v", took, wait)
	}
	r.signal(t, syscall.SIGCONT)
	a.wantDrained(t)
	wantSeries(t, r.url, seriesOfJob("silent"), 2)

	r.kill(t)
	a.away(t, r)
	a.kept(t, "away", 3, "relay "+r.grpc+" is not attached")
	wantKept(t, a.ask(t, http.MethodDelete, "attached", 0), "is not attached")
	// What needs only the push is refused here and now.
	for body, reason := range map[string]string{"no exposition at all": "line 1", "m 1 1000\n": "timestamp", "m 1\nm 2\n": "m"} {
		if got, err := fetch(http.MethodPut, a.url+"/metrics/job/bad", strings.NewReader(body)); err != nil || got.status != http.StatusBadRequest || !strings.Contains(got.body, reason) {
			t.Errorf("PUT of %q without a relay: %d %s, %v; want 400 with %q", body, got.status, got.body, err, reason)
		}
	}
	a.back(t, r)
	wantSeries(t, r.url, seriesOfJob("away"), 3)
	wantNoSeries(t, r.url, seriesOfJob("attached"))
}

// TestSpoolTwoRelays: a relay that is away delays nobody; a push that the other refuses is told so with its name, and reaches
// neither; one that is refused after its answer is counted, logged, and shown at the relay (T15, T16).
func TestSpoolTwoRelays(t *testing.T) {
	t.Parallel()
	first := startRelay(t)
	second := startSecondRelay(t, first)
	a, _ := startSpooling(t, first, "--relay.address="+second.grpc, "--push.wait=30s")
	push(t, second.url+"/metrics/job/owner", "# TYPE clash counter\nclash 1\n")
	clash := func(job string) response {
		t.Helper()
		got, err := fetch(http.MethodPut, a.url+"/metrics/job/"+job, strings.NewReader("# TYPE clash gauge\nclash 7\n"))
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	clashOf := func(job string) string { return fmt.Sprintf(`clash{agent="site-a", instance="", job=%q}`, job) }

	first.kill(t)
	a.away(t, first)
	began := time.Now()
	a.applied(t, "one_away", 1)
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("a push waited %v for a relay that is away", took)
	}
	wantSeries(t, second.url, seriesOfJob("one_away"), 1)
	if got := clash("withdrawn"); got.status != http.StatusBadRequest || !strings.HasPrefix(got.body, "relay "+second.grpc+": ") || !strings.Contains(got.body, "is not a COUNTER") {
		t.Errorf("a push that one of two relays refuses: %d %s", got.status, got.body)
	}
	first.start(t)
	a.kill(t) // The withdrawal is on the disk.
	a.startAlone(t)
	a.attached(t)
	a.wantDrained(t)
	wantSeries(t, first.url, seriesOfJob("one_away"), 1)
	wantNoSeries(t, first.url, clashOf("withdrawn"))
	wantNoSeries(t, first.url, `push_time_seconds{agent="site-a", instance="", job="withdrawn"}`)

	first.kill(t)
	second.kill(t)
	a.away(t, first)
	a.away(t, second)
	wantKept(t, clash("late"), "relay "+first.grpc, "relay "+second.grpc)
	first.start(t)
	a.back(t, second)
	wantSeries(t, first.url, clashOf("late"), 7)
	wantNoSeries(t, second.url, clashOf("late"))
	wantSeries(t, a.url, "relay_agent_late_rejections_total", 1)
	if failed, there, err := valueOf(second.url, `push_failure_time_seconds{agent="site-a", instance="", job="late"}`); err != nil || !there || failed == 0 {
		t.Errorf("the relay that refused shows as the failure time %v (there: %v), %v", failed, there, err)
	}
	a.wantLogged(t, "rejected a push that had been answered 202", second.grpc, "late", "is not a COUNTER")
	// The agent lives since before either relay's last start, when nothing but this push was left.
	wantSeries(t, first.url, `relay_changes_total{result="applied"}`, 1)
	wantSeries(t, second.url, `relay_changes_total{result="rejected"}`, 1)
}

// TestSpoolLargePush: a push of the size that the limit allows is larger than any message of the tunnel; it goes through whole,
// at once and after it has waited.
func TestSpoolLargePush(t *testing.T) {
	t.Parallel()
	const largest = 16 << 20
	r := startRelay(t)
	a, _ := startSpooling(t, r, "--push.wait=1m")
	var b strings.Builder
	series := 0
	for ; b.Len() < largest-16100; series++ {
		fmt.Fprintf(&b, "large{n=\"%d\",noise=\"%s\"} %d\n", series, noise(16000), series)
	}
	b.WriteString("# " + strings.Repeat("x", largest-b.Len()-3) + "\n")
	whole := func(job string) {
		t.Helper()
		if got := strings.Count(mustGet(t, r.url+"/metrics"), fmt.Sprintf("large{agent=\"site-a\",instance=\"\",job=%q", job)); got != series {
			t.Errorf("%d series of %d are there", got, series)
		}
	}
	if got, err := fetchPatiently(http.MethodPut, a.url+"/metrics/job/now", b.String()); err != nil || got.status != http.StatusOK {
		t.Errorf("a push of %d bytes: %d %s, %v", b.Len(), got.status, clip(got.body), err)
	}
	whole("now")
	r.kill(t)
	a.away(t, r)
	got, err := fetchPatiently(http.MethodPut, a.url+"/metrics/job/later", b.String())
	if err != nil {
		t.Fatal(err)
	}
	wantKept(t, got)
	r.start(t)
	a.kill(t)
	a.startAlone(t)
	a.attached(t)
	a.wantDrained(t)
	whole("later")
}

// TestSpoolLater: a change that a relay has no room for waits by itself, while others of the same agent go on; it goes through
// once there is room (T13).
func TestSpoolLater(t *testing.T) {
	t.Parallel()
	r := startRelay(t, "--store.max-groups=3")
	a, _ := startSpooling(t, r, "--push.wait=4s") // as long as the second push to the group waits behind the first
	for n, job := range []string{"a", "b", "c"} {
		a.applied(t, job, n)
	}
	a.kept(t, "d", 1, "the store is full: it takes no more than 3 groups", r.grpc)
	a.kept(t, "d", 2)
	for n := range 20 {
		a.applied(t, "a", 10+n)
	}
	wantSeries(t, a.url, "relay_agent_spool_entries", 1)
	wantNoSeries(t, r.url, seriesOfJob("d"))
	if later, _, err := valueOf(r.url, `relay_changes_total{result="later"}`); err != nil || later == 0 {
		t.Errorf("the relay put %v changes off, %v", later, err)
	}
	if got := a.ask(t, http.MethodDelete, "c", 0); got.status != http.StatusAccepted || got.header.Get("X-Relay-Spooled") != "" {
		t.Errorf("DELETE: %d %s", got.status, got.body)
	}
	wantSeries(t, r.url, seriesOfJob("d"), 2)
	a.wantDrained(t)
}
