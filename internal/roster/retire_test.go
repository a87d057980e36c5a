package roster_test

import (
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/promslog"

	"pushrelay/internal/roster"
	"pushrelay/internal/scrape"
)

// holding is a session that a registration is for, with a scrape of target a that is under way until the function that it returns is called.
func holding(t *testing.T, r *roster.Registry, reg roster.Registration) (s *session, at *roster.Attachment, answer func()) {
	t.Helper()
	s = &session{body: "m 1\n", hold: make(chan struct{})}
	reg.Agent, reg.Session, reg.RemoteAddress, reg.ProcessID = "site", s, "192.0.2.1:1", [16]byte{1}
	at = attach(r, reg)
	if err := at.SetTargets(set("a")); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		resp, err := r.Scrape(t.Context(), &scrape.Request{Agent: "site", Target: "a"})
		if err == nil {
			_, err = io.ReadAll(resp.Body)
			resp.Body.Close()
		}
		ended <- err
	}()
	synctest.Wait()
	return s, at, func() {
		t.Helper()
		close(s.hold)
		if err := <-ended; err != nil {
			t.Errorf("the scrape: %v", err)
		}
	}
}

// TestSessionOfTheSameProcessTakesOver: the earlier session takes nothing new, and ends when its scrapes are answered. One that nobody scrapes ends at once, and
// so does one of another process, or one on which nothing was heard of late.
func TestSessionOfTheSameProcessTakesOver(t *testing.T) {
	for name, tt := range map[string]struct {
		next   byte
		silent time.Duration
		waits  bool
	}{
		"the same process": {1, time.Second, true},
		"another process":  {2, time.Second, false},
		"silent for long":  {1, 40 * time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, _ := open(t, "")
				old, at, answer := holding(t, r, roster.Registration{})
				time.Sleep(tt.silent)
				next := &session{body: "m 2\n"}
				nextAt := register(r, "site", next, tt.next)
				if at.Current() || !nextAt.Current() || (old.supersededBy == "") != tt.waits {
					t.Errorf("the earlier session is current: %v, superseded by %q", at.Current(), old.supersededBy)
				}
				if resp, err := r.Scrape(t.Context(), &scrape.Request{Agent: "site", Target: "a"}); err != nil || resp.Body.Close() != nil {
					t.Errorf("a scrape of the new session: %v", err)
				}
				if tt.waits && old.supersededBy != "" {
					t.Error("another session's scrape ended it")
				}
				if answer(); old.supersededBy == "" {
					t.Error("it goes on when its scrape is answered")
				}
				if next.supersededBy != "" || r.Agents()[0].Conflict {
					t.Errorf("the new session is superseded by %q", next.supersededBy)
				}
				at.Close()
				nextAt.Close()
			})
		})
	}
}

// TestRetiredSessionsEnd: after two minutes, when the agent is revoked, and when they end by themselves.
func TestRetiredSessionsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		revoked := false
		r, err := roster.Open(roster.Config{
			ForgetAfter: time.Hour, MaxConcurrentScrapes: 8, Logger: promslog.NewNopLogger(), Registerer: prometheus.NewRegistry(),
		})
		if err != nil {
			t.Fatal(err)
		}
		asked := roster.Registration{Refused: func() (string, bool) { return "at noon", revoked }}
		first, _, answerFirst := holding(t, r, asked)
		second, at, answerSecond := holding(t, r, asked)
		time.Sleep(2*time.Minute - time.Second)
		if synctest.Wait(); first.supersededBy != "" {
			t.Error("the first ended too early")
		}
		third, _, answerThird := holding(t, r, asked)
		time.Sleep(2 * time.Second)
		if synctest.Wait(); first.supersededBy == "" {
			t.Error("the first goes on for more than two minutes")
		}
		at.Close() // its connection is lost
		fourth, _, answerFourth := holding(t, r, asked)
		revoked = true
		if ended := r.EndRevoked(); ended != 2 || third.revoked == "" || fourth.revoked == "" || second.revoked != "" {
			t.Errorf("%d sessions are revoked", ended)
		}
		for _, answer := range []func(){answerFirst, answerSecond, answerThird, answerFourth} {
			answer()
		}
	})
}
