package groupstore_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/change"
	"pushrelay/internal/groupstore"
)

// The numberings of two authors.
const (
	oldJournal   = "site-a\x00old"
	newJournal   = "site-a\x00new"
	otherAuthors = "site-b\x00old"
)

// TestSuperseded: across the numberings of one author the later push wins, if the other one waited (T12). Each case is what happened
// before, and then a push at that minute of another numbering, or of the same one.
func TestSuperseded(t *testing.T) {
	type sent struct {
		op       change.Operation
		source   string
		sequence uint64
		minute   int
		bad      bool // and so it is rejected
	}
	const forgotten = change.Forget
	pushed, deleted := sent{put, newJournal, 8, 10, false}, sent{change.Delete, newJournal, 9, 20, false}
	for _, tt := range []struct {
		name   string
		before []sent
		then   sent
		fresh  bool // it did not wait
		wins   bool
	}{
		{"a newer push", []sent{pushed}, sent{put, oldJournal, 1, 5, false}, false, false},
		{"a newer push, whatever the operation", []sent{pushed}, sent{post, oldJournal, 1, 5, false}, false, false},
		{"a newer push, and a deletion that waited", []sent{pushed}, sent{change.Delete, oldJournal, 1, 5, false}, false, false},
		{"a newer push, and a failure that waited", []sent{pushed}, sent{change.Fail, oldJournal, 1, 5, false}, false, false},
		{"an older push", []sent{pushed}, sent{put, oldJournal, 1, 15, false}, false, true},
		{"a push of the same moment", []sent{pushed}, sent{put, oldJournal, 1, 10, false}, false, true},
		{"of a group that is not there", nil, sent{put, oldJournal, 1, 5, false}, false, true},
		{"what did not wait", []sent{pushed}, sent{put, oldJournal, 1, 5, false}, true, true},
		{"the same numbering", []sent{pushed}, sent{put, newJournal, 9, 5, false}, false, true},
		{"another author", []sent{pushed}, sent{put, otherAuthors, 1, 5, false}, false, true},
		{"a push in the future", []sent{{put, newJournal, 8, 1000, false}}, sent{put, oldJournal, 1, 15, false}, false, false},
		{"a newer push that was rejected", []sent{{put, newJournal, 7, 1, false}, {put, newJournal, 8, 10, true}}, sent{put, oldJournal, 1, 5, false}, false, true},
		{"one that was rejected after a newer push", []sent{pushed, {put, newJournal, 9, 11, true}}, sent{put, oldJournal, 1, 5, false}, false, false},
		{"a deletion", []sent{pushed, deleted}, sent{put, oldJournal, 1, 15, false}, false, false},
		{"an older deletion", []sent{pushed, deleted}, sent{put, oldJournal, 1, 25, false}, false, true},
		{"a deletion whose mark is forgotten", []sent{pushed, deleted, {forgotten, newJournal, 9, 0, false}}, sent{put, oldJournal, 1, 15, false}, false, false},
		{"an older one whose mark is forgotten", []sent{pushed, deleted, {forgotten, newJournal, 9, 0, false}}, sent{put, oldJournal, 1, 25, false}, false, true},
		{"a forgotten deletion, by a copy that has its numbers", []sent{pushed, deleted, {forgotten, newJournal, 9, 0, false}}, sent{put, newJournal, 7, 15, false}, false, false},
		{"a forgotten deletion, by a copy that has sent something else of its own", []sent{pushed, deleted, {forgotten, newJournal, 9, 0, false}, {put, newJournal, 6, 12, true}}, sent{put, newJournal, 7, 15, false}, false, false},
		{"a forgotten deletion, by a copy that has gone on", []sent{pushed, deleted, {forgotten, newJournal, 9, 0, false}}, sent{put, newJournal, 7, 25, false}, false, true},
		{"a forgotten deletion, after which the clock went back", []sent{pushed, deleted, {forgotten, newJournal, 9, 0, false}}, sent{put, newJournal, 10, 15, false}, false, true},
		{"a forgotten deletion and a new push", []sent{pushed, deleted, {forgotten, newJournal, 9, 0, false}, {put, newJournal, 10, 30, false}}, sent{put, oldJournal, 1, 25, false}, false, false},
		{"a forgotten deletion, a new push and an older clock", []sent{pushed, deleted, {forgotten, newJournal, 9, 0, false}, {put, newJournal, 10, 12, false}}, sent{put, oldJournal, 1, 15, false}, false, false},
		{"a forgotten deletion and a failure", []sent{pushed, deleted, {forgotten, newJournal, 9, 0, false}, {put, newJournal, 10, 30, true}}, sent{put, oldJournal, 1, 15, false}, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			j := &journal{}
			s := newTester(t, groupstore.Config{Appender: j})
			k := key(t, "job", "j")
			do := func(s *tester, x sent, waited bool) (change.Outcome, error) {
				p := pushing{
					Operation: x.op, Key: k, At: noon.Add(time.Duration(x.minute) * time.Minute), Waited: waited,
					Origin: &origin{Source: x.source, Sequence: x.sequence, Digest: [16]byte{byte(x.minute)}},
				}
				switch {
				case x.op == change.Fail:
					return fail(t.Context(), s.store, p, "the agent says so")
				case x.bad:
					p.Body = bodyOf(parse(t, "m 1 5\n")...)
				case x.op != change.Delete:
					p.Body = bodyOf(parse(t, fmt.Sprintf("m %d\n", x.minute))...)
				}
				return apply(t.Context(), s.store, p)
			}
			for _, x := range tt.before {
				if x.op == forgotten {
					forget(s.store, x.source, x.sequence)
				} else if _, err := do(s, x, false); (err != nil) != x.bad {
					t.Fatalf("%+v = %v", x, err)
				}
			}
			for i, again := range []*tester{replayed(t, j), load(t, groupstore.Config{}, cut(t, s.store)), s} {
				what := []string{"replayed", "loaded", "itself"}[i]
				wantSame(t, what, s, again)
				before := again.full()
				v, err := do(again, tt.then, !tt.fresh)
				if errors.Is(err, change.Superseded) == tt.wins || err != nil && tt.wins || v.Duplicate || v.Decided.Position == 0 {
					t.Errorf("%s: it ended with %+v, %v", what, v, err)
				}
				if !tt.wins && again.full() != before {
					t.Errorf("%s: what was superseded changed something:\n%s", what, again.full())
				}
				if tt.wins {
					continue
				}
				if v, err := do(again, tt.then, true); !errors.Is(err, change.Superseded) {
					t.Errorf("%s: when it comes again it ends with %+v, %v", what, v, err)
				}
			}
			wantSame(t, "replayed at the end", s, replayed(t, j))
		})
	}
}

// TestValuesThatWaited: what waited is judged also where only values are stored; what is superseded is left to the whole way.
func TestValuesThatWaited(t *testing.T) {
	s := newTester(t, groupstore.Config{})
	p := body(t, "m 1\n")
	p.Key = key(t, "job", "a")
	s.send(p, newJournal, 1)
	o := s.store.SetsOf(&change.Change{Key: p.Key}, p.Body)
	for _, tt := range []struct {
		at    time.Time
		taken bool
	}{{noon.Add(-time.Minute), false}, {noon.Add(time.Minute), true}} {
		values := pushing{Operation: put, Key: p.Key, At: tt.at, Waited: true, Origin: &origin{Source: oldJournal, Sequence: 1}}
		if taken, err := pushValues(t.Context(), s.store, values, o, "2\n"); taken != tt.taken || err != nil {
			t.Errorf("pushed at %v: values = %v, %v, want %v", tt.at, taken, err, tt.taken)
		}
	}
	if got := s.text(); !strings.Contains(got, "} 2\n") {
		t.Errorf("the exposition is %q, want the newer value", got)
	}
}

// TestRememberedTracesAreBounded: of each author and of all, the oldest of an author go first, and a store that was loaded goes on as the
// store does.
func TestRememberedTracesAreBounded(t *testing.T) {
	bound := func(s *tester) *tester {
		s.store.SetMaxTraces(1000, 1000, 10, 25)
		return s
	}
	flooded := bound(newTester(t, groupstore.Config{}))
	remove := func(s *tester, source string, sequence uint64) {
		s.send(pushing{Operation: change.Delete, Key: key(t, "job", fmt.Sprint(sequence))}, source, sequence)
		forget(s.store, source, sequence)
	}
	for i := range uint64(100) {
		remove(flooded, fmt.Sprintf("site-%d\x00%d", i%5, i%2), i+1)
	}
	loaded := bound(newTester(t, groupstore.Config{}))
	l := loaded.store.Loader()
	for _, r := range cut(t, flooded.store) {
		if err := l.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Finish(); err != nil {
		t.Fatal(err)
	}
	wantSame(t, "loaded", flooded, loaded)
	for i := range uint64(30) {
		remove(flooded, "site-3\x00j", 200+i)
		remove(loaded, "site-3\x00j", 200+i)
	}
	wantSame(t, "loaded, and flooded further", flooded, loaded)
	of, all := map[string]int{}, 0
	for name := range marksOf(t, flooded.store) {
		if rest, ok := strings.CutPrefix(name, "remembered "); ok {
			of[rest[:len("site-0")]]++
			all++
		}
	}
	if of["site-3"] == 0 || of["site-3"] > 10 || all > 25 {
		t.Errorf("remembered by author: %v", of)
	}
	p := pushing{Operation: put, Key: key(t, "job", "229"), At: noon.Add(-time.Second), Waited: true, Origin: &origin{Source: "site-3\x00k", Sequence: 1}}
	if _, err := apply(t.Context(), flooded.store, p); !errors.Is(err, change.Superseded) {
		t.Errorf("a push from before the last deletion = %v", err)
	}
}
