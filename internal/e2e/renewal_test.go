//go:build linux

package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// identities returns what an agent says of its identities.
func (a *agent) identities(t testing.TB) (all []struct {
	Authority           string
	Relays              []string
	CertificateNotAfter time.Time `json:"certificate_not_after"`
	LastError           string    `json:"last_error"`
},
) {
	t.Helper()
	var answer struct {
		Data struct{ Identities json.RawMessage }
	}
	if err := json.Unmarshal([]byte(mustGet(t, a.url+"/api/v1/status")), &answer); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(answer.Data.Identities, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// TestCertificatesRenewThemselves: an agent that came in by a token has certificates that live for a minute, and no scrape and no push fails over several of them.
// When the relay was away for longer than that the agent comes back all the same, also one that was started with a certificate that has ended (I4, I5).
func TestCertificatesRenewThemselves(t *testing.T) {
	t.Parallel()
	address := serveHandler(t, newStagedTarget())
	r := startRelay(t, "--grpc.tls.server-name=127.0.0.1", "--agents.certificate-lifetime=1m")
	a := startEnrolledAgent(t, r, "site-a", configOf(address, stagedPaths...))
	url := r.targetURL("site-a", "metrics", address)
	wantScraped(t, patience, url, stagedBody)

	ctx, stop := context.WithCancel(t.Context())
	var busy sync.WaitGroup
	counts := make([]int, 3)
	for i := range counts {
		busy.Go(func() {
			for ; ctx.Err() == nil; counts[i]++ {
				if i == 0 {
					got, err := fetch(http.MethodPut, a.url+"/metrics/job/j", strings.NewReader(fmt.Sprintf("m %d\n", counts[i])))
					if err != nil || got.status != http.StatusOK || got.header.Get("X-Relay-Spooled") != "" {
						t.Errorf("push %d: %d %s, %v", counts[i], got.status, got.body, err)
					}
				} else if err := scrapedAs(url, stagedBody); err != nil {
					t.Errorf("scrape %d: %v", counts[i], err)
				}
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	const renewals = 2
	for range renewals {
		before := r.session(t, "site-a")
		eventually(t, 90*time.Second, "another certificate is in use", func() error {
			now := r.session(t, "site-a")
			if now.CertificateNotAfter == nil || !now.CertificateNotAfter.After(*before.CertificateNotAfter) {
				return errNotConnected
			}
			return nil
		})
	}
	stop()
	busy.Wait()
	t.Logf("%d pushes and %d scrapes over %d renewals", counts[0], counts[1]+counts[2], renewals)
	if ended := a.log.String(); strings.Contains(ended, "no session with the relay") {
		t.Errorf("the agent was away:\n%s", ended)
	}

	r.stop(t)
	eventually(t, 90*time.Second, "the certificate ends", func() error {
		if ids := a.identities(t); len(ids) != 1 || time.Now().Before(ids[0].CertificateNotAfter) {
			return errNotConnected
		}
		return nil
	})
	a.stop(t)
	a.process = start(t, a.command) // which is no error
	waitReady(t, a.process, a.url)
	r.start(t)
	eventually(t, 60*time.Second, "the agent is let in", func() error {
		if !r.connected(t, "site-a") {
			return errNotConnected
		}
		return nil
	})
	wantScraped(t, patience, url, stagedBody)
	wantSeries(t, a.url, `relay_agent_certificate_renewals_total{result="renewed_late"}`, 1)
	if status := output(t, command{path: programs.relayAgent, args: []string{"status", "--agent.address=" + a.url}}); status.code != 0 || !strings.Contains(status.stdout, "certificate") || !strings.Contains(status.stdout, "good until") {
		t.Errorf("relay-agent status: %d\n%s", status.code, status.stdout)
	}
}
