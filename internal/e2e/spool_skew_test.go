//go:build linux

package e2e_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"pushrelay/internal/agentapi"
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
			r := startRelay(t)
			a, _ := startSpooling(t, r)
			a.stop(t)
			r.stop(t)
			newClock(t, &r.command).setAhead(t, tt.relayAhead)
			newClock(t, &a.command).setAhead(t, tt.agentAhead)
			r.start(t)
			a.start(t)
			pushed := map[string]time.Time{}
			pushed["attached"] = time.Now()
			a.applied(t, "attached", 1)
			r.wantSkew(t, "site-a", tt.agentAhead-tt.relayAhead)
			r.kill(t)
			a.away(t, r)
			pushed["waited"] = time.Now()
			a.kept(t, "waited", 2)
			<-time.After(3 * time.Second)
			a.kill(t)
			r.start(t)
			a.startAlone(t)
			a.attached(t)
			a.wantDrained(t)
			for job, at := range pushed {
				r.wantPushTime(t, job, at.Add(tt.relayAhead), at.Add(tt.relayAhead+2*time.Second))
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
			r := startRelay(t)
			a, _ := startSpooling(t, r)
			a.stop(t)
			c := newClock(t, &a.command)
			a.start(t)
			a.attached(t)
			for _, job := range []string{"waited", "both", "gone"} {
				a.applied(t, job, 1)
			}
			r.kill(t)
			a.away(t, r)

			waitedAt := time.Now()
			a.kept(t, "waited", 2)
			a.kept(t, "both", 2)
			wantKept(t, a.ask(t, http.MethodDelete, "gone", 0))
			c.setAhead(t, tt.ahead)
			laterAt := time.Now()
			a.kept(t, "both", 3)
			a.kept(t, "later", 3)
			wantKept(t, a.ask(t, http.MethodPost, "more", 3))
			<-time.After(3 * time.Second) // more than a push time may be off
			if tt.restart {
				a.kill(t)
				a.startAlone(t)
			}
			a.wantOldest(t, waitedAt, tt.restart)

			r.start(t)
			a.attached(t)
			a.wantDrained(t)
			arrivedAt := time.Now()
			r.wantSkew(t, "site-a", tt.ahead) // or the clock was not set
			for job, value := range map[string]float64{"waited": 2, "both": 3, "later": 3, "more": 3} {
				wantSeries(t, r.url, seriesOfJob(job), value)
			}
			if _, there, err := valueOf(r.url, seriesOfJob("gone")); err != nil || there {
				t.Errorf("the group that was deleted is there: %v, %v", there, err)
			}
			latest := waitedAt.Add(2 * time.Second)
			if tt.restart {
				latest = arrivedAt
			}
			r.wantPushTime(t, "waited", waitedAt, latest)
			for _, job := range []string{"both", "later", "more"} {
				r.wantPushTime(t, job, laterAt, laterAt.Add(2*time.Second))
			}
			for _, name := range []string{"relay_agent_superseded_total", "relay_agent_late_rejections_total", "relay_agent_spool_oldest_seconds"} {
				if got, there, err := valueOf(a.url, name); err != nil || !there || got != 0 {
					t.Errorf("%s is %v (there: %v), %v, want 0", name, got, there, err)
				}
			}
			a.applied(t, "waited", 4)
			r.wantPushTime(t, "waited", arrivedAt, time.Now())
		})
	}
}

// wantOldest checks how old the agent says that the first push is which waits: what it is, or, if that cannot be known, not less
// than nothing.
func (a *agent) wantOldest(t testing.TB, pushedAt time.Time, unknown bool) {
	t.Helper()
	age, there, err := valueOf(a.url, "relay_agent_spool_oldest_seconds")
	least, most := time.Since(pushedAt).Seconds()-2, time.Since(pushedAt).Seconds()
	if unknown {
		least = 0
	}
	if err != nil || !there || age < least || age > most {
		t.Errorf("the oldest push that waits is %v s old (there: %v), %v, want %v to %v", age, there, err, least, most)
	}
	client, err := agentapi.New(a.url)
	if err != nil {
		t.Fatal(err)
	}
	status, _, err := client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := status.Spool.OldestSeconds; got < least || got > most+1 {
		t.Errorf("the status says that it is %v s old, want %v to %v", got, least, most)
	}
}

// wantSkew waits until the relay has measured how far the clock of an agent is ahead of its own.
func (r *relay) wantSkew(t testing.TB, agent string, ahead time.Duration) {
	t.Helper()
	eventually(t, patience, "the clock skew is measured", func() error {
		value, there, err := valueOf(r.url, fmt.Sprintf("relay_agent_clock_skew_seconds{agent=%q}", agent))
		if want := ahead.Seconds(); err == nil && (!there || value < want-10 || value > want+10) {
			err = fmt.Errorf("%w: it is %v (there: %v), want about %v", errVitals, value, there, want)
		}
		return err
	})
}

// wantPushTime checks the push time of an agent's job, which a relay cannot know more exactly than the way of the push takes.
func (r *relay) wantPushTime(t testing.TB, job string, earliest, latest time.Time) {
	t.Helper()
	seconds := func(at time.Time) float64 { return float64(at.UnixMilli()) / 1000 }
	got, there, err := valueOf(r.url, fmt.Sprintf(`push_time_seconds{agent="site-a", instance="", job=%q}`, job))
	if err != nil || !there || got < seconds(earliest)-0.1 || got > seconds(latest)+0.1 {
		t.Errorf("push_time_seconds of %s is %v (there: %v), %v; by the relay's clock it was pushed from %v to %v", job, got, there, err, seconds(earliest), seconds(latest))
	}
}
