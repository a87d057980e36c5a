//go:build linux

package e2e_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"pushrelay/internal/faultproxy"
)

// TestSpoolPushTime: a push that waited has the time of the push and not that of its arrival, by the relay's clock, also if the
// agent was started again meanwhile; and each part of a group its own (T15, T19).
func TestSpoolPushTime(t *testing.T) {
	t.Parallel()
	const apart = 3 * time.Second
	r := startRelay(t)
	a, _ := startSpooling(t, r)
	r.kill(t)
	a.away(t, r)
	seconds := func(at time.Time) float64 { return float64(at.UnixMilli()) / 1000 }
	begin := map[string]float64{}
	end := map[string]float64{}
	timed := func(job string) {
		t.Helper()
		begin[job] = seconds(time.Now())
		a.kept(t, job, 1)
		end[job] = seconds(time.Now())
	}
	timed("first")
	<-time.After(apart)
	a.kill(t)
	a.startAlone(t)
	timed("second")
	<-time.After(apart)
	r.start(t)
	a.kill(t) // One that has failed for a while waits before it dials again; a new one does not.
	a.startAlone(t)
	a.attached(t)
	a.wantDrained(t)
	for job := range begin {
		at, there, err := valueOf(r.url, fmt.Sprintf(`push_time_seconds{agent="site-a", instance="", job=%q}`, job))
		// The way to the relay is no part of the age.
		if err != nil || !there || at < begin[job]-0.01 || at > end[job]+1 {
			t.Errorf("push_time_seconds of %s is %v (there: %v), %v; it was pushed between %v and %v", job, at, there, err, begin[job], end[job])
		}
	}
}

// TestSpoolCertificateReplaced: the certificate of an agent expires while pushes wait; they are kept and answered with the
// reason, and go through once the files are replaced, without a restart.
func TestSpoolCertificateReplaced(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "CA")
	r := startRelay(t, ca.sign(t, "relay", relayTemplate()).relayFlags(ca)...)
	short := ca.sign(t, "short", lasting(agentTemplate(t, siteA), 5*time.Second))
	a := startAgentWith(t, r, "site-a", "scrape_configs: []\n", append(short.agentFlags(ca), "--data.dir="+filepath.Join(t.TempDir(), "agent"))...)
	a.applied(t, "before", 1)
	session := r.session(t, "site-a")
	file := filepath.Base(short.certFile)
	eventually(t, 30*time.Second, "the certificate has expired", func() error {
		got := a.ask(t, http.MethodPut, "waiting", 2)
		if got.status != http.StatusAccepted || !strings.Contains(got.body, file) || !strings.Contains(got.body, "expired at") {
			return fmt.Errorf("%w: %d %s", errStatus, got.status, got.body)
		}
		return nil
	})
	a.kept(t, "waiting_too", 3, file)
	renewed := ca.sign(t, "renewed", lasting(agentTemplate(t, siteA), time.Hour))
	short.replaceBy(t, renewed)
	r.wantBack(t, session)
	a.wantDrained(t)
	wantSeries(t, r.url, seriesOfJob("waiting"), 2)
	wantSeries(t, r.url, seriesOfJob("waiting_too"), 3)
	a.applied(t, "after", 4)
	if got := r.session(t, "site-a").CertificateNotAfter; got == nil || !got.Equal(renewed.notAfter(t)) {
		t.Errorf("certificate_not_after = %v, want %v", got, renewed.notAfter(t))
	}
}

// TestSpoolSlowUplink: a backlog of many groups that was kept over an outage drains through a narrow uplink, beside scrapes that
// all succeed and pushes that go through, in one session (T5).
func TestSpoolSlowUplink(t *testing.T) {
	t.Parallel()
	const bytesPerSecond = 4_000_000 / 8
	const groups, groupBytes = 300, 10_000
	address := serveHandler(t, newStagedTarget())
	r := startRelay(t)
	s := startSite(t, r, "site-a", configOf(address, stagedPaths...), "--data.dir="+filepath.Join(t.TempDir(), "agent"))
	before := r.session(t, "site-a")
	s.network.Set(faultproxy.Conditions{Refuse: true})
	s.network.Cut(faultproxy.Reset)
	var pushing sync.WaitGroup
	for worker := range 8 {
		pushing.Go(func() {
			for n := worker; n < groups; n += 8 {
				body := fmt.Sprintf("slow{noise=%q} %d\n", noise(groupBytes), n)
				if got, err := fetch(http.MethodPut, fmt.Sprintf("%s/metrics/job/slow/n/%d", s.url, n), strings.NewReader(body)); err != nil || got.status/100 != 2 {
					t.Errorf("push %d: %d %s, %v", n, got.status, got.body, err)
				}
			}
		})
	}
	pushing.Wait()
	s.network.Set(faultproxy.Conditions{BytesPerSecond: bytesPerSecond})
	r.wantBack(t, before)
	session := r.session(t, "site-a")
	began, waiting := time.Now(), entriesOf(t, s.agent)
	if waiting < groups/2 {
		t.Fatalf("%v changes wait once the relay is back, want a backlog", waiting)
	}

	url := r.targetURL("site-a", "metrics", address)
	scrapes, slowest := 0, time.Duration(0)
	for entriesOf(t, s.agent) > 0 && time.Since(began) < patience {
		asked := time.Now()
		if err := scrapedAs(url, stagedBody); err != nil { // in the 10 s that Prometheus gives it
			t.Errorf("scrape beside the backlog, after %v: %v", time.Since(asked), err)
		}
		scrapes++
		slowest = max(slowest, time.Since(asked))
		<-time.After(100 * time.Millisecond)
	}
	took := time.Since(began)
	t.Logf("%v groups of %d KB drained in %v, beside %d scrapes, the slowest in %v", waiting, groupBytes/1000, took, scrapes, slowest)
	if least := time.Duration(waiting * groupBytes / bytesPerSecond * 0.7 * float64(time.Second)); took < least {
		t.Errorf("the backlog took %v, less than %v: the link was not narrow", took, least)
	}
	r.wantSameSession(t, session)
	page, err := seriesOf(mustGet(t, r.url+"/metrics"))
	if err != nil {
		t.Fatal(err)
	}
	there := 0
	for series := range page {
		if strings.HasPrefix(series, "slow{") {
			there++
		}
	}
	if there != groups {
		t.Errorf("%d groups of %d are there", there, groups)
	}
}
