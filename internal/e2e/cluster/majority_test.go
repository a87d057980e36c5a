//go:build linux

package cluster_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
)

// TestMajorityLost: two of three relays die, and the one that is left follows, then leads. It refuses direct pushes, and says that they were not taken; an agent
// takes what it is given; what was pushed is shown, and the agent's targets are scraped. Once the two are back all show what the agent took, once (C10).
func TestMajorityLost(t *testing.T) {
	t.Parallel()
	s := newSite(t, 3, "--push.timeout=1s")
	a := s.startAgent(t, "site-a")
	want := map[string]float64{}
	for i, leads := range []bool{false, true} {
		left := s.leader(t)
		if !leads {
			left = s.followers(left)[0]
		}
		left.pushUntil(t, 30*time.Second, "/job/before", i+1, http.StatusOK)
		want[`done{instance="", job="before"}`] = float64(i + 1)
		for _, m := range s.followers(left) {
			m.Kill(t)
		}
		a.wantKept(t)
		refused := left.wantNotTaken(t)
		client.WantAllSeries(t, left.url, want)
		if page, err := client.WantOK(left.url + a.targetPath()); err != nil || !strings.Contains(page, "relay_agent_connected") {
			t.Errorf("a scrape of the agent's target over the relay that is left, which leads: %t: %v\n%s", leads, err, client.Clip(page))
		}

		for _, m := range s.followers(left) {
			m.restart(t)
		}
		want[addedBy(a.name)] = float64(i + 1)
		for _, m := range s.members {
			m.wantReady(t)
			client.Eventually(t, client.Patience, m.name+" shows what the agent took", func() error { return wantAll(m, want) })
			client.WantNoSeries(t, m.url, refused)
		}
	}
}

// wantNotTaken waits until the member says of a direct push that it was not taken, and returns its series. What it had begun to decide before is in doubt.
func (m *member) wantNotTaken(t *testing.T) (series string) {
	t.Helper()
	n := 0
	client.Eventually(t, client.Patience, m.name+" refuses a push", func() error {
		n++
		r, err := client.Fetch(http.MethodPut, fmt.Sprintf("%s/metrics/job/refused-%d", m.url, n), strings.NewReader("refused 1\n"))
		if err == nil && (r.Status != http.StatusServiceUnavailable || r.Header.Get("Retry-After") == "" || !strings.Contains(r.Body, "was not taken")) {
			err = fmt.Errorf("%w: %d %v %s", client.ErrStatus, r.Status, r.Header, r.Body)
		}
		return err
	})
	return fmt.Sprintf(`refused{instance="", job="refused-%d"}`, n)
}

// wantKept adds one at the agent, which is to keep it.
func (a *agent) wantKept(t *testing.T) {
	t.Helper()
	resp, err := a.addOne(t.Context(), &http.Client{Timeout: client.Patience})
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted {
		t.Errorf("a push at an agent while no majority is there: %s", resp.Status)
	}
}
