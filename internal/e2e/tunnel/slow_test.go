//go:build linux

package tunnel_test

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/exporter"
	"pushrelay/internal/e2e/house"
	"pushrelay/internal/faultproxy"
)

// TestTunnelNarrow: while a backlog of pushes goes through a link of 1 Mbit/s, every scrape succeeds and the session stays
// (T5).
func TestTunnelNarrow(t *testing.T) {
	t.Parallel()
	const megabit = 1_000_000 / 8 // bytes per second
	const pushes, pushBytes = 16, 100_000
	address := exporter.Serve(t, exporter.NewStaged())
	r := house.StartRelay(t, "--push.timeout=2m")
	// Every push waits for its verdict: what is acknowledged has come through the narrow link.
	s := house.StartSite(t, r, "site-a", house.ConfigOf(address, exporter.StagedPaths...), "--push.wait=2m")
	relayBefore, agentBefore, session := house.VitalsOf(t, r.URL), house.VitalsOf(t, s.URL), r.Session(t, "site-a")
	s.Network.Set(faultproxy.Conditions{BytesPerSecond: megabit})

	var backlog sync.WaitGroup
	startedAt := time.Now()
	for n := range pushes {
		backlog.Go(func() {
			var body strings.Builder
			for line := 0; body.Len() < pushBytes; line++ {
				var token [48]byte // or it would be packed
				rand.Read(token[:])
				fmt.Fprintf(&body, "narrow{line=\"%d\",token=\"%x\"} %d\n", line, token, line)
			}
			got, err := client.FetchPatiently(http.MethodPut, fmt.Sprintf("%s/metrics/job/narrow/n/%d", s.URL, n), body.String())
			if err != nil || got.Status != http.StatusOK {
				t.Errorf("push %d: %d %s, %v", n, got.Status, client.Clip(got.Body), err)
			}
		})
	}
	drained := make(chan struct{})
	go func() {
		backlog.Wait()
		close(drained)
	}()
	url := r.TargetURL("site-a", "metrics", address)
	scrapes, slowest := 0, time.Duration(0)
	for pushing := true; pushing; {
		began := time.Now()
		if err := client.ScrapedAs(url, exporter.StagedBody); err != nil { // in the 10 s that Prometheus gives it
			t.Errorf("scrape beside the backlog, after %v: %v", time.Since(began), err)
		}
		scrapes++
		slowest = max(slowest, time.Since(began))
		select {
		case <-drained:
			pushing = false
		case <-time.After(200 * time.Millisecond):
		}
	}
	took := time.Since(startedAt)
	t.Logf("%d KB went through 1 Mbit/s in %v, beside %d scrapes, the slowest in %v", pushes*pushBytes/1000, took, scrapes, slowest)
	if least := pushes * pushBytes / megabit * time.Second * 8 / 10; took < least {
		t.Errorf("the backlog took %v, less than %v: the link was not narrow", took, least)
	}
	r.WantSameSession(t, session)
	s.Network.Set(faultproxy.Conditions{})
	relayBefore.WantRest(t)
	agentBefore.WantRest(t)
}
