package spool_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pushrelay/internal/change"
	"pushrelay/internal/spool"
)

func TestPushWithoutARelayIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "a:1")
		defer func() { h.close() }()
		result, err := h.do(change.Replace, "j", "m 1\n")
		if err != nil || result.Kind != change.Spooled || result.Detail != "kept at the agent: relay a:1 is not attached: the first session is not open yet" {
			t.Fatalf("Push = %+v, %v, want it spooled", result, err)
		}
		h.crash()
		r := newRelay("a:1", 1)
		defer h.attach(r)()
		settle()
		wantMap(t, "the group at the relay", r.has("j"), map[string]string{"m": "m 1"})
		if n := h.pending("a:1"); n != 0 {
			t.Errorf("%d changes are pending", n)
		}
	})
}

func TestAnswers(t *testing.T) {
	const either = -1 // it may have been first, or the change was withdrawn before
	later := &change.Outcome{Kind: change.Full, Detail: "store is full", RetryAfter: time.Minute}
	for _, tt := range []struct {
		name    string
		judges  []func(*change.Change) error
		want    change.Kind
		kind    error
		says    string
		applied []int
		left    []int
	}{
		{name: "one relay takes it", judges: []func(*change.Change) error{nil}, want: change.Applied, applied: []int{1}, left: []int{0}},
		{name: "both take it", judges: []func(*change.Change) error{nil, nil}, want: change.Applied, applied: []int{1, 1}, left: []int{0, 0}},
		{name: "the only one refuses", judges: []func(*change.Change) error{refuseAll}, kind: change.Inconsistent, says: "no fit", applied: []int{0}, left: []int{0}},
		{name: "one of two refuses", judges: []func(*change.Change) error{nil, refuseAll}, kind: change.Inconsistent, says: "relay b:1: no fit", applied: []int{either, 0}, left: []int{0, 0}},
		{
			name: "one wants it later", judges: []func(*change.Change) error{nil, func(*change.Change) error { return later }},
			want: change.Spooled, says: "relay b:1 takes it later: store is full", applied: []int{1, 0}, left: []int{0, 1},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var relays []*fakeRelay
				var addresses []string
				for i, judge := range tt.judges {
					r := newRelay(string(rune('a'+i))+":1", byte(i+1))
					r.judge = judge
					relays, addresses = append(relays, r), append(addresses, r.address)
				}
				h := newHouse(t, addresses...)
				defer func() { h.close() }()
				for _, r := range relays {
					defer h.attach(r)()
				}
				result, err := h.do(change.Replace, "j", "m 1\n")
				if tt.kind != nil && (!isKind(err, tt.kind) || err.Error() != tt.says) {
					t.Errorf("Push = %v, want %v and %q", err, tt.kind, tt.says)
				}
				if tt.kind == nil && (err != nil || result.Kind != tt.want || !strings.Contains(result.Detail, tt.says)) {
					t.Errorf("Push = %+v, %v, want %d and %q", result, err, tt.want, tt.says)
				}
				settle()
				for i, r := range relays {
					if n := r.counts()[0]; n != tt.applied[i] && tt.applied[i] != either || h.pending(r.address) != tt.left[i] {
						t.Errorf("relay %s applied %d and has %d to decide, want %d and %d", r.address, n, h.pending(r.address), tt.applied[i], tt.left[i])
					}
				}
			})
		})
	}
}

// A push that was answered 400 reaches nobody any more, also not a relay that was away.
func TestRefusedPushIsWithdrawn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "a:1", "b:1")
		defer func() { h.close() }()
		a, b := newRelay("a:1", 1), newRelay("b:1", 2)
		h.must(change.Spooled, change.Replace, "j", "m 1\n")
		detach := h.attach(a)
		settle()
		a.with(func() { a.judge = refuseAll })
		if _, err := h.do(change.Replace, "j", "m 2\n"); !isKind(err, change.Inconsistent) {
			t.Fatalf("Push = %v, want a refusal", err)
		}
		detach()
		h.crash()
		defer h.attach(b)()
		settle()
		wantMap(t, "the group at the relay that was away", b.has("j"), map[string]string{"m": "m 1"})
	})
}

// A relay may decide a change that was withdrawn while it was under way. The agent counts the verdict, if it comes, as the relay
// does. The number is one that was given here, whether the verdict comes or not, also after a kill: the journal does not begin
// anew for it.
func TestVerdictOnAWithdrawnPush(t *testing.T) {
	for _, tt := range []struct {
		name     string
		verdict  error
		lost     bool
		snapshot bool
		sent     float64
	}{
		{name: "applied", sent: 2},
		{name: "rejected", verdict: errClash, sent: 2},
		{name: "lost", lost: true, sent: 1},
		{name: "lost, and a snapshot", lost: true, snapshot: true, sent: 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, "a:1", "b:1")
				defer func() { h.close() }()
				b := newRelay("b:1", 2)
				first, second := h.attachIdle(newRelay("a:1", 1)), h.attachIdle(b)
				journal := h.Journal()
				refused := make(chan error)
				go func() {
					_, err := h.do(change.Replace, "j", "m 1\n")
					refused <- err
				}()
				next := func(f *spool.Feed) *spool.Transfer {
					c, err := f.Next(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					return c
				}
				atFirst, atSecond := next(first), next(second)
				first.Decide(atFirst, change.OutcomeOf(errClash))
				if err := <-refused; !isKind(err, change.Inconsistent) {
					t.Fatalf("Push = %v, want a refusal", err)
				}
				if !tt.lost {
					second.Decide(atSecond, change.OutcomeOf(tt.verdict))
				}
				if tt.snapshot {
					if err := h.Snapshot(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				if sent := h.counter("relay_agent_changes_sent_total"); sent != tt.sent {
					t.Errorf("%v changes were sent, want %v", sent, tt.sent)
				}
				b.journals[journal] = spool.Decided{Sequence: atSecond.Origin.Sequence, Digest: atSecond.Origin.Digest}
				settle()
				h.crash()
				for range 2 { // The second session has only what the first has left.
					h.attach(b)()
					settle()
				}
				if h.Journal() != journal {
					t.Error("the journal has begun anew")
				}
			})
		})
	}
}

func TestSilentRelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "a:1")
		defer func() { h.close() }()
		r := newRelay("a:1", 1)
		silent := true
		r.lose = func() (lost bool) { r.with(func() { lost = silent }); return lost }
		detach := h.attach(r)
		start := time.Now()
		result, err := h.do(change.Replace, "j", "m 1\n")
		if err != nil || result.Kind != change.Spooled || !strings.Contains(result.Detail, "did not answer within 5s") {
			t.Errorf("Push = %+v, %v, want it spooled for silence", result, err)
		}
		if waited := time.Since(start); waited != 5*time.Second {
			t.Errorf("it waited %s, want 5s", waited)
		}
		detach()
		r.with(func() { silent = false })
		defer h.attach(r)()
		settle()
		if got := r.counts(); got != [3]int{1, 0, 1} || h.pending("a:1") != 0 {
			t.Errorf("applied, rejected, repeated = %d, pending %d, want 1, 0, 1 and 0", got, h.pending("a:1"))
		}
	})
}

// A relay that goes away while a pusher waits lets it go at once.
func TestRelayGoesAwayMeanwhile(t *testing.T) {
	for _, how := range []string{"Detach", "Drain"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, "a:1")
				defer func() { h.close() }()
				r := newRelay("a:1", 1)
				feed := h.attachIdle(r)
				answered := make(chan change.Outcome)
				start := time.Now()
				go func() {
					result, err := h.do(change.Replace, "j", "m 1\n")
					if err != nil {
						t.Errorf("Push: %v", err)
					}
					answered <- result
				}()
				settle()
				if how == "Drain" {
					feed.Drain()
				}
				if how == "Detach" {
					feed.Detach()
				}
				result := <-answered
				if result.Kind != change.Spooled || time.Since(start) != 0 {
					t.Errorf("Push = %+v after %s, want it spooled at once", result, time.Since(start))
				}
				if how == "Drain" {
					feed.Detach()
				}
			})
		})
	}
}

// A group that a relay wants later waits by itself; the others go on.
func TestLaterHoldsBackOneGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "a:1")
		defer func() { h.close() }()
		r := newRelay("a:1", 1)
		busy := true
		r.judge = func(p *change.Change) error {
			if busy && p.Key.Job() == "held" {
				return &change.Outcome{Kind: change.Unavailable, Detail: "busy", RetryAfter: 3 * time.Second}
			}
			return nil
		}
		h.must(change.Spooled, change.Merge, "held", "m 1\n")
		h.must(change.Spooled, change.Merge, "held", "n 1\n")
		h.must(change.Spooled, change.Merge, "other", "m 1\n")
		defer h.attach(r)()
		settle()
		if got := r.took(); !slices.Equal(got, []string{"merge other m 1\n"}) {
			t.Errorf("the relay took %q", got)
		}
		r.with(func() { busy = false })
		time.Sleep(3 * time.Second)
		settle()
		if got := r.took(); !slices.Equal(got, []string{"merge other m 1\n", "merge held m 1\n", "merge held n 1\n"}) {
			t.Errorf("the relay took %q", got)
		}
	})
}

func TestFullSpool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "a:1")
		h.close()
		h.cfg.MaxBytes = 4000
		h.open()
		defer func() { h.close() }()
		taken := 0
		var err error
		for err == nil && taken < 100 {
			_, err = h.do(change.Replace, fmt.Sprint("j", taken), "m 1\n")
			taken++
		}
		if change.OutcomeOf(err).Kind.Status() != 503 || !strings.Contains(err.Error(), "--spool.max-bytes") || taken < 3 {
			t.Fatalf("after %d pushes: %v, want a full spool", taken, err)
		}
		if got := h.Status().Groups; got != taken-1 {
			t.Errorf("%d groups are kept of %d", got, taken-1)
		}
		h.must(change.Spooled, change.Replace, "j0", "m 2\n") // in the place of what it replaces
		h.must(change.Spooled, change.Delete, "j0", "")
	})
}

// What is wrong with a push by itself is refused here, and the relay learns of it where a Pushgateway would set the failure
// time (T14, T19).
func TestChecksAtTheAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "a:1")
		h.close()
		h.cfg.Limits.MaxSeries = 3
		h.open()
		defer func() { h.close() }()
		h.attachIdle(newRelay("a:1", 1)).Detach() // so that the label is known
		for _, tt := range []struct {
			name, body string
			kind       error
			says       string
			failures   int
		}{
			{name: "malformed", body: "m{ 1\n", kind: change.Invalid},
			{name: "last line feed", body: "m 1\nn 1", kind: change.Invalid, says: "; the body has no line feed at its end"},
			{name: "timestamp", body: "m 1 1000\n", kind: change.Inconsistent, says: "timestamps", failures: 1},
			{name: "twice", body: "m{a=\"\"} 1\nm 2\n", kind: change.Inconsistent, says: "collected before", failures: 1},
			{name: "contradiction", body: "m{__a=\"\"} 1\n", kind: change.Inconsistent, failures: 1},
			{name: "limit", body: "m 1\nn 1\no 1\np 1\n", kind: change.Invalid},
		} {
			if _, err := h.do(change.Merge, tt.name, tt.body); !isKind(err, tt.kind) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%s: %v, want %v and %q", tt.name, err, tt.kind, tt.says)
			}
		}
		labelled := request(change.Replace, "j", "m 1\n")
		labelled.Key = labelled.Key.With("agent", "site-b")
		if err := h.Apply(t.Context(), labelled).Err(); !isKind(err, change.Invalid) {
			t.Errorf("a key with the agent label: %v, want it refused", err)
		}
		settle() // nobody waited for the failures to be on the disk
		h.crash()
		r := newRelay("a:1", 1)
		defer h.attach(r)()
		settle()
		for _, job := range []string{"timestamp", "twice", "contradiction"} {
			if r.failed[keyOf(job)] != 1 {
				t.Errorf("the relay was told of %d failures of %s, want 1", r.failed[keyOf(job)], job)
			}
		}
		if len(r.failed) != 3 || len(r.groups) != 0 {
			t.Errorf("the relay has failures of %v and groups %v", r.failed, r.groups)
		}
		if st := h.Status(); st.Groups != 0 {
			t.Errorf("%d groups are left of failures that were told", st.Groups)
		}
	})
}

func TestLateRejection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "a:1")
		defer func() { h.close() }()
		h.must(change.Spooled, change.Replace, "j", "m 1\n")
		r := newRelay("a:1", 1)
		r.judge = refuseAll
		defer h.attach(r)()
		settle()
		all := h.Rejections()
		if len(all) != 1 || all[0].Key != keyOf("j") || all[0].Reason != "no fit" || all[0].Relay != "a:1" || all[0].Operation != change.Replace {
			t.Errorf("Rejections = %+v", all)
		}
		if st := h.Status(); st.Groups != 0 || st.Entries != 0 {
			t.Errorf("%d groups and %d entries are left", st.Groups, st.Entries)
		}
	})
}

// A push with a key that the agent or a relay does not take is refused at once, and so is the deletion of a group that is not known; one
// that is there can be deleted.
func TestKeysAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "a:1")
		defer func() { h.close() }()
		long := strings.Repeat("x", 100)
		h.must(change.Spooled, change.Replace, long, "m 1\n")
		h.close()
		h.cfg.Limits.MaxLabelLength = 50
		h.open()
		for _, op := range []change.Operation{change.Replace, change.Merge} {
			if _, err := h.do(op, long, "m 1\n"); !isKind(err, change.Invalid) || !strings.Contains(err.Error(), "--push.max-label-length") {
				t.Errorf("%v = %v", op, err)
			}
		}
		if _, err := h.do(change.Delete, long+"y", ""); !isKind(err, change.Invalid) {
			t.Errorf("the deletion of a group that is not known = %v", err)
		}
		h.must(change.Spooled, change.Delete, long, "")
	})
}
