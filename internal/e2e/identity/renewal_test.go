//go:build linux

package identity_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/exporter"
	"pushrelay/internal/e2e/house"
	"pushrelay/internal/e2e/program"
)

// TestCertificatesRenewThemselves: an agent that came in by a token has certificates that live for a minute, and no scrape and no push fails over several of them.
// When the relay was away for longer than that the agent comes back all the same, also one that was started with a certificate that has ended (I4, I5).
func TestCertificatesRenewThemselves(t *testing.T) {
	t.Parallel()
	address := exporter.Serve(t, exporter.NewStaged())
	r := house.StartRelay(t, "--grpc.tls.server-name=127.0.0.1", "--agents.certificate-lifetime=1m")
	a := house.StartEnrolledAgent(t, r, "site-a", house.ConfigOf(address, exporter.StagedPaths...))
	url := r.TargetURL("site-a", "metrics", address)
	client.WantScraped(t, client.Patience, url, exporter.StagedBody)

	ctx, stop := context.WithCancel(t.Context())
	var busy sync.WaitGroup
	counts := make([]int, 3)
	for i := range counts {
		busy.Go(func() {
			for ; ctx.Err() == nil; counts[i]++ {
				if i == 0 {
					got, err := client.Fetch(http.MethodPut, a.URL+"/metrics/job/j", strings.NewReader(fmt.Sprintf("m %d\n", counts[i])))
					if err != nil || got.Status != http.StatusOK || got.Header.Get("X-Relay-Spooled") != "" {
						t.Errorf("push %d: %d %s, %v", counts[i], got.Status, got.Body, err)
					}
				} else if err := client.ScrapedAs(url, exporter.StagedBody); err != nil {
					t.Errorf("scrape %d: %v", counts[i], err)
				}
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	const renewals = 2
	for range renewals {
		before := r.Session(t, "site-a")
		client.Eventually(t, 90*time.Second, "another certificate is in use", func() error {
			now := r.Session(t, "site-a")
			if now.CertificateNotAfter == nil || !now.CertificateNotAfter.After(*before.CertificateNotAfter) {
				return house.ErrNotConnected
			}
			return nil
		})
	}
	stop()
	busy.Wait()
	t.Logf("%d pushes and %d scrapes over %d renewals", counts[0], counts[1]+counts[2], renewals)
	if ended := a.Log.String(); strings.Contains(ended, "no session with the relay") {
		t.Errorf("the agent was away:\n%s", ended)
	}

	r.Stop(t)
	client.Eventually(t, 90*time.Second, "the certificate ends", func() error {
		if ids := a.Identities(t); len(ids) != 1 || time.Now().Before(ids[0].CertificateNotAfter) {
			return house.ErrNotConnected
		}
		return nil
	})
	a.Stop(t)
	a.Process = program.Start(t, a.Command) // which is no error
	program.WaitReady(t, a.Process, a.URL)
	r.Start(t)
	client.Eventually(t, 60*time.Second, "the agent is let in", func() error {
		if !r.Connected(t, "site-a") {
			return house.ErrNotConnected
		}
		return nil
	})
	client.WantScraped(t, client.Patience, url, exporter.StagedBody)
	client.WantSeries(t, a.URL, `relay_agent_certificate_renewals_total{result="renewed_late"}`, 1)
	if status := program.Output(t, program.Command{Path: program.RelayAgent(), Args: []string{"status", "--agent.address=" + a.URL}}); status.Code != 0 || !strings.Contains(status.Stdout, "certificate") || !strings.Contains(status.Stdout, "good until") {
		t.Errorf("relay-agent status: %d\n%s", status.Code, status.Stdout)
	}
}
