package spool_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pushrelay/internal/change"
)

// A relay whose store was put back to an older copy gets again what it lost, deletions included, and says nothing of what it has (T18).
func TestAStoreThatWasPutBack(t *testing.T) {
	for _, tt := range []struct {
		name string
		// started is whether the relay was started before the copy was made, copied whether the agent crashes before it meets the copy.
		started, crash bool
		loses          int // how many changes the copy lacks at its end, of an epoch that both know
	}{
		{"stopped, copied and started", false, false, 0},
		{"copied while it ran", true, false, 0},
		{"a cut tail", true, false, 2},
		{"an agent that was killed", false, true, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, "a:1")
				defer func() { h.close() }()
				r := newRelay("a:1", 1)
				detach := h.attach(r)
				h.must(change.Applied, change.Replace, "same", "m 1\n")
				h.must(change.Applied, change.Replace, "g", "m 1\n")
				h.must(change.Applied, change.Replace, "h", "m 1\n")
				h.must(change.Applied, change.Replace, "merged", "m 1\n")
				detach()
				copied := r.copy("a:1")
				if !tt.started {
					r.restart()
				}
				detach = h.attach(r)
				h.must(change.Applied, change.Replace, "g", "m 2\n")
				h.must(change.Applied, change.Replace, "new", "m 2\n")
				h.must(change.Applied, change.Delete, "h", "")
				h.must(change.Applied, change.Delete, "merged", "")
				h.must(change.Applied, change.Merge, "merged", "n 2\n")
				settle()
				state := h.attachIdle(r)
				state.State(t.Context()) // the verdicts are on the disk
				state.Detach()
				detach()
				if tt.crash {
					h.crash()
				}
				journal := h.Journal()
				copied.restart()
				h.visit(copied)
				for job, want := range map[string]map[string]string{
					"same": {"m": "m 1"}, "g": {"m": "m 2"}, "new": {"m": "m 2"}, "h": nil, "merged": {"n": "n 2"},
				} {
					if got := copied.has(job); !maps.Equal(got, want) {
						t.Errorf("the copy has %v of %s, want %v", got, job, want)
					}
				}
				if n := h.counter("relay_agent_stores_put_back_total"); n != 1 || h.pending("a:1") != 0 {
					t.Errorf("put back %v times, %d changes wait", n, h.pending("a:1"))
				}
				st := h.Status()
				if h.Journal() != journal || !tt.crash && !strings.Contains(st.Note("a:1"), "put back") && st.Note("a:1") != "" {
					t.Errorf("journal %v, note %q", h.Journal(), st.Note("a:1"))
				}
				// It is found once, and what follows is ordinary.
				before := len(copied.took())
				for _, next := range []func(){func() {}, copied.restart, h.crash} {
					next()
					h.visit(copied)
				}
				detach = h.attach(copied)
				h.must(change.Applied, change.Replace, "g", "m 3\n")
				detach()
				if got := copied.took()[before:]; !slices.Equal(got, []string{"replace g m 3\n"}) {
					t.Errorf("after that the copy took %q", got)
				}
			})
		})
	}
}

// What is done at a relay, and an ordinary restart of either end, never looks like a store that was put back.
func TestAStoreThatGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "a:1")
		defer func() { h.close() }()
		r := newRelay("a:1", 1)
		for i := range 200 {
			detach := h.attach(r)
			h.must(change.Applied, change.Replace, "j", fmt.Sprintf("m %d\n", i))
			detach()
			r.with(func() {
				r.history.Position += uint64(i % 3) // others push, delete and wipe
				delete(r.groups, keyOf("j"))
			})
			if i%5 != 0 {
				r.restart()
			}
			if i%40 == 0 {
				h.crash()
			}
			h.visit(r)
			if got := r.has("j"); len(got) != 0 {
				t.Fatalf("round %d: a group that was deleted at the relay is back: %v", i, got)
			}
		}
		if n := h.counter("relay_agent_stores_put_back_total"); n != 0 {
			t.Errorf("the store was taken for one that was put back %v times", n)
		}
	})
}

// Two relays on copies of one store: what one has the other has not, and no answer says that both have it (T17). When the first goes, the
// other gets all.
func TestTwoRelaysOnCopies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "a:1", "b:1")
		defer func() { h.close() }()
		a := newRelay("a:1", 1)
		detachA := h.attach(a)
		h.must(change.Applied, change.Replace, "before", "m 1\n")
		b := a.copy("b:1")
		b.restart()
		detachA()
		a.restart()
		detachA = h.attach(a)
		detachB := h.attach(b)
		result, err := h.do(change.Replace, "j", "m 2\n")
		if err != nil || result.Kind != change.Spooled || !strings.Contains(result.Detail, "relay b:1 runs on a copy of the store of relay a:1") {
			t.Errorf("Push = %+v, %v, want to be told that b does not have it", result, err)
		}
		settle()
		if len(a.has("j")) != 1 || len(b.has("j")) != 0 || h.gauge("relay_agent_store_copies") != 1 {
			t.Errorf("a has %v, b has %v, %v copies", a.has("j"), b.has("j"), h.gauge("relay_agent_store_copies"))
		}
		st := h.Status()
		if !strings.Contains(st.Note("b:1"), "copy of the store of relay a:1") || st.Note("a:1") != "" {
			t.Errorf("notes %q and %q", st.Note("a:1"), st.Note("b:1"))
		}
		h.must(change.Spooled, change.Delete, "before", "")
		detachA()
		settle()
		if !maps.Equal(b.has("j"), map[string]string{"m": "m 2"}) || len(b.has("before")) != 0 || h.counter("relay_agent_stores_put_back_total") != 1 {
			t.Errorf("when a is gone b has %v and %v", b.has("j"), b.has("before"))
		}
		h.must(change.Applied, change.Replace, "j", "m 3\n")
		detachA = h.attach(a) // now a is the copy
		h.must(change.Spooled, change.Replace, "j", "m 4\n")
		detachB()
		settle()
		if !maps.Equal(a.has("j"), map[string]string{"m": "m 4"}) {
			t.Errorf("when b is gone a has %v", a.has("j"))
		}
		detachA()
	})
}

// What both ends tell each other of a copy: each hears of the other, and the one that is handed nothing is told nothing of what was decided.
func TestCopiesAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "a:1", "b:1")
		defer func() { h.close() }()
		a := newRelay("a:1", 1)
		b := a.copy("b:1")
		b.restart()
		a.restart()
		feedA := h.attachTo(a)
		feedB := h.attachTo(b)
		toA, toB := feedA.State(t.Context()), feedB.State(t.Context())
		if toA.CopyAt != "b:1" || toB.CopyAt != "a:1" || toA.Journal != h.Journal() || toB.Journal == h.Journal() {
			t.Errorf("States = %+v, %+v", toA, toB)
		}
		feedA.Detach()
		if st := feedB.State(t.Context()); st.CopyAt != "" || st.Journal != h.Journal() {
			t.Errorf("State after the other has gone = %+v", st)
		}
		feedB.Detach()
	})
}

// One relay under two addresses, and a relay that is started again while an older session of it is not over, are no copies.
func TestNoCopies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "a:1", "b:1")
		defer func() { h.close() }()
		r := newRelay("a:1", 1)
		old := h.attach(r)
		h.must(change.Applied, change.Replace, "j", "m 1\n")
		r.address = "b:1"
		again := h.attach(r)
		h.must(change.Applied, change.Replace, "j", "m 2\n")
		r.restart()
		again()
		again = h.attach(r)
		h.must(change.Applied, change.Replace, "j", "m 3\n")
		if n := h.gauge("relay_agent_store_copies"); n != 0 || h.counter("relay_agent_stores_put_back_total") != 0 {
			t.Errorf("%v copies", n)
		}
		again()
		old()
	})
}

// Deletions that all relays have decided are kept for stores that were put back, but they take no room from anything else.
func TestKeptDeletionsMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "a:1")
		defer func() { h.close() }()
		h.close()
		h.cfg.MaxBytes = 64 << 10
		h.open()
		r := newRelay("a:1", 1)
		detach := h.attach(r)
		for i := range 1000 {
			h.must(change.Applied, change.Delete, fmt.Sprint("gone", i), "")
		}
		for i := range 80 {
			h.must(change.Applied, change.Replace, fmt.Sprint("j", i), "m 1\n")
		}
		st := h.Status()
		if st.Groups != 80 || st.Bytes > st.MaxBytes || st.Entries != 0 {
			t.Errorf("Status = %+v", st)
		}
		detach()
		h.crash()
		if again := h.Status(); again.Groups != 80 || again.Bytes > again.MaxBytes {
			t.Errorf("Status after a crash = %+v", again)
		}
	})
}

// A deletion that is kept is sent to a store that was not met, at its own time, and is kept over snapshots and starts.
func TestKeptDeletionsAreDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "a:1")
		defer func() { h.close() }()
		r := newRelay("a:1", 1)
		detach := h.attach(r)
		h.must(change.Applied, change.Replace, "gone", "m 1\n")
		backup := r.backup(2)
		h.must(change.Applied, change.Delete, "gone", "")
		h.must(change.Applied, change.Fail, "gone", "")
		time.Sleep(time.Hour)
		h.must(change.Applied, change.Replace, "back", "m 1\n")
		h.must(change.Applied, change.Delete, "back", "")
		h.must(change.Applied, change.Replace, "back", "m 2\n")
		detach()
		h.crash()
		if err := h.Snapshot(t.Context()); err != nil {
			t.Fatal(err)
		}
		h.crash()
		h.visit(backup)
		if got := backup.took(); !slices.Equal(got, []string{"delete gone ", "replace back m 2\n"}) {
			t.Errorf("the store that was made of a backup took %q", got)
		}
	})
}
