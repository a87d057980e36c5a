package spool_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/spool"
)

// A relay that lost its data gets it back, and one that was met does not get again what was deleted there (T18).
func TestARelayThatLostItsData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "a:1")
		defer func() { h.close() }()
		r := newRelay("a:1", 1)
		detach := h.attach(r)
		h.must(change.Applied, change.Replace, "j", "m 1\n")
		h.must(change.Applied, change.Merge, "j", "n 1\n")
		h.must(change.Applied, change.Replace, "gone", "m 1\n")
		h.must(change.Applied, change.Delete, "gone", "")
		detach()
		r.with(func() { delete(r.groups, keyOf("j")) }) // somebody deleted it there
		detach = h.attach(r)
		settle()
		if got := r.has("j"); len(got) != 0 {
			t.Errorf("a group that was deleted at the relay is back: %v", got)
		}
		detach()
		h.crash()
		h.must(change.Spooled, change.Replace, "waited", "m 1\n")
		fresh := newRelay("a:1", 2)
		detach = h.attach(fresh)
		settle()
		wantMap(t, "group j at the new store", fresh.has("j"), map[string]string{"m": "m 1", "n": "n 1"})
		wantMap(t, "what waited at the new store", fresh.has("waited"), map[string]string{"m": "m 1"})
		if got := fresh.took(); len(got) != 4 {
			t.Errorf("the new store took %q, want these three changes and the deletion", got)
		}
		if st := h.Status(); st.Entries != 0 || !st.Oldest.IsZero() {
			t.Errorf("%d changes since %v are said to wait for a store that nothing leads to", st.Entries, st.Oldest)
		}
		if got := h.Pending(); len(got) != 0 {
			t.Errorf("what waits is listed as %+v, although nothing leads to its store", got)
		}
		detach()
		defer h.attach(r)() // the old one is back
		h.must(change.Applied, change.Replace, "k", "m 1\n")
		settle()
		if got := r.took(); !slices.Equal(got[len(got)-2:], []string{"replace waited m 1\n", "replace k m 1\n"}) {
			t.Errorf("the old store took %q", got)
		}
	})
}

// Two addresses of one store share its cursor and have one sender (T17).
func TestTwoAddressesOfOneStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "a:1", "b:1")
		defer func() { h.close() }()
		h.must(change.Spooled, change.Replace, "j", "m 1\n")
		a, b := newRelay("a:1", 1), newRelay("b:1", 1)
		b.history.Epochs[0].ID, b.history.Position = a.history.Epochs[0].ID, 10 // as far as any of the two will be
		detach := h.attach(a)
		settle()
		defer h.attach(b)()
		h.must(change.Applied, change.Replace, "j", "m 2\n")
		if len(b.took()) != 0 || len(a.took()) != 2 || len(h.Status().Relays) != 1 {
			t.Errorf("a took %q, b took %q, the spool knows %+v", a.took(), b.took(), h.Status().Relays)
		}
		detach()
		h.must(change.Applied, change.Replace, "j", "m 3\n")
		if got := b.took(); !slices.Equal(got, []string{"replace j m 3\n"}) {
			t.Errorf("b took %q", got)
		}
	})
}

// What waits for a relay that is configured no more is dropped at the start, and its slot is free.
func TestARelayThatIsConfiguredNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "a:1", "b:1")
		defer func() { h.close() }()
		a := newRelay("a:1", 1)
		detach := h.attach(a)
		h.must(change.Applied, change.Replace, "j", "m 1\n")
		h.must(change.Applied, change.Delete, "j", "")
		detach()
		if n := h.pending("b:1"); n != 1 {
			t.Errorf("%d changes wait for b, want the deletion", n)
		}
		h.close()
		h.cfg.Relays = []string{"a:1"}
		h.open()
		if st := h.Status(); len(st.Relays) != 1 || st.Entries != 0 || st.Groups != 0 {
			t.Errorf("Status = %+v, want nothing that waits", st)
		}
		h.crash()
		if st := h.Status(); len(st.Relays) != 1 {
			t.Errorf("after another start the spool knows %+v", st.Relays)
		}
	})
}

// A change that was withdrawn while another relay may have been deciding it has a number that this relay knows: that makes no
// copy of the spool.
func TestWithdrawnInFlight(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprint("restart ", restart), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, "a:1", "b:1")
				defer func() { h.close() }()
				a, b := newRelay("a:1", 1), newRelay("b:1", 2)
				taken := make(chan struct{})
				b.lose = func() bool { close(taken); return true }
				a.judge = func(*change.Change) error { <-taken; return errClash }
				detachA, detachB := h.attach(a), h.attach(b)
				if _, err := h.do(change.Replace, "j", "m 1\n"); !isKind(err, change.Inconsistent) {
					t.Fatalf("Push = %v, want a refusal", err)
				}
				settle()
				journal := h.Journal()
				detachA()
				detachB()
				if restart {
					h.crash()
				}
				b.with(func() { b.lose = nil })
				defer h.attach(b)()
				settle()
				if h.Journal() != journal {
					t.Error("the journal began anew")
				}
				if got := b.counts(); got != [3]int{1, 0, 0} || h.pending("b:1") != 0 {
					t.Errorf("applied, rejected, repeated = %d, pending %d, want 1, 0, 0 and 0", got, h.pending("b:1"))
				}
			})
		})
	}
}

// A relay that was restored from a backup has another store, and knows numbers that the spool has forgotten: they are of this
// journal all the same, and what the backup has is not applied twice (T18).
func TestARestoredRelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "a:1")
		defer func() { h.close() }()
		r := newRelay("a:1", 1)
		detach := h.attach(r)
		h.must(change.Applied, change.Replace, "same", "m 1\n")
		h.must(change.Applied, change.Replace, "newer", "m 2\n")
		backup := r.backup(2)
		h.must(change.Applied, change.Replace, "newer", "m 3\n")
		detach()
		h.must(change.Spooled, change.Replace, "waited", "m 4\n")
		journal := h.Journal()
		for range 2 {
			h.visit(backup)
			h.crash()
		}
		if h.Journal() != journal {
			t.Error("the journal has begun anew")
		}
		if got, want := backup.took(), []string{"replace newer m 3\n", "replace waited m 4\n"}; !slices.Equal(got, want) {
			t.Errorf("the restored relay took %q, want %q", got, want)
		}
		if got := backup.counts(); got[0] != 2 || got[1] != 0 || got[2] == 0 {
			t.Errorf("applied, rejected, repeated = %d, want 2, 0 and what the backup has", got)
		}
	})
}

// A pusher whose group waits for an earlier push that the relay takes later is told so at once.
func TestBehindAHeldPush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "a:1")
		defer func() { h.close() }()
		r := newRelay("a:1", 1)
		r.judge = func(*change.Change) error {
			return &change.Outcome{Kind: change.Full, Detail: "store is full", RetryAfter: time.Hour}
		}
		defer h.attach(r)()
		start := time.Now()
		for range 2 {
			h.must(change.Spooled, change.Merge, "j", "m 1\n")
		}
		if waited := time.Since(start); waited > 0 {
			t.Errorf("they waited %s", waited)
		}
	})
}

// TestLimitsOfRelays: what one relay says that it takes keeps no push from another, nor from itself once its session is over. What no relay
// takes is refused while all say so.
func TestLimitsOfRelays(t *testing.T) {
	const three = "m 1\nn 1\no 1\n"
	for _, tt := range []struct {
		name   string
		series []int  // that each relay takes; 0 for any, -1 for one without a session
		label  string // that each adds
		after  bool   // of the sessions
		taken  bool
	}{
		{"one with a limit", []int{2}, "", false, false},
		{"one with a limit, after its session", []int{2}, "", true, true},
		{"one of two has a limit", []int{2, 0}, "", false, true},
		{"another limit each", []int{2, 3}, "", false, true},
		{"too little each", []int{1, 2}, "", false, false},
		{"one of two is away", []int{1, -1}, "", false, true},
		{"one that adds the label of every group", []int{0}, "job", false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, []string{"a:1", "b:1"}[:len(tt.series)]...)
				defer func() { h.close() }()
				var feeds []*spool.Feed
				for i, series := range tt.series {
					if series < 0 {
						continue
					}
					feed, err := h.Attach(spool.Attachment{
						Relay: h.cfg.Relays[i], Store: spool.StoreID{byte(i + 1)}, Limits: exposition.Limits{MaxSeries: series}, AgentLabel: tt.label,
					})
					if err != nil {
						t.Fatal(err)
					}
					feeds = append(feeds, feed)
				}
				if tt.after {
					for _, feed := range feeds {
						feed.Detach()
					}
				}
				_, err := h.do(change.Replace, "j", three)
				if taken := err == nil; taken != tt.taken || !taken && !strings.Contains(err.Error(), "more than 2 series") {
					t.Errorf("a push of three series: %v, want it taken: %v", err, tt.taken)
				}
			})
		})
	}
}
