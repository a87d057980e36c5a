//go:build linux

package spool_test

import (
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/faultdisk"
	"pushrelay/internal/e2e/house"
)

// TestSpoolAnswers: what a job hears of a push, as the relay is (T16, T14).
func TestSpoolAnswers(t *testing.T) {
	t.Parallel()
	const wait = 2 * time.Second
	r := house.StartRelay(t)
	a, _ := house.StartSpooling(t, r, "--push.wait="+wait.String())
	a.Applied(t, "attached", 1)
	client.WantSeries(t, r.URL, house.SeriesOfJob("attached"), 1)

	r.Suspend(t)
	began := time.Now()
	a.Kept(t, "silent", 2, "relay "+r.GRPC+" did not answer within 2s")
	if took := time.Since(began); took < wait {
		t.Errorf("the push was answered after %v, want no answer before %v", took, wait)
	}
	r.Signal(t, syscall.SIGCONT)
	a.WantDrained(t)
	client.WantSeries(t, r.URL, house.SeriesOfJob("silent"), 2)

	r.Kill(t)
	a.Away(t, r)
	a.Kept(t, "away", 3, "relay "+r.GRPC+" is not attached")
	house.WantKept(t, a.Ask(t, http.MethodDelete, "attached", 0), "is not attached")
	// What needs only the push is refused here and now.
	for body, reason := range map[string]string{"no exposition at all": "line 1", "m 1 1000\n": "timestamp", "m 1\nm 2\n": "m"} {
		if got, err := client.Fetch(http.MethodPut, a.URL+"/metrics/job/bad", strings.NewReader(body)); err != nil || got.Status != http.StatusBadRequest || !strings.Contains(got.Body, reason) {
			t.Errorf("PUT of %q without a relay: %d %s, %v; want 400 with %q", body, got.Status, got.Body, err, reason)
		}
	}
	a.Back(t, r)
	client.WantSeries(t, r.URL, house.SeriesOfJob("away"), 3)
	client.WantNoSeries(t, r.URL, house.SeriesOfJob("attached"))
}

// TestSpoolTwoRelays: a relay that is away delays nobody; a push that the other refuses is told so with its name, and reaches
// neither; one that is refused after its answer is counted, logged, and shown at the relay (T15, T16).
func TestSpoolTwoRelays(t *testing.T) {
	t.Parallel()
	first := house.StartRelay(t)
	second := house.StartSecondRelay(t, first)
	a, _ := house.StartSpooling(t, first, "--relay.address="+second.GRPC, "--push.wait=30s")
	client.Push(t, second.URL+"/metrics/job/owner", "# TYPE clash counter\nclash 1\n")
	clash := func(job string) client.Response {
		t.Helper()
		got, err := client.Fetch(http.MethodPut, a.URL+"/metrics/job/"+job, strings.NewReader("# TYPE clash gauge\nclash 7\n"))
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	clashOf := func(job string) string { return fmt.Sprintf(`clash{agent="site-a", instance="", job=%q}`, job) }

	first.Kill(t)
	a.Away(t, first)
	began := time.Now()
	a.Applied(t, "one_away", 1)
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("a push waited %v for a relay that is away", took)
	}
	client.WantSeries(t, second.URL, house.SeriesOfJob("one_away"), 1)
	if got := clash("withdrawn"); got.Status != http.StatusBadRequest || !strings.HasPrefix(got.Body, "relay "+second.GRPC+": ") || !strings.Contains(got.Body, "is not a COUNTER") {
		t.Errorf("a push that one of two relays refuses: %d %s", got.Status, got.Body)
	}
	first.Start(t)
	a.Kill(t) // The withdrawal is on the disk.
	a.StartAlone(t)
	a.Attached(t)
	a.WantDrained(t)
	client.WantSeries(t, first.URL, house.SeriesOfJob("one_away"), 1)
	client.WantNoSeries(t, first.URL, clashOf("withdrawn"))
	client.WantNoSeries(t, first.URL, `push_time_seconds{agent="site-a", instance="", job="withdrawn"}`)

	first.Kill(t)
	second.Kill(t)
	a.Away(t, first)
	a.Away(t, second)
	house.WantKept(t, clash("late"), "relay "+first.GRPC, "relay "+second.GRPC)
	first.Start(t)
	a.Back(t, second)
	client.WantSeries(t, first.URL, clashOf("late"), 7)
	client.WantNoSeries(t, second.URL, clashOf("late"))
	client.WantSeries(t, a.URL, "relay_agent_late_rejections_total", 1)
	if failed, there, err := client.ValueOf(second.URL, `push_failure_time_seconds{agent="site-a", instance="", job="late"}`); err != nil || !there || failed == 0 {
		t.Errorf("the relay that refused shows as the failure time %v (there: %v), %v", failed, there, err)
	}
	a.WantLogged(t, "rejected a push that had been answered 202", second.GRPC, "late", "is not a COUNTER")
	// The agent lives since before either relay's last start, when nothing but this push was left.
	client.WantSeries(t, first.URL, `relay_changes_total{result="applied"}`, 1)
	client.WantSeries(t, second.URL, `relay_changes_total{result="rejected"}`, 1)
}

// TestSpoolLargePush: a push of the size that the limit allows is larger than any message of the tunnel; it goes through whole,
// at once and after it has waited.
func TestSpoolLargePush(t *testing.T) {
	t.Parallel()
	const largest = 16 << 20
	r := house.StartRelay(t)
	a, _ := house.StartSpooling(t, r, "--push.wait=1m")
	var b strings.Builder
	series := 0
	for ; b.Len() < largest-16100; series++ {
		fmt.Fprintf(&b, "large{n=\"%d\",noise=\"%s\"} %d\n", series, faultdisk.Noise(16000), series)
	}
	b.WriteString("# " + strings.Repeat("x", largest-b.Len()-3) + "\n")
	whole := func(job string) {
		t.Helper()
		if got := strings.Count(client.MustGet(t, r.URL+"/metrics"), fmt.Sprintf("large{agent=\"site-a\",instance=\"\",job=%q", job)); got != series {
			t.Errorf("%d series of %d are there", got, series)
		}
	}
	if got, err := client.FetchPatiently(http.MethodPut, a.URL+"/metrics/job/now", b.String()); err != nil || got.Status != http.StatusOK {
		t.Errorf("a push of %d bytes: %d %s, %v", b.Len(), got.Status, client.Clip(got.Body), err)
	}
	whole("now")
	r.Kill(t)
	a.Away(t, r)
	got, err := client.FetchPatiently(http.MethodPut, a.URL+"/metrics/job/later", b.String())
	if err != nil {
		t.Fatal(err)
	}
	house.WantKept(t, got)
	r.Start(t)
	a.Kill(t)
	a.StartAlone(t)
	a.Attached(t)
	a.WantDrained(t)
	whole("later")
}
