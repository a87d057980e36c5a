//go:build linux

package e2e_test

import (
	"testing"
	"time"

	"pushrelay/internal/faultproxy"
)

// TestTunnelClockJumps: silence is measured by no wall clock (T4). The clocks of agent and relay are set while there is a session.
func TestTunnelClockJumps(t *testing.T) {
	t.Parallel()
	address := serveHandler(t, newStagedTarget())
	begin := func(t *testing.T) (r *relay, s *site, set func(ahead time.Duration)) {
		t.Helper()
		r = startRelay(t)
		s = startSite(t, r, "site-a", configOf(address, stagedPaths...))
		s.stop(t)
		r.stop(t)
		ofRelay, ofAgent := newClock(t, &r.command), newClock(t, &s.command)
		r.start(t)
		s.start(t)
		s.attached(t)
		return r, s, func(ahead time.Duration) {
			ofRelay.setAhead(t, ahead)
			ofAgent.setAhead(t, ahead)
		}
	}
	t.Run("back, and who vanished is noticed", func(t *testing.T) {
		t.Parallel()
		r, s, set := begin(t)
		s.network.Set(faultproxy.Conditions{Freeze: faultproxy.Both})
		since := time.Now()
		set(-24 * time.Hour)
		c := &vanished{what: "a day back", site: s, relay: r, address: address}
		c.wantNoticed(t, since)
	})
	t.Run("on, and the session lives", func(t *testing.T) {
		t.Parallel()
		r, s, set := begin(t)
		session := r.session(t, s.name)
		// Each end looks after the session once within the limit. Wherever that falls, the clock was set since the last byte came.
		for ahead, begun := time.Duration(0), time.Now(); time.Since(begun) < noticed+tolerance; <-time.After(time.Second) {
			ahead += time.Hour
			set(ahead)
		}
		r.wantSameSession(t, session)
		wantScraped(t, patience, r.targetURL(s.name, "metrics", address), stagedBody)
	})
}
