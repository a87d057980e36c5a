package spool_test

import (
	"bytes"
	"context"
	"testing"
	"testing/synctest"

	"pushrelay/internal/change"
	"pushrelay/internal/spool"
)

// TestDoubtOutlivesSessions: a change that a relay may have decided stays until its verdict is known, also if a later session takes
// it back or hears that it has to wait. What is sent equals what is applied and rejected.
func TestDoubtOutlivesSessions(t *testing.T) {
	for name, second := range map[string]func(t *testing.T, feed *spool.Feed){
		"a session that ends at once": func(t *testing.T, feed *spool.Feed) {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if c, err := feed.Next(ctx); err == nil {
				t.Errorf("Next handed out %v although the session had ended", c)
			}
		},
		"a relay that wants it later": func(t *testing.T, feed *spool.Feed) {
			c, err := feed.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			feed.Decide(c, change.Outcome{Kind: change.Unavailable, Detail: "busy"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, "a:1")
				defer func() { h.close() }()
				r, journal := newRelay("a:1", 1), h.Journal()
				h.must(change.Spooled, change.Replace, "j", "m 1\n")
				first := h.attachTo(r)
				c, err := first.Next(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				p, err := first.Request(c, new(bytes.Buffer).AvailableBuffer(), nil)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := r.take(p); err != nil {
					t.Fatal(err)
				}
				first.Detach() // before the verdict came

				feed := h.attachTo(r)
				second(t, feed)
				feed.Detach()
				h.must(change.Spooled, change.Replace, "j", "m 2\n")
				h.visit(r)
				counts := r.counts()
				if sent := h.counter("relay_agent_changes_sent_total"); sent != float64(counts[0]+counts[1]) {
					t.Errorf("sent %v changes, the relay applied %d and rejected %d", sent, counts[0], counts[1])
				}
				if h.Journal() != journal {
					t.Error("the journal has begun anew")
				}
				wantMap(t, "j", r.has("j"), map[string]string{"m": "m 2"})
			})
		})
	}
}

// TestDoubtOfARelay: a relay that has a change and answers that it is in doubt knows it under its number. What is pushed meanwhile does not take its place, and
// another session, which tells of the number, finds it.
func TestDoubtOfARelay(t *testing.T) {
	for _, operation := range []change.Operation{change.Replace, change.Merge} {
		t.Run(operation.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, "a:1")
				defer func() { h.close() }()
				r, journal := newRelay("a:1", 1), h.Journal()
				h.must(change.Spooled, operation, "j", "m 1\n")
				first := h.attachTo(r)
				c, err := first.Next(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				p, err := first.Request(c, new(bytes.Buffer).AvailableBuffer(), nil)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := r.take(p); err != nil {
					t.Fatal(err)
				}
				first.Decide(c, change.Outcome{Kind: change.Unavailable, Detail: "in doubt"})
				h.must(change.Spooled, operation, "j", "m 2\n")
				first.Detach()
				h.visit(r)
				if h.Journal() != journal {
					t.Error("the journal has begun anew")
				}
				wantMap(t, "j", r.has("j"), map[string]string{"m": "m 2"})
			})
		})
	}
}
