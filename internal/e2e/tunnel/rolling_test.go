//go:build linux

package tunnel_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/exporter"
	"pushrelay/internal/e2e/house"
)

// A traffic is what scrapers and jobs do while relays come and go.
type traffic struct {
	relays []*house.Relay
	agent  *house.Agent

	mu           sync.Mutex
	scrapes      int     // guarded by mu
	retried      int     // guarded by mu; those that the first relay asked did not answer
	failed       []error // guarded by mu; scrapes that no relay answered
	acknowledged []int   // guarded by mu; pushes
}

// scrape scrapes through both relays in turn, as through a balanced name, and tries the other one when one fails.
func (tr *traffic) scrape(ctx context.Context, path, address string) {
	for n := 0; ctx.Err() == nil; n++ {
		var errs []error
		for k := range tr.relays {
			r := tr.relays[(n+k)%len(tr.relays)]
			err := client.ScrapedAs(r.TargetURL(tr.agent.Name, path, address), exporter.StagedBody)
			if err == nil {
				break
			}
			errs = append(errs, fmt.Errorf("relay %d: %w", (n+k)%len(tr.relays), err))
		}
		tr.mu.Lock()
		tr.scrapes++
		if len(errs) > 0 {
			tr.retried++
		}
		if len(errs) == len(tr.relays) {
			tr.failed = append(tr.failed, errors.Join(errs...))
		}
		tr.mu.Unlock()
		client.Pause(ctx, 10*time.Millisecond)
	}
}

// push pushes one group after the other, each until it is acknowledged.
func (tr *traffic) push(ctx context.Context) {
	for n := 0; ctx.Err() == nil; client.Pause(ctx, 20*time.Millisecond) {
		got, err := client.Fetch(http.MethodPut, fmt.Sprintf("%s/metrics/job/rolling/n/%d", tr.agent.URL, n), strings.NewReader(fmt.Sprintf("pushed %d\n", n)))
		if err != nil || got.Status >= 300 {
			continue
		}
		tr.mu.Lock()
		tr.acknowledged = append(tr.acknowledged, n)
		tr.mu.Unlock()
		n++
	}
}

// isEnough says whether scrapes and pushes were enough to show anything, however slow the machine is.
func (tr *traffic) isEnough() error {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if tr.scrapes < 100 || len(tr.acknowledged) < 100 {
		return fmt.Errorf("%d scrapes and %d pushes", tr.scrapes, len(tr.acknowledged))
	}
	return nil
}

// TestTunnelRollingRestart: two relays that are restarted one after the other, an agent attached to both, scrapers that try
// the other relay when one does not answer: not one scrape fails, and no push that was acknowledged is lost.
func TestTunnelRollingRestart(t *testing.T) {
	t.Parallel()
	address := exporter.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-time.After(300 * time.Millisecond) // so that there is one in flight whenever a relay begins to drain
		}
		io.WriteString(w, exporter.StagedBody)
	}))
	first := house.StartRelay(t)
	second := house.StartSecondRelay(t, first)
	a := house.StartAgentVia(t, first, first.GRPC, "site-a", house.ConfigOf(address, "metrics", "slow"), "--relay.address="+second.GRPC)
	connected := func(r *house.Relay) {
		t.Helper()
		client.Eventually(t, 25*time.Second, "attached to "+r.GRPC, func() error {
			if !r.Connected(t, "site-a") {
				return house.ErrNotConnected
			}
			return nil
		})
		client.WantScraped(t, client.Patience, r.TargetURL("site-a", "metrics", address), exporter.StagedBody)
	}
	connected(second)
	agentBefore := house.VitalsOf(t, a.URL)

	tr := &traffic{relays: []*house.Relay{first, second}, agent: a}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { tr.scrape(ctx, "metrics", address) })
	running.Go(func() { tr.scrape(ctx, "slow", address) })
	running.Go(func() { tr.push(ctx) })
	for _, r := range tr.relays {
		<-time.After(time.Second)
		r.Stop(t)
		r.Start(t)
		connected(r)
	}
	client.Eventually(t, client.Patience, "there is enough to see", tr.isEnough)
	cancel()
	running.Wait()

	t.Logf("%d scrapes, %d of them at the second try; %d pushes", tr.scrapes, tr.retried, len(tr.acknowledged))
	for _, err := range tr.failed {
		t.Errorf("no relay answered: %v", err)
	}
	if tr.retried == 0 {
		t.Error("no scrape met a relay that was away")
	}
	tr.wantPushes(t)
	agentBefore.WantRest(t)
}

// wantPushes checks that the acknowledged pushes are on both relays: the agent has kept them for the one that was away.
func (tr *traffic) wantPushes(t *testing.T) {
	t.Helper()
	client.Eventually(t, 30*time.Second, "every acknowledged push is there", func() error {
		var pages []map[string]float64
		for _, r := range tr.relays {
			page, err := client.WantOK(r.URL + "/metrics")
			if err != nil {
				return err
			}
			all, err := client.SeriesOf(page)
			if err != nil {
				return err
			}
			pages = append(pages, all)
		}
		for _, n := range tr.acknowledged {
			there := 0
			for _, page := range pages {
				if _, ok := page[fmt.Sprintf(`pushed{agent="site-a", instance="", job="rolling", n="%d"}`, n)]; ok {
					there++
				}
			}
			if there < len(pages) {
				return fmt.Errorf("%w: push %d is on %d relays", client.ErrScrape, n, there)
			}
		}
		return nil
	})
}
