package groupstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"pushrelay/internal/change"
	"pushrelay/internal/grouping"
	"pushrelay/internal/groupstore"
)

// send pushes with an origin and returns whether that was a duplicate. The digest is that of the number, unless one is given.
func (t *tester) send(p pushing, source string, sequence uint64, digest ...byte) (duplicate bool) {
	t.tb.Helper()
	p.Origin = &origin{Source: source, Sequence: sequence, Digest: [16]byte{byte(sequence)}}
	copy(p.Origin.Digest[:], digest)
	if p.At.IsZero() {
		p.At = noon
	}
	v, err := apply(t.tb.Context(), t.store, p)
	if err != nil {
		t.tb.Errorf("Push(%v, %v) from %s %d = %v", p.Operation, p.Key, source, sequence, err)
	}
	return v.Duplicate
}

func body(tb testing.TB, text string) pushing {
	tb.Helper()
	return pushing{Operation: put, Body: bodyOf(parse(tb, text)...)}
}

// TestExactlyOnce sends changes that may come more than once, and tells which of them take effect.
func TestExactlyOnce(t *testing.T) {
	a, b := key(t, "job", "a"), key(t, "job", "b")
	for _, wiped := range []bool{false, true} {
		j := &journal{}
		s := newTester(t, groupstore.Config{Appender: j})
		for i, st := range []struct {
			op       change.Operation
			key      grouping.Key
			source   string
			sequence uint64
			digest   byte
			again    bool
			shows    string // value of m in the group, "" for none
		}{
			{op: put, key: a, source: "x", sequence: 5, shows: "0"},
			{op: put, key: a, source: "x", sequence: 5, again: true, shows: "0"},
			{op: put, key: a, source: "x", sequence: 4, again: true, shows: "0"},
			{op: put, key: b, source: "x", sequence: 4, shows: "3"}, // order is per group
			{op: post, key: a, source: "x", sequence: 9, shows: "4"},
			{op: post, key: a, source: "x", sequence: 9, digest: 1, shows: "5"}, // nothing is a duplicate on a number alone
			{op: post, key: a, source: "x", sequence: 9, digest: 1, again: true, shows: "5"},
			{op: put, key: a, source: "y", sequence: 1, shows: "7"},
			{op: put, key: a, source: "x", sequence: 9, digest: 1, again: true, shows: "7"},
			{op: change.Delete, key: a, source: "y", sequence: 2},
			{op: change.Delete, key: a, source: "y", sequence: 2, again: true},
			{op: put, key: a, source: "y", sequence: 1, again: true}, // nothing deleted comes back
			{op: put, key: a, source: "x", sequence: 6, again: true},
			{op: put, key: a, source: "y", sequence: 3, shows: "13"}, // but newer changes come
			{op: put, key: a, source: "x", sequence: 6, again: true, shows: "13"},
		} {
			k := st.key
			digest := []byte{byte(st.sequence), st.digest}
			p := pushing{Operation: st.op, Key: k}
			if st.op != change.Delete {
				p.Body = bodyOf(parse(t, fmt.Sprintf("m %d\n", i))...)
			}
			before := s.full()
			if got := s.send(p, st.source, st.sequence, digest...); got != st.again {
				t.Errorf("change %d is a duplicate: %v", i, got)
			}
			if st.again && s.full() != before {
				t.Errorf("change %d was a duplicate and changed something:\n%s", i, s.full())
			}
			line := fmt.Sprintf("m{instance=\"\",job=%q} %s\n", k.Job(), st.shows)
			if st.shows == "" && strings.Contains(s.full(), "job=\""+k.Job()+"\"") || st.shows != "" && !strings.Contains(s.full(), line) {
				t.Errorf("after change %d the exposition lacks %q:\n%s", i, line, s.full())
			}
		}
		marksOf(t, s.store)
		if !wiped {
			continue
		}
		if err := wipe(t.Context(), s.store); err != nil {
			t.Fatal(err)
		}
		for _, replica := range []*tester{replayed(t, j), load(t, groupstore.Config{}, cut(t, s.store))} {
			wantSame(t, "after a wipe", s, replica)
			p := body(t, "m 1\n")
			p.Key = b
			if !replica.send(p, "x", 4) || replica.full() != "" {
				t.Errorf("a change of before the wipe came back:\n%s", replica.full())
			}
		}
	}
}

// replayed returns a store that had just the changes of the journal.
func replayed(t *testing.T, j *journal) *tester {
	t.Helper()
	s := newTester(t, groupstore.Config{})
	for _, r := range encoded(j) {
		if err := s.store.Replay(r); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// waits is a log whose waiting is counted, and may fail.
type waits struct {
	journal
	waited int
	err    error
}

func newWaits() *waits {
	w := &waits{}
	w.wait = func(context.Context) error { w.waited++; return w.err }
	return w
}

// TestDecisionsAreDurable: with an origin the answer waits for the record that has the mark, whatever it is.
func TestDecisionsAreDurable(t *testing.T) {
	twin := key(t, "job", "j", "instance", "")
	for _, tt := range []struct {
		name  string
		does  func(s *groupstore.Store, o *origin) (change.Outcome, error)
		wants change.Operation
		fails bool
	}{
		{"a push", func(s *groupstore.Store, o *origin) (change.Outcome, error) {
			return apply(t.Context(), s, pushing{Operation: put, Key: key(t, "job", "k"), At: noon, Origin: o})
		}, put, false},
		{"a push that is rejected", func(s *groupstore.Store, o *origin) (change.Outcome, error) {
			return apply(t.Context(), s, pushing{Operation: put, Key: key(t, "job", "k"), Body: bodyOf(parse(t, "m 1 5\n")...), At: noon, Origin: o})
		}, change.Fail, true},
		{"a push to a group that cannot be", func(s *groupstore.Store, o *origin) (change.Outcome, error) {
			return apply(t.Context(), s, pushing{Operation: put, Key: twin, At: noon, Origin: o})
		}, change.Mark, true},
		{"a delete of nothing", func(s *groupstore.Store, o *origin) (change.Outcome, error) {
			return apply(t.Context(), s, pushing{Operation: change.Delete, Key: key(t, "job", "k"), Origin: o})
		}, change.Mark, false},
		{"a failure", func(s *groupstore.Store, o *origin) (change.Outcome, error) {
			return fail(t.Context(), s, pushing{Key: key(t, "job", "k"), At: noon, Origin: o}, "the agent says so")
		}, change.Fail, false},
		{"a failure of a group that cannot be", func(s *groupstore.Store, o *origin) (change.Outcome, error) {
			return fail(t.Context(), s, pushing{Key: twin, At: noon, Origin: o}, "the agent says so")
		}, change.Mark, false},
		{"a mark", func(s *groupstore.Store, o *origin) (change.Outcome, error) {
			return mark(t.Context(), s, pushing{Key: key(t, "job", "k"), Origin: o})
		}, change.Mark, false},
		{"a mark of a group that is there", func(s *groupstore.Store, o *origin) (change.Outcome, error) {
			return mark(t.Context(), s, pushing{Key: key(t, "job", "j"), Origin: o})
		}, change.Mark, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWaits()
			s := newTester(t, groupstore.Config{Appender: w})
			s.put(key(t, "job", "j"), "m 1\n")
			w.waited = 0
			o := &origin{Source: "x", Sequence: 1}
			_, err := tt.does(s.store, o)
			if errors.Is(err, change.Inconsistent) != tt.fails || err != nil && !tt.fails {
				t.Errorf("it ended with %v", err)
			}
			if last := w.changes[len(w.changes)-1]; last.Operation != tt.wants || len(w.changes) != 2 || w.waited != 1 {
				t.Errorf("%d changes, the last a %v, waited %d times", len(w.changes)-1, last.Operation, w.waited)
			}
			if got, _, ok := decided(s.store, "x"); !ok || got != 1 {
				t.Errorf("Decided = %d, %v", got, ok)
			}
			after := s.full()
			v, err := tt.does(s.store, o)
			if !v.Duplicate || errors.Is(err, change.Inconsistent) != tt.fails || err != nil && !tt.fails || w.waited != 2 || s.full() != after {
				t.Errorf("again it is %+v, %v, waited %d times", v, err, w.waited)
			}
			w.err = errors.New("the disk is gone")
			if v, err := tt.does(s.store, o); !isInDoubt(v, w.err) {
				t.Errorf("a duplicate of what is not known to be durable = %v", err)
			}
			w.refuse = errors.New("the log is closed")
			if v, err := tt.does(s.store, &origin{Source: "x", Sequence: 2}); !isRefused(v, w.refuse) {
				t.Errorf("with a log that refuses = %v", err)
			}
			if got, _, _ := decided(s.store, "x"); got != 1 {
				t.Errorf("Decided = %d after the log refused", got)
			}
			wantSame(t, "replayed", s, replayed(t, &w.journal))
		})
	}
}

// TestLaterMovesNothing: what the store has no room for may be sent again.
func TestLaterMovesNothing(t *testing.T) {
	s := newTester(t, groupstore.Config{MaxGroups: 1})
	s.put(key(t, "job", "a"), "m 1\n")
	p := body(t, "m 1\n")
	p.Key, p.Origin = key(t, "job", "b"), &origin{Source: "x", Sequence: 1}
	for range 2 {
		if _, err := apply(t.Context(), s.store, p); !errors.Is(err, change.Full) {
			t.Fatalf("Push = %v", err)
		}
	}
	if _, _, ok := decided(s.store, "x"); ok {
		t.Error("a push that was put off was decided")
	}
	s.delete(key(t, "job", "a"))
	if s.send(p, "x", 1) {
		t.Error("a push that was put off is a duplicate")
	}
}

// TestFence asks whether the carrier is current in the moment in which the push would take effect.
func TestFence(t *testing.T) {
	j := &journal{}
	s := newTester(t, groupstore.Config{Appender: j})
	p := body(t, "m 1\n")
	p.Key, p.Origin, p.Current = key(t, "job", "a"), &origin{Source: "x", Sequence: 1}, func() bool { return false }
	_, pushed := apply(t.Context(), s.store, p)
	_, failed := fail(t.Context(), s.store, p, "no")
	_, marked := mark(t.Context(), s.store, p)
	for _, err := range []error{pushed, failed, marked} {
		if !errors.Is(err, change.NotCurrent) {
			t.Errorf("not current = %v", err)
		}
	}
	if len(j.changes) != 0 || len(marksOf(t, s.store)) != 0 {
		t.Fatalf("%d changes", len(j.changes))
	}
	p.Current = func() bool { return true }
	if _, err := apply(t.Context(), s.store, p); err != nil {
		t.Fatal(err)
	}
	o := s.store.SetsOf(&change.Change{Key: p.Key}, p.Body)
	values := pushing{Operation: put, Key: p.Key, At: noon, Origin: &origin{Source: "x", Sequence: 2}, Current: func() bool { return false }}
	if taken, err := pushValues(t.Context(), s.store, values, o, "2\n"); taken || err != nil {
		t.Errorf("values = %v, %v", taken, err)
	}
	values.Current = nil
	if taken, err := pushValues(t.Context(), s.store, values, o, "2\n"); !taken || err != nil {
		t.Errorf("values = %v, %v", taken, err)
	}
	if taken, err := pushValues(t.Context(), s.store, values, o, "3\n"); taken || err != nil {
		t.Errorf("values of a duplicate = %v, %v: only the whole way can say so", taken, err)
	}
	if got, _, _ := decided(s.store, "x"); got != 2 || len(j.changes) != 2 {
		t.Errorf("Decided = %d after %d changes", got, len(j.changes))
	}
}

// TestModelOfOrigins sends at random, and compares what is a duplicate with the plainest model there can be.
func TestModelOfOrigins(t *testing.T) {
	type at struct {
		group  int
		source string
	}
	type last struct {
		sequence uint64
		digest   byte
	}
	for round := range 20 {
		r := rand.New(rand.NewPCG(9, uint64(round)))
		j := &journal{}
		s := newTester(t, groupstore.Config{Appender: j})
		model, highest := map[at]last{}, map[string]last{}
		duplicates := 0
		for i := range 400 {
			where := at{r.IntN(5), sourcesOfTests[r.IntN(3)]}
			next := last{1 + uint64(r.IntN(i/2+1)), byte(r.IntN(2))}
			p := pushing{Operation: []change.Operation{put, post, change.Delete}[r.IntN(3)], Key: key(t, "job", fmt.Sprint(where.group))}
			before := model[where]
			want := before.sequence > next.sequence || before == next
			if got := s.send(p, where.source, next.sequence, next.digest, 0); got != want {
				t.Fatalf("round %d, change %d: %+v %+v after %+v is a duplicate: %v", round, i, where, next, before, got)
			}
			if want {
				duplicates++
				continue
			}
			model[where] = next
			if next.sequence >= highest[where.source].sequence {
				highest[where.source] = next
			}
			if r.IntN(50) == 0 {
				if err := wipe(t.Context(), s.store); err != nil {
					t.Fatal(err)
				}
			}
		}
		for source, want := range highest {
			sequence, digest, ok := decided(s.store, source)
			if !ok || sequence != want.sequence || digest[0] != want.digest {
				t.Errorf("Decided(%s) = %d, %x, %v, want %+v", source, sequence, digest, ok, want)
			}
		}
		if duplicates < 50 || duplicates > 350 {
			t.Errorf("%d duplicates: the model is lopsided", duplicates)
		}
		wantSame(t, "replayed", s, replayed(t, j))
		wantSame(t, "loaded", s, load(t, groupstore.Config{}, cut(t, s.store)))
	}
}

// TestOriginsConcurrently sends every change several times at once: each takes effect once.
func TestOriginsConcurrently(t *testing.T) {
	const groups, changes, senders = 8, 60, 3
	j := &journal{}
	s := newTester(t, groupstore.Config{Appender: j})
	var applied [groups][changes + 1]int
	var mu sync.Mutex
	var sending sync.WaitGroup
	for group := range groups {
		k := key(t, "job", fmt.Sprint(group))
		p := body(t, "m 1\n")
		p.Key = k
		var turn sync.WaitGroup
		sending.Go(func() {
			for sequence := uint64(1); sequence <= changes; sequence++ { // one change of a group at a time, as senders must
				for range senders {
					turn.Go(func() {
						push := p
						if sequence%7 == 0 {
							push.Operation, push.Body = change.Delete, nil
						}
						if !s.send(push, "x", sequence) {
							mu.Lock()
							applied[group][sequence]++
							mu.Unlock()
						}
					})
				}
				turn.Wait()
				cut(t, s.store)
				decided(s.store, "x")
			}
		})
	}
	sending.Wait()
	for group := range applied {
		for sequence, n := range applied[group][1:] {
			if n != 1 {
				t.Errorf("change %d of group %d took effect %d times", sequence+1, group, n)
			}
		}
	}
	wantSame(t, "replayed", s, replayed(t, j))
}
