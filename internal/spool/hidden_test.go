package spool_test

import (
	"testing"
	"testing/synctest"

	"pushrelay/internal/change"
)

// TestHidden: what a relay takes and does not expose is known of the newest push of a group, for owners of groups.
func TestHidden(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "a:1")
		defer func() { h.close() }()
		want := func(when string, want map[string]string) {
			t.Helper()
			got := map[string]string{}
			for key, why := range h.Hidden("owner") {
				got[key.Job()] = why
			}
			wantMap(t, when, got, want)
		}
		r := newRelay("a:1", 1)
		r.hides = "not exposed: m is a GAUGE elsewhere"
		defer h.attach(r)()
		own := func(job, body string) {
			t.Helper()
			r := request(change.Replace, job, body)
			r.Owner = "owner"
			if err := h.Apply(t.Context(), r).Err(); err != nil {
				t.Fatal(err)
			}
		}
		own("x", "m 1\n")
		own("y", "m 1\n")
		h.must(change.Unchecked, change.Replace, "z", "m 1\n") // a job's own
		want("after the pushes", map[string]string{"x": r.hides, "y": r.hides})
		r.with(func() { r.hides = "" })
		own("x", "n 1\n")
		want("after another content", map[string]string{"y": "not exposed: m is a GAUGE elsewhere"})
	})
}
