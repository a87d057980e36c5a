//go:build linux

package tunnel_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/exporter"
	"pushrelay/internal/e2e/house"
	"pushrelay/internal/faultproxy"
)

// TestTunnelCut: a connection that is cut, at whatever stage and in whatever way, costs what was under way on it, and the
// agent comes back.
func TestTunnelCut(t *testing.T) {
	t.Parallel()
	target := exporter.NewStaged()
	address := exporter.Serve(t, target)
	r := house.StartRelay(t)
	type cut struct {
		site    *house.Site
		scrape  *exporter.Pending
		before  house.Vitals
		session house.RelaySession
	}
	var cuts []*cut
	for ending, how := range map[string]faultproxy.Ending{"reset": faultproxy.Reset, "finish": faultproxy.Finish} {
		for _, at := range []exporter.Stage{exporter.Idle, exporter.Requested, exporter.InBody, exporter.AtEnd} {
			c := &cut{site: house.StartSite(t, r, ending+"-"+string(at), house.ConfigOf(address, exporter.StagedPaths...))}
			c.before, c.session = house.VitalsOf(t, c.site.URL), r.Session(t, c.site.Name)
			c.scrape = target.Begin(t, r.URLOf(c.site.Name, address), at, time.Minute)
			if n := c.site.Network.Cut(how); n != 1 {
				t.Errorf("%s: %d connections were cut, want the one of the session", c.site.Name, n)
			}
			cuts = append(cuts, c)
		}
	}
	for _, c := range cuts {
		// Long before the scrape's own timeout: the cut itself is noticed.
		c.scrape.WantFailed(t, c.site.Name, time.Now().Add(20*time.Second))
	}
	for _, c := range cuts {
		r.WantBack(t, c.session)
		client.WantScraped(t, client.Patience, r.TargetURL(c.site.Name, "metrics", address), exporter.StagedBody)
		c.before.WantRest(t)
	}
}

// TestTunnelCutWhileAttaching: a connection that never gets beyond some byte of its handshake or its hello is tried again
// until it does.
func TestTunnelCutWhileAttaching(t *testing.T) {
	t.Parallel()
	address := exporter.Serve(t, exporter.NewStaged())
	r := house.StartRelay(t)
	before := house.VitalsOf(t, r.URL)
	// The hello of the client, the certificates of both, HTTP/2, the hello of the agent: all is within some 5 KB.
	var sites []*house.Site
	for _, bytes := range []int64{1, 400, 1500, 2500, 3500, 4500} {
		s := house.StartSite(t, r, fmt.Sprintf("after-%d", bytes), house.ConfigOf(address, exporter.StagedPaths...))
		s.Network.Set(faultproxy.Conditions{BytesToCut: bytes})
		s.Network.Cut(faultproxy.Reset)
		sites = append(sites, s)
	}
	sessions := map[*house.Site]house.RelaySession{}
	for _, s := range sites {
		client.Eventually(t, client.Patience, s.Name+" has tried again", func() error {
			if n := s.Network.Accepted(); n < 2 {
				return fmt.Errorf("%w: %d connections", house.ErrNotConnected, n)
			}
			return nil
		})
		sessions[s] = r.Session(t, s.Name)
		s.Network.Set(faultproxy.Conditions{})
	}
	for _, s := range sites {
		r.WantBack(t, sessions[s])
		client.WantScraped(t, client.Patience, r.TargetURL(s.Name, "metrics", address), exporter.StagedBody)
	}
	for _, s := range sites {
		s.Stop(t)
	}
	before.WantRest(t)
}

// cutSeries is the number of series of a push that is cut in its midst.
const cutSeries = 20_000

// TestTunnelCutPush: of a push whose connection is cut the relay has all or nothing, and all if it was acknowledged.
func TestTunnelCutPush(t *testing.T) {
	t.Parallel()
	r := house.StartRelay(t)
	a := house.StartSite(t, r, "site-a", "scrape_configs: []\n")
	relayBefore, agentBefore := house.VitalsOf(t, r.URL), house.VitalsOf(t, a.URL)
	var body strings.Builder
	for n := range cutSeries {
		fmt.Fprintf(&body, "cut{n=\"%d\"} 1\n", n)
	}
	for round, bytes := range []int64{50_000, int64(body.Len()), 1 << 30} {
		session := r.Session(t, "site-a")
		job := fmt.Sprintf("round-%d", round)
		a.Network.Set(faultproxy.Conditions{})
		a.Network.Cut(faultproxy.Reset)
		r.WantBack(t, session)
		a.Attached(t)
		// The connection is new; of its bytes some thousand are spent on the handshake.
		a.Network.Set(faultproxy.Conditions{BytesToCut: bytes})
		got, err := client.Fetch(http.MethodPut, a.URL+"/metrics/job/"+job, strings.NewReader(body.String()))
		if err != nil {
			t.Fatal(err)
		}
		if bytes == 1<<30 && got.Status != http.StatusOK {
			t.Errorf("round %d: a push that nothing cuts: %d %s", round, got.Status, got.Body)
		}
		a.Network.Set(faultproxy.Conditions{})
		if got.Status == http.StatusAccepted {
			client.WantSeries(t, r.URL, fmt.Sprintf(`cut{agent="site-a", instance="", job=%q, n="0"}`, job), 1)
		}
		there := strings.Count(client.MustGet(t, r.URL+"/metrics"), fmt.Sprintf("job=%q,n=", job))
		if there != 0 && there != cutSeries {
			t.Errorf("round %d: the relay has %d of %d series", round, there, cutSeries)
		}
		if acknowledged := got.Status < 300; acknowledged && there == 0 {
			t.Errorf("round %d: the push was answered %d and is not there", round, got.Status)
		}
		if bytes < int64(body.Len()) && got.Status == http.StatusOK {
			t.Errorf("round %d: the push was answered 200 although the connection was cut before its end", round)
		}
	}
	relayBefore.WantRest(t)
	agentBefore.WantRest(t)
}
