//go:build linux

package cluster_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/house"
)

// TestClockJumps: the clock of one member jumps an hour ahead and back. With that of a follower nothing expires; with that of the leader, what lives shorter than
// an hour is hidden, and the rest stays. No time that is shown goes back, whoever shows it, also when the leader dies whose clock was ahead.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	s := &site{}
	clocks := map[*member]house.Clock{}
	for _, name := range []string{"a", "b", "c"} {
		m := newMember(t, name, "", "", timeout)
		clocks[m] = house.NewClock(t, &m.command)
		s.members = append(s.members, m)
	}
	s.begin(t)
	l := startLightLoad(t, s.members, nil)
	for job, ttl := range map[string]string{"short": "30m", "long": "24h"} {
		wantLiving(t, s.members[1], job, ttl)
	}
	shows := func(job string, want bool) {
		t.Helper()
		for _, m := range s.members {
			series := fmt.Sprintf(`living{instance="", job=%q}`, job)
			if want {
				client.WantSeries(t, m.url, series, 1)
			} else {
				client.WantNoSeries(t, m.url, series)
			}
		}
	}
	leader := s.leader(t)
	follower := s.followers(leader)[0]
	clocks[follower].SetAhead(t, time.Hour)
	l.wantService()
	time.Sleep(3 * time.Second)
	shows("short", true)
	clocks[follower].SetAhead(t, 0)
	l.wantService()
	time.Sleep(time.Second)
	shows("short", true)
	shows("long", true)
	t.Logf("the clock of a follower (%s) has jumped: %s", follower.name, l.tally())

	leader = s.leader(t)
	clocks[leader].SetAhead(t, time.Hour)
	l.wantService()
	shows("short", false)
	shows("long", true)
	clocks[leader].SetAhead(t, 0)
	l.wantService()
	time.Sleep(time.Second)
	leader.Kill(t)
	l.wantServiceOf(s.followers(leader))
	leader.start(t)
	l.wantService()
	shows("long", true)
	t.Logf("the clock of the leader (%s) has jumped: %s", leader.name, l.tally())
	l.end()
}

// wantLiving pushes a group that is true for some time.
func wantLiving(t *testing.T, at *member, job, ttl string) {
	t.Helper()
	r, err := http.NewRequest(http.MethodPut, at.url+"/metrics/job/"+job, strings.NewReader("living 1\n"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Push-TTL", ttl)
	resp, err := (&http.Client{Timeout: client.Patience}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("a push with a time to live: %s", resp.Status)
	}
}

// TestEnginesLeaderDies: the member is killed that leads etcd, while another one leads the relays.
func TestEnginesLeaderDies(t *testing.T) {
	t.Parallel()
	s := newSite(t, 3, timeout)
	l := startLightLoad(t, s.members, []*agent{s.startAgent(t, "site-a")})
	var engines *member
	client.Eventually(t, client.Patience, "relays and etcd have different leaders", func() error {
		leader := s.leader(t)
		engines = nil
		for _, m := range s.members {
			if own, err := m.ownSeries(); err == nil && own["relay_cluster_etcd_leader"] == 1 {
				engines = m
			}
		}
		if engines != nil && engines != leader {
			return nil
		}
		leader.run(t, "cluster", "handover")
		return fmt.Errorf("%w: %s led both", client.ErrStatus, leader.name)
	})
	leader := s.leader(t)
	engines.Kill(t)
	l.wantServiceOf(s.followers(engines))
	engines.start(t)
	l.wantService()
	t.Logf("%s led the relays and %s etcd, which was killed: %s", leader.name, engines.name, l.tally())
	l.end()
}
