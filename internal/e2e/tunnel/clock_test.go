//go:build linux

package tunnel_test

import (
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/exporter"
	"pushrelay/internal/e2e/house"
	"pushrelay/internal/faultproxy"
)

// TestTunnelClockJumps: silence is measured by no wall clock (T4). The clocks of agent and relay are set while there is a session.
func TestTunnelClockJumps(t *testing.T) {
	t.Parallel()
	address := exporter.Serve(t, exporter.NewStaged())
	begin := func(t *testing.T) (r *house.Relay, s *house.Site, set func(ahead time.Duration)) {
		t.Helper()
		r = house.StartRelay(t)
		s = house.StartSite(t, r, "site-a", house.ConfigOf(address, exporter.StagedPaths...))
		s.Stop(t)
		r.Stop(t)
		ofRelay, ofAgent := house.NewClock(t, &r.Command), house.NewClock(t, &s.Command)
		r.Start(t)
		s.Start(t)
		s.Attached(t)
		return r, s, func(ahead time.Duration) {
			ofRelay.SetAhead(t, ahead)
			ofAgent.SetAhead(t, ahead)
		}
	}
	t.Run("back, and who vanished is noticed", func(t *testing.T) {
		t.Parallel()
		r, s, set := begin(t)
		s.Network.Set(faultproxy.Conditions{Freeze: faultproxy.Both})
		since := time.Now()
		set(-24 * time.Hour)
		c := &vanished{what: "a day back", site: s, relay: r, address: address}
		c.wantNoticed(t, since)
	})
	t.Run("on, and the session lives", func(t *testing.T) {
		t.Parallel()
		r, s, set := begin(t)
		session := r.Session(t, s.Name)
		// Each end looks after the session once within the limit. Wherever that falls, the clock was set since the last byte came.
		for ahead, begun := time.Duration(0), time.Now(); time.Since(begun) < house.Noticed+house.Tolerance; <-time.After(time.Second) {
			ahead += time.Hour
			set(ahead)
		}
		r.WantSameSession(t, session)
		client.WantScraped(t, client.Patience, r.TargetURL(s.Name, "metrics", address), exporter.StagedBody)
	})
}
