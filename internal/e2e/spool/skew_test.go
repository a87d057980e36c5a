//go:build linux

package spool_test

import (
	"net/http"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/house"
)

// TestSpoolClockSkew: with two hours between the clocks of agent and relay, the time of a push is the relay's, also of one that
// waited while the agent was started again; and the relay shows the difference (T19).
func TestSpoolClockSkew(t *testing.T) {
	t.Parallel()
	const skew = 2 * time.Hour
	for _, tt := range []struct {
		name                   string
		relayAhead, agentAhead time.Duration
	}{
		{"agent ahead", 0, skew},
		{"relay ahead", skew, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := house.StartRelay(t)
			a, _ := house.StartSpooling(t, r)
			a.Stop(t)
			r.Stop(t)
			house.NewClock(t, &r.Command).SetAhead(t, tt.relayAhead)
			house.NewClock(t, &a.Command).SetAhead(t, tt.agentAhead)
			r.Start(t)
			a.Start(t)
			pushed := map[string]time.Time{}
			pushed["attached"] = time.Now()
			a.Applied(t, "attached", 1)
			r.WantSkew(t, "site-a", tt.agentAhead-tt.relayAhead)
			r.Kill(t)
			a.Away(t, r)
			pushed["waited"] = time.Now()
			a.Kept(t, "waited", 2)
			<-time.After(3 * time.Second)
			a.Kill(t)
			r.Start(t)
			a.StartAlone(t)
			a.Attached(t)
			a.WantDrained(t)
			for job, at := range pushed {
				r.WantPushTime(t, job, at.Add(tt.relayAhead), at.Add(tt.relayAhead+2*time.Second))
			}
		})
	}
}

// TestSpoolClockJumps: the agent's clock is set a day back, or on, while pushes wait. They keep the age that they have, those of one
// group their order, and none is lost or refused. Over a restart the clock is all that the agent has: a push that it says is still to
// come is as old as its arrival (T12, T19).
func TestSpoolClockJumps(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for _, tt := range []struct {
		name    string
		ahead   time.Duration
		restart bool
	}{
		{"back", -day, false},
		{"on", day, false},
		{"back, and a restart", -day, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := house.StartRelay(t)
			a, _ := house.StartSpooling(t, r)
			a.Stop(t)
			c := house.NewClock(t, &a.Command)
			a.Start(t)
			a.Attached(t)
			for _, job := range []string{"waited", "both", "gone"} {
				a.Applied(t, job, 1)
			}
			r.Kill(t)
			a.Away(t, r)

			waitedAt := time.Now()
			a.Kept(t, "waited", 2)
			a.Kept(t, "both", 2)
			house.WantKept(t, a.Ask(t, http.MethodDelete, "gone", 0))
			c.SetAhead(t, tt.ahead)
			laterAt := time.Now()
			a.Kept(t, "both", 3)
			a.Kept(t, "later", 3)
			house.WantKept(t, a.Ask(t, http.MethodPost, "more", 3))
			<-time.After(3 * time.Second) // more than a push time may be off
			if tt.restart {
				a.Kill(t)
				a.StartAlone(t)
			}
			a.WantOldest(t, waitedAt, tt.restart)

			r.Start(t)
			a.Attached(t)
			a.WantDrained(t)
			arrivedAt := time.Now()
			r.WantSkew(t, "site-a", tt.ahead) // or the clock was not set
			for job, value := range map[string]float64{"waited": 2, "both": 3, "later": 3, "more": 3} {
				client.WantSeries(t, r.URL, house.SeriesOfJob(job), value)
			}
			if _, there, err := client.ValueOf(r.URL, house.SeriesOfJob("gone")); err != nil || there {
				t.Errorf("the group that was deleted is there: %v, %v", there, err)
			}
			latest := waitedAt.Add(2 * time.Second)
			if tt.restart {
				latest = arrivedAt
			}
			r.WantPushTime(t, "waited", waitedAt, latest)
			for _, job := range []string{"both", "later", "more"} {
				r.WantPushTime(t, job, laterAt, laterAt.Add(2*time.Second))
			}
			for _, name := range []string{"relay_agent_superseded_total", "relay_agent_late_rejections_total", "relay_agent_spool_oldest_seconds"} {
				if got, there, err := client.ValueOf(a.URL, name); err != nil || !there || got != 0 {
					t.Errorf("%s is %v (there: %v), %v, want 0", name, got, there, err)
				}
			}
			a.Applied(t, "waited", 4)
			r.WantPushTime(t, "waited", arrivedAt, time.Now())
		})
	}
}
