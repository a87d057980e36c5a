//go:build linux

package e2e_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/faultproxy"
)

// TestTunnelCut: a connection that is cut, at whatever stage and in whatever way, costs what was under way on it, and the
// agent comes back.
func TestTunnelCut(t *testing.T) {
	t.Parallel()
	target := newStagedTarget()
	address := serveHandler(t, target)
	r := startRelay(t)
	type cut struct {
		site    *site
		scrape  *pending
		before  vitals
		session relaySession
	}
	var cuts []*cut
	for ending, how := range map[string]faultproxy.Ending{"reset": faultproxy.Reset, "finish": faultproxy.Finish} {
		for _, at := range []stage{idle, requested, inBody, atEnd} {
			c := &cut{site: startSite(t, r, ending+"-"+string(at), configOf(address, stagedPaths...))}
			c.before, c.session = vitalsOf(t, c.site.url), r.session(t, c.site.name)
			c.scrape = target.begin(t, r.urlOf(c.site.name, address), at, time.Minute)
			if n := c.site.network.Cut(how); n != 1 {
				t.Errorf("%s: %d connections were cut, want the one of the session", c.site.name, n)
			}
			cuts = append(cuts, c)
		}
	}
	for _, c := range cuts {
		// Long before the scrape's own timeout: the cut itself is noticed.
		c.scrape.wantFailed(t, c.site.name, time.Now().Add(20*time.Second))
	}
	for _, c := range cuts {
		r.wantBack(t, c.session)
		wantScraped(t, patience, r.targetURL(c.site.name, "metrics", address), stagedBody)
		c.before.wantRest(t)
	}
}

// urlOf returns the targets' URLs of an agent by their paths.
func (r *relay) urlOf(agent, address string) func(path string) string {
	return func(path string) string { return r.targetURL(agent, path, address) }
}

// TestTunnelCutWhileAttaching: a connection that never gets beyond some byte of its handshake or its hello is tried again
// until it does.
func TestTunnelCutWhileAttaching(t *testing.T) {
	t.Parallel()
	address := serveHandler(t, newStagedTarget())
	r := startRelay(t)
	before := vitalsOf(t, r.url)
	// The hello of the client, the certificates of both, HTTP/2, the hello of the agent: all is within some 5 KB.
	var sites []*site
	for _, bytes := range []int64{1, 400, 1500, 2500, 3500, 4500} {
		s := startSite(t, r, fmt.Sprintf("after-%d", bytes), configOf(address, stagedPaths...))
		s.network.Set(faultproxy.Conditions{BytesToCut: bytes})
		s.network.Cut(faultproxy.Reset)
		sites = append(sites, s)
	}
	sessions := map[*site]relaySession{}
	for _, s := range sites {
		eventually(t, patience, s.name+" has tried again", func() error {
			if n := s.network.Accepted(); n < 2 {
				return fmt.Errorf("%w: %d connections", errNotConnected, n)
			}
			return nil
		})
		sessions[s] = r.session(t, s.name)
		s.network.Set(faultproxy.Conditions{})
	}
	for _, s := range sites {
		r.wantBack(t, sessions[s])
		wantScraped(t, patience, r.targetURL(s.name, "metrics", address), stagedBody)
	}
	for _, s := range sites {
		s.stop(t)
	}
	before.wantRest(t)
}

// cutSeries is the number of series of a push that is cut in its midst.
const cutSeries = 20_000

// TestTunnelCutPush: of a push whose connection is cut the relay has all or nothing, and all if it was acknowledged.
func TestTunnelCutPush(t *testing.T) {
	t.Parallel()
	r := startRelay(t)
	a := startSite(t, r, "site-a", "scrape_configs: []\n")
	relayBefore, agentBefore := vitalsOf(t, r.url), vitalsOf(t, a.url)
	var body strings.Builder
	for n := range cutSeries {
		fmt.Fprintf(&body, "cut{n=\"%d\"} 1\n", n)
	}
	for round, bytes := range []int64{50_000, int64(body.Len()), 1 << 30} {
		session := r.session(t, "site-a")
		job := fmt.Sprintf("round-%d", round)
		a.network.Set(faultproxy.Conditions{})
		a.network.Cut(faultproxy.Reset)
		r.wantBack(t, session)
		a.attached(t)
		// The connection is new; of its bytes some thousand are spent on the handshake.
		a.network.Set(faultproxy.Conditions{BytesToCut: bytes})
		got, err := fetch(http.MethodPut, a.url+"/metrics/job/"+job, strings.NewReader(body.String()))
		if err != nil {
			t.Fatal(err)
		}
		if bytes == 1<<30 && got.status != http.StatusOK {
			t.Errorf("round %d: a push that nothing cuts: %d %s", round, got.status, got.body)
		}
		a.network.Set(faultproxy.Conditions{})
		if got.status == http.StatusAccepted {
			wantSeries(t, r.url, fmt.Sprintf(`cut{agent="site-a", instance="", job=%q, n="0"}`, job), 1)
		}
		there := strings.Count(mustGet(t, r.url+"/metrics"), fmt.Sprintf("job=%q,n=", job))
		if there != 0 && there != cutSeries {
			t.Errorf("round %d: the relay has %d of %d series", round, there, cutSeries)
		}
		if acknowledged := got.status < 300; acknowledged && there == 0 {
			t.Errorf("round %d: the push was answered %d and is not there", round, got.status)
		}
		if bytes < int64(body.Len()) && got.status == http.StatusOK {
			t.Errorf("round %d: the push was answered 200 although the connection was cut before its end", round)
		}
	}
	relayBefore.wantRest(t)
	agentBefore.wantRest(t)
}
