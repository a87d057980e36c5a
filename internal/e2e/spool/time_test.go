//go:build linux

package spool_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"pushrelay/internal/e2e/certificate"
	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/exporter"
	"pushrelay/internal/e2e/faultdisk"
	"pushrelay/internal/e2e/house"
	"pushrelay/internal/faultproxy"
)

// TestSpoolPushTime: a push that waited has the time of the push and not that of its arrival, by the relay's clock, also if the
// agent was started again meanwhile; and each part of a group its own (T15, T19).
func TestSpoolPushTime(t *testing.T) {
	t.Parallel()
	const apart = 3 * time.Second
	r := house.StartRelay(t)
	a, _ := house.StartSpooling(t, r)
	r.Kill(t)
	a.Away(t, r)
	seconds := func(at time.Time) float64 { return float64(at.UnixMilli()) / 1000 }
	begin := map[string]float64{}
	end := map[string]float64{}
	timed := func(job string) {
		t.Helper()
		begin[job] = seconds(time.Now())
		a.Kept(t, job, 1)
		end[job] = seconds(time.Now())
	}
	timed("first")
	<-time.After(apart)
	a.Kill(t)
	a.StartAlone(t)
	timed("second")
	<-time.After(apart)
	r.Start(t)
	a.Kill(t) // One that has failed for a while waits before it dials again; a new one does not.
	a.StartAlone(t)
	a.Attached(t)
	a.WantDrained(t)
	for job := range begin {
		at, there, err := client.ValueOf(r.URL, fmt.Sprintf(`push_time_seconds{agent="site-a", instance="", job=%q}`, job))
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
	ca := certificate.New(t, "CA")
	r := house.StartRelay(t, ca.Sign(t, "relay", certificate.RelayTemplate()).RelayFlags(ca)...)
	short := ca.Sign(t, "short", certificate.Lasting(certificate.AgentTemplate(t, certificate.SiteA), 5*time.Second))
	a := house.StartAgentWith(t, r, "site-a", "scrape_configs: []\n", append(short.AgentFlags(ca), "--data.dir="+filepath.Join(t.TempDir(), "agent"))...)
	a.Applied(t, "before", 1)
	session := r.Session(t, "site-a")
	file := filepath.Base(short.CertFile)
	client.Eventually(t, 30*time.Second, "the certificate has expired", func() error {
		got := a.Ask(t, http.MethodPut, "waiting", 2)
		if got.Status != http.StatusAccepted || !strings.Contains(got.Body, file) || !strings.Contains(got.Body, "expired at") {
			return fmt.Errorf("%w: %d %s", client.ErrStatus, got.Status, got.Body)
		}
		return nil
	})
	a.Kept(t, "waiting_too", 3, file)
	renewed := ca.Sign(t, "renewed", certificate.Lasting(certificate.AgentTemplate(t, certificate.SiteA), time.Hour))
	short.ReplaceBy(t, renewed)
	r.WantBack(t, session)
	a.WantDrained(t)
	client.WantSeries(t, r.URL, house.SeriesOfJob("waiting"), 2)
	client.WantSeries(t, r.URL, house.SeriesOfJob("waiting_too"), 3)
	a.Applied(t, "after", 4)
	if got := r.Session(t, "site-a").CertificateNotAfter; got == nil || !got.Equal(renewed.NotAfter(t)) {
		t.Errorf("certificate_not_after = %v, want %v", got, renewed.NotAfter(t))
	}
}

// TestSpoolSlowUplink: a backlog of many groups that was kept over an outage drains through a narrow uplink, beside scrapes that
// all succeed and pushes that go through, in one session (T5).
func TestSpoolSlowUplink(t *testing.T) {
	t.Parallel()
	const bytesPerSecond = 4_000_000 / 8
	const groups, groupBytes = 300, 10_000
	address := exporter.Serve(t, exporter.NewStaged())
	r := house.StartRelay(t)
	s := house.StartSite(t, r, "site-a", house.ConfigOf(address, exporter.StagedPaths...), "--data.dir="+filepath.Join(t.TempDir(), "agent"))
	before := r.Session(t, "site-a")
	s.Network.Set(faultproxy.Conditions{Refuse: true})
	s.Network.Cut(faultproxy.Reset)
	var pushing sync.WaitGroup
	for worker := range 8 {
		pushing.Go(func() {
			for n := worker; n < groups; n += 8 {
				body := fmt.Sprintf("slow{noise=%q} %d\n", faultdisk.Noise(groupBytes), n)
				if got, err := client.Fetch(http.MethodPut, fmt.Sprintf("%s/metrics/job/slow/n/%d", s.URL, n), strings.NewReader(body)); err != nil || got.Status/100 != 2 {
					t.Errorf("push %d: %d %s, %v", n, got.Status, got.Body, err)
				}
			}
		})
	}
	pushing.Wait()
	s.Network.Set(faultproxy.Conditions{BytesPerSecond: bytesPerSecond})
	r.WantBack(t, before)
	session := r.Session(t, "site-a")
	began, waiting := time.Now(), house.EntriesOf(t, s.Agent)
	if waiting < groups/2 {
		t.Fatalf("%v changes wait once the relay is back, want a backlog", waiting)
	}

	url := r.TargetURL("site-a", "metrics", address)
	scrapes, slowest := 0, time.Duration(0)
	for house.EntriesOf(t, s.Agent) > 0 && time.Since(began) < client.Patience {
		asked := time.Now()
		if err := client.ScrapedAs(url, exporter.StagedBody); err != nil { // in the 10 s that Prometheus gives it
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
	r.WantSameSession(t, session)
	page, err := client.SeriesOf(client.MustGet(t, r.URL+"/metrics"))
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
