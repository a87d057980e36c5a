//go:build linux

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// startSecondRelay starts another relay that shares the certificate authority of the first.
func startSecondRelay(t testing.TB, first *relay, flags ...string) *relay {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "second")
	mustOutput(t, command{path: programs.relayServer, args: []string{"--data.dir=" + first.dataDir, "relay-certificate", "--out=" + dir}})
	return startRelay(t, append([]string{
		"--grpc.tls.cert-file=" + filepath.Join(dir, "relay.crt"), "--grpc.tls.key-file=" + filepath.Join(dir, "relay.key"),
		"--grpc.tls.client-ca-file=" + filepath.Join(dir, "ca.crt"),
	}, flags...)...)
}

// A traffic is what scrapers and jobs do while relays come and go.
type traffic struct {
	relays []*relay
	agent  *agent

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
			err := scrapedAs(r.targetURL(tr.agent.name, path, address), stagedBody)
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
		pause(ctx, 10*time.Millisecond)
	}
}

// push pushes one group after the other, each until it is acknowledged.
func (tr *traffic) push(ctx context.Context) {
	for n := 0; ctx.Err() == nil; pause(ctx, 20*time.Millisecond) {
		got, err := fetch(http.MethodPut, fmt.Sprintf("%s/metrics/job/rolling/n/%d", tr.agent.url, n), strings.NewReader(fmt.Sprintf("pushed %d\n", n)))
		if err != nil || got.status >= 300 {
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

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// TestTunnelRollingRestart: two relays that are restarted one after the other, an agent attached to both, scrapers that try
// the other relay when one does not answer: not one scrape fails, and no push that was acknowledged is lost.
func TestTunnelRollingRestart(t *testing.T) {
	t.Parallel()
	address := serveHandler(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-time.After(300 * time.Millisecond) // so that there is one in flight whenever a relay begins to drain
		}
		io.WriteString(w, stagedBody)
	}))
	first := startRelay(t)
	second := startSecondRelay(t, first)
	a := startAgentVia(t, first, first.grpc, "site-a", configOf(address, "metrics", "slow"), "--relay.address="+second.grpc)
	connected := func(r *relay) {
		t.Helper()
		eventually(t, 25*time.Second, "attached to "+r.grpc, func() error {
			if !r.connected(t, "site-a") {
				return errNotConnected
			}
			return nil
		})
		wantScraped(t, patience, r.targetURL("site-a", "metrics", address), stagedBody)
	}
	connected(second)
	agentBefore := vitalsOf(t, a.url)

	tr := &traffic{relays: []*relay{first, second}, agent: a}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { tr.scrape(ctx, "metrics", address) })
	running.Go(func() { tr.scrape(ctx, "slow", address) })
	running.Go(func() { tr.push(ctx) })
	for _, r := range tr.relays {
		<-time.After(time.Second)
		r.stop(t)
		r.start(t)
		connected(r)
	}
	eventually(t, patience, "there is enough to see", tr.isEnough)
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
	agentBefore.wantRest(t)
}

// wantPushes checks that the acknowledged pushes are on both relays: the agent has kept them for the one that was away.
func (tr *traffic) wantPushes(t *testing.T) {
	t.Helper()
	eventually(t, 30*time.Second, "every acknowledged push is there", func() error {
		var pages []map[string]float64
		for _, r := range tr.relays {
			page, err := wantOK(r.url + "/metrics")
			if err != nil {
				return err
			}
			all, err := seriesOf(page)
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
				return fmt.Errorf("%w: push %d is on %d relays", errScrape, n, there)
			}
		}
		return nil
	})
}
