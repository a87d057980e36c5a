package groupstore_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/change"
	"pushrelay/internal/grouping"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/history"
)

// TestOutcomes: what a pusher hears of a push that is sound, and that the store does not take.
func TestOutcomes(t *testing.T) {
	disk := errors.New("no space left on device")
	inDoubt := func(err error) func(context.Context) error { return func(context.Context) error { return err } }
	noLog := &journal{}
	for _, tt := range []struct {
		name string
		cfg  groupstore.Config
		push pushing
		want change.Outcome
		err  error // besides the kind
	}{
		{"full of groups", groupstore.Config{MaxGroups: 1}, pushing{}, change.Outcome{Kind: change.Full, Detail: "the store is full: it takes no more than 1 groups (--store.max-groups)"}, nil},
		{"full of series", groupstore.Config{MaxSeries: 1}, pushing{}, change.Outcome{Kind: change.Full, Detail: "the store is full: it takes no more than 1 series (--store.max-series)"}, nil},
		{
			"an agent is full of groups",
			groupstore.Config{AccountLabel: "job", MaxAccountGroups: 1},
			pushing{Key: key(t, "job", "full", "l", "v")},
			change.Outcome{Kind: change.Full, Detail: `the store takes no more than 1 groups of "full" (--agents.max-groups)`, RetryAfter: 30 * time.Second},
			nil,
		},
		{
			"an agent is full of series",
			groupstore.Config{AccountLabel: "job", MaxAccountSeries: 1},
			pushing{Key: key(t, "job", "full", "l", "v")},
			change.Outcome{Kind: change.Full, Detail: `the store takes no more than 1 series of "full" (--agents.max-series)`, RetryAfter: 30 * time.Second},
			nil,
		},
		{"the log refuses", groupstore.Config{Appender: &journal{refuse: disk}}, pushing{}, change.Outcome{Kind: change.NotWritable, Detail: "logging the push: no space left on device", RetryAfter: 10 * time.Second}, change.Unavailable},
		{
			"the log refuses a wipe",
			groupstore.Config{Appender: &journal{refuse: disk}},
			pushing{Operation: change.Wipe},
			change.Outcome{Kind: change.NotWritable, Detail: "logging the wipe: no space left on device", RetryAfter: 10 * time.Second},
			nil,
		},
		{
			"the carrier is not current",
			groupstore.Config{Appender: noLog},
			pushing{Current: func() bool { return false }},
			change.Outcome{Kind: change.NotCurrent, Detail: "what carried the push may not change groups any more"},
			change.Unavailable,
		},
		{
			"the log fails meanwhile",
			groupstore.Config{Appender: &journal{wait: inDoubt(disk)}},
			pushing{},
			change.Outcome{Kind: change.NotWritable, Detail: "the push is in doubt: waiting until it is durable: no space left on device", RetryAfter: 10 * time.Second, Decided: history.Point{Position: 2}},
			nil,
		},
		{
			"time is up",
			groupstore.Config{Appender: &journal{wait: inDoubt(context.DeadlineExceeded)}},
			pushing{},
			change.Outcome{Kind: change.TimedOut, Detail: "the push is in doubt: waiting until it is durable: context deadline exceeded", Decided: history.Point{Position: 2}},
			nil,
		},
		{
			"the program ends",
			groupstore.Config{Appender: &journal{wait: inDoubt(context.Canceled)}},
			pushing{},
			change.Outcome{Kind: change.Canceled, Detail: "the push is in doubt: waiting until it is durable: context canceled", Decided: history.Point{Position: 2}},
			nil,
		},
		{"an operation that is none", groupstore.Config{}, pushing{Operation: 99}, change.Outcome{Kind: change.Invalid, Detail: "operation 99 of a push is not supported"}, nil},
		{"a mark, which nobody may ask for", groupstore.Config{}, pushing{Operation: change.Mark}, change.Outcome{Kind: change.Invalid, Detail: "operation 6 of a push is not supported"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newTester(t, tt.cfg)
			apply(t.Context(), s.store, pushing{Operation: put, Key: key(t, "job", "full"), Body: bodyOf(parse(t, "m 1\n")...), At: noon})
			before := s.full()
			p := tt.push
			p.At, p.Body = noon, bodyOf(parse(t, "m 1\n")...)
			if p.Operation == 0 {
				p.Operation = put
			}
			if p.Key.IsZero() && p.Operation != change.Wipe {
				p.Key = key(t, "job", "j")
			}
			got, err := apply(t.Context(), s.store, p)
			if diff := cmp.Diff(tt.want, got); diff != "" || tt.err != nil && !errors.Is(err, tt.err) {
				t.Errorf("%v; outcome (-want +got):\n%s", err, diff)
			}
			if happened := s.full() != before; happened != (tt.want.Decided.Position > 0) {
				t.Errorf("something happened: %v", happened)
			}
		})
	}
}

// TestRefused: what its carrier refuses is not judged. It moves the mark, and the refusal is the outcome, each time that it comes.
func TestRefused(t *testing.T) {
	j := &journal{}
	s := newTester(t, groupstore.Config{Appender: j})
	s.put(key(t, "job", "j"), "m 1\n")
	before := s.full()
	for i, refusal := range []error{change.Refuse(change.TooLarge, "too large"), change.Refuse(change.Inconsistent, "says the carrier"), errors.New("somehow")} {
		c := pushing{Operation: put, Key: key(t, "job", "j"), At: noon}.change()
		c.Refused = refusal
		want := change.OutcomeOf(refusal)
		if got, found := s.store.Apply(t.Context(), c, groupstore.Content{}); got != want || found != groupstore.OtherSeries || len(j.changes) != 2*i+1 {
			t.Errorf("without an origin: %+v, %d changes", got, len(j.changes))
		}
		c.Agent, c.Origin = "site", &change.Origin{Sequence: uint64(i) + 1}
		for _, again := range []bool{false, true} {
			got, _ := s.store.Apply(t.Context(), c, groupstore.Content{})
			want.Duplicate, want.Decided.Position = again, uint64(len(j.changes))
			if got != want || j.changes[len(j.changes)-1].Operation != change.Mark {
				t.Errorf("with an origin, again: %v: %+v, want %+v", again, got, want)
			}
		}
	}
	if after := s.full(); after != before || len(j.changes) != 7 {
		t.Errorf("after %d changes the exposition is\n%s", len(j.changes), after)
	}
}

// TestVersion: a change with a version is applied if the group is still at it, and else nothing has happened.
func TestVersion(t *testing.T) {
	j := &journal{}
	s := newTester(t, groupstore.Config{Appender: j})
	a, b := key(t, "job", "a"), key(t, "job", "b")
	version := func(k grouping.Key) (version uint64) {
		for g := range s.store.Snapshot().Groups() {
			if g.Key() == k {
				version = g.Version()
			}
		}
		return version
	}
	s.put(a, "m 1\n")
	seen := version(a)
	remove := pushing{Operation: change.Delete, Key: a, At: noon}
	apply := func(p pushing, version uint64, met bool) {
		t.Helper()
		before := fmt.Sprint(s.full(), marksOf(t, s.store), len(j.changes))
		c := p.change()
		c.Version = version
		o, found := s.store.Apply(t.Context(), c, groupstore.Content{})
		after := fmt.Sprint(s.full(), marksOf(t, s.store), len(j.changes))
		if (found != groupstore.Unmet) != met || o.IsTaken() != met || (o.Kind == change.Changed) == met || (before != after) != met {
			t.Errorf("%v of %v at %d: %+v, %v, changed: %v", p.Operation, p.Key, version, o, found, before != after)
		}
	}
	s.put(b, "m 1\n") // changes another group
	s.put(a, "m 2\n")
	apply(remove, seen, false)
	remove.Origin = &origin{Source: "x", Sequence: 1}
	apply(remove, seen, false) // and its mark has not moved
	remove.Origin = nil
	seen = version(a)
	s.push(put, a, "m 2 5\n") // a failure is a change of the group
	apply(remove, seen, false)
	apply(remove, version(a), true)
	apply(remove, seen, false) // it is gone
	s.put(a, "m 3\n")
	apply(remove, seen, false) // a new group of the same key is another one
	replace := pushing{Operation: put, Key: b, At: noon.Add(time.Minute), Current: func() bool { return false }}
	apply(replace, version(b)+1, false)
	replace.Current = nil
	apply(replace, version(b), true)
}
