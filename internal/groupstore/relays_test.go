package groupstore_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pushrelay/internal/change"
	"pushrelay/internal/grouping"
	"pushrelay/internal/groupstore"
)

// relay is the source of a relay's process: it has no agent.
const relay = "\x00one"

// TestRelaysNumber: what a relay hands on takes effect once, whatever it is, and what comes of it outlives a replay and a snapshot.
func TestRelaysNumber(t *testing.T) {
	a := key(t, "job", "a")
	j := &journal{}
	s := newTester(t, groupstore.Config{Appender: j, AccountLabel: "agent"})
	send := func(op change.Operation, sequence uint64, text string) bool {
		p := pushing{Operation: op, Key: a}
		if text != "" {
			p.Body = bodyOf(parse(t, text)...)
		}
		if op == change.Wipe {
			p.Key = grouping.Key{}
		}
		return s.send(p, relay, sequence)
	}
	for i, st := range []struct {
		op       change.Operation
		sequence uint64
		text     string
		again    bool
		shows    bool
	}{
		{put, 1, "m 1\n", false, true},
		{put, 1, "m 1\n", true, true},
		{change.Wipe, 2, "", false, false},
		{put, 1, "m 1\n", true, false},
		{put, 3, "m 3\n", false, true},
		{change.Wipe, 2, "", true, true}, // it does not wipe what came after it
		{change.Delete, 4, "", false, false},
		{put, 3, "m 3\n", true, false},
		{put, 5, "m 5\n", false, true},
	} {
		if got := send(st.op, st.sequence, st.text); got != st.again {
			t.Errorf("change %d is a duplicate: %v", i, got)
		}
		if shows := strings.Contains(s.full(), "job=\"a\""); shows != st.shows {
			t.Errorf("after change %d the group is there: %v", i, shows)
		}
	}
	for _, replica := range []*tester{replayed(t, j), load(t, groupstore.Config{}, cut(t, s.store))} {
		wantSame(t, "again", s, replica)
	}
}

// TestDuplicateHasMetItsCondition: a deletion of a version that comes again hears that it was decided, and not that the group is another one.
func TestDuplicateHasMetItsCondition(t *testing.T) {
	s := newTester(t, groupstore.Config{})
	s.put(key(t, "job", "a"), "m 1\n")
	version := uint64(1)
	for _, again := range []bool{false, true} {
		c := pushing{Operation: change.Delete, Key: key(t, "job", "a"), At: noon, Origin: &origin{Source: relay, Sequence: 1}}.change()
		c.Version = version
		o, found := s.store.Apply(t.Context(), c, groupstore.Content{})
		if found == groupstore.Unmet || o.Kind != change.Applied || o.Duplicate != again {
			t.Errorf("again: %v: %+v, found %v", again, o, found)
		}
	}
	c := pushing{Operation: change.Delete, Key: key(t, "job", "a"), At: noon, Origin: &origin{Source: relay, Sequence: 2}}.change()
	c.Version = version
	if _, found := s.store.Apply(t.Context(), c, groupstore.Content{}); found != groupstore.Unmet {
		t.Errorf("a deletion of a version that is gone found %v", found)
	}
}

// TestMarksOfRelaysGo: a mark of a process that is gone goes with the next record of its group, one of an agent never, and nothing is remembered of what
// a relay is past.
func TestMarksOfRelaysGo(t *testing.T) {
	gone := false
	s := newTester(t, groupstore.Config{Gone: func(journal [16]byte) bool { return gone && journal == [16]byte{'o', 'n', 'e'} }})
	for i, from := range []string{relay, "\x00two", "agent\x00one"} {
		p := body(t, "m 1\n")
		p.Key = key(t, "job", "a")
		s.send(p, from, uint64(1+i))
		p.Key = key(t, "job", "b")
		s.send(p, from, uint64(1+i))
	}
	s.send(pushing{Operation: change.Delete, Key: key(t, "job", "b")}, relay, 9)
	gone = true
	want := func(when string, left ...string) {
		t.Helper()
		var sources []string
		for name := range marksOf(t, s.store) {
			sources = append(sources, name)
		}
		for _, from := range left {
			if !slices.ContainsFunc(sources, func(name string) bool { return strings.Contains(name, from) }) {
				t.Errorf("%s there is no mark of %q: %q", when, from, sources)
			}
		}
		if has := slices.ContainsFunc(s.store.Journals(""), func(j [16]byte) bool { return j[0] == 'o' }); has != slices.Contains(left, relay) {
			t.Errorf("%s the process is known: %v", when, has)
		}
	}
	want("before anything is written", relay, "\x00two", "agent\x00one")
	p := body(t, "m 2\n")
	p.Key = key(t, "job", "a")
	s.send(p, "\x00two", 10)
	forget(s.store, relay, 1<<63)
	want("after the record and the traces are gone", "\x00two", "agent\x00one")
	if s.send(p, relay, 1) {
		t.Error("what is gone is remembered")
	}
}

// TestTracesOfRelaysHaveTheirOwnBound: the deletions that relays hand on are not those of one agent.
func TestTracesOfRelaysHaveTheirOwnBound(t *testing.T) {
	s := newTester(t, groupstore.Config{})
	s.store.SetMaxTraces(2, 5, 5, 5)
	for i := range 6 {
		p := pushing{Operation: change.Delete, Key: key(t, "job", fmt.Sprint(i)), At: noon, Origin: &origin{Source: relay, Sequence: uint64(1 + i)}}
		if o, _ := apply(t.Context(), s.store, p); (o.Kind == change.Applied) != (i < 5) {
			t.Errorf("deletion %d: %+v", i, o)
		}
	}
}
