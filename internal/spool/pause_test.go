package spool_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/spool"
)

// TestAnotherSessionTakesOver: while a session is paused pushes wait, and the one that takes over sends them; nobody is told that the relay went away, and its
// limits go on counting.
func TestAnotherSessionTakesOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "a:1")
		defer func() { h.close() }()
		r := newRelay("a:1", 1)
		attach := func() (*spool.Feed, func()) {
			r.mu.Lock()
			decided := r.journals[h.Journal()]
			r.mu.Unlock()
			feed, err := h.Attach(spool.Attachment{
				Relay: r.address, Store: r.id, Journal: h.Journal(), Decided: decided, History: r.history, Limits: exposition.Limits{MaxSeries: 2}, AgentLabel: "agent",
			})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			var session sync.WaitGroup
			session.Go(func() { h.serve(ctx, feed, r) })
			return feed, func() {
				cancel()
				session.Wait()
				feed.Detach()
			}
		}
		old, detachOld := attach()
		h.must(change.Applied, change.Replace, "before", "m 1\n")
		if err := old.Pause(t.Context()); err != nil {
			t.Fatal(err)
		}
		answered := make(chan change.Outcome, 1)
		go func() { answered <- h.Apply(t.Context(), request(change.Replace, "during", "m 1\n")) }()
		time.Sleep(time.Second)
		if settle(); len(answered) > 0 || len(r.has("during")) > 0 {
			t.Error("a push is answered, or sent, during the pause")
		}
		_, detach := attach()
		defer detach()
		detachOld()
		if o := <-answered; o.Kind != change.Applied {
			t.Errorf("the push is answered %v: %s", o.Kind, o.Detail)
		}
		if o := h.Apply(t.Context(), request(change.Replace, "large", "m 1\nn 1\no 1\n")); o.Kind != change.Invalid {
			t.Errorf("a push beyond the relay's limit is answered %v: %s", o.Kind, o.Detail)
		}
	})
}

// TestPauseWaits: for what was handed out, until its context ends, and Resume goes on.
func TestPauseWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "a:1")
		defer func() { h.close() }()
		feed := h.attachIdle(newRelay("a:1", 1))
		defer feed.Detach()
		go h.Apply(t.Context(), request(change.Replace, "j", "m 1\n"))
		out, err := feed.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := feed.Pause(short); err == nil {
			t.Error("Pause() does not wait for what was handed out")
		}
		paused := make(chan error, 1)
		go func() { paused <- feed.Pause(t.Context()) }()
		if settle(); len(paused) > 0 {
			t.Error("Pause() does not wait")
		}
		feed.Decide(out, change.Outcome{Kind: change.Applied})
		if err := <-paused; err != nil {
			t.Error(err)
		}
		go h.Apply(t.Context(), request(change.Replace, "k", "m 1\n"))
		next := make(chan *spool.Transfer, 1)
		go func() {
			if c, err := feed.Next(t.Context()); err == nil {
				next <- c
			}
		}()
		if settle(); len(next) > 0 {
			t.Error("Next() hands something out during the pause")
		}
		feed.Resume()
		feed.Decide(<-next, change.Outcome{Kind: change.Applied})
	})
}
