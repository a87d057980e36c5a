package groupstore_test

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"

	"pushrelay/internal/change"
	"pushrelay/internal/grouping"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/lifetime"
)

// records are those of a store, or what has changed in them, by their names.
type records map[groupstore.RecordID][]byte

func recordsOf(d *groupstore.Delta) records { return maps.Collect(d.Records()) }

// all yields them in no order.
func (r records) all() iter.Seq2[groupstore.RecordID, []byte] { return maps.All(r) }

// whole returns all that a store holds.
func whole(s *groupstore.Store) (records, uint64) {
	f := s.Follow()
	defer f.Close()
	d := f.Take()
	return recordsOf(d), d.Position
}

// wantWhole compares two stores by their records, and by all that can be seen of them.
func wantWhole(t *testing.T, what string, want, got *tester) {
	t.Helper()
	w, at := whole(want.store)
	g, gotAt := whole(got.store)
	if at != gotAt {
		t.Fatalf("%s: it is at position %d, want %d", what, gotAt, at)
	}
	if !maps.EqualFunc(w, g, bytes.Equal) {
		t.Fatalf("%s: records (-want +got):\n%s", what, cmp.Diff(w, g))
	}
	wantSame(t, what, want, got)
	if diff := cmp.Diff(want.store.Waiting(), got.store.Waiting()); diff != "" {
		t.Fatalf("%s: who waits (-want +got):\n%s", what, diff)
	}
}

// wantAlike compares what two stores expose, their marks and their tables.
func wantAlike(t *testing.T, what string, want, got *tester) {
	t.Helper()
	if diff := cmp.Diff(want.full(), got.full()); diff != "" {
		t.Fatalf("%s: exposition (-want +got):\n%s", what, diff)
	}
	if diff := cmp.Diff(marksOf(t, want.store), marksOf(t, got.store)); diff != "" {
		t.Fatalf("%s: marks (-want +got):\n%s", what, diff)
	}
	w, g := want.store.Tables(), got.store.Tables()
	delete(w, "valueBytes")
	delete(g, "valueBytes")
	if diff := cmp.Diff(w, g); diff != "" {
		t.Fatalf("%s: tables (-want +got):\n%s", what, diff)
	}
}

// A deed is a change that can be asked of several stores.
type deed func(s *groupstore.Store) change.Outcome

// deed makes one of everything that can be asked of a store, at the time of a clock, which goes on.
func (u universe) deed(t *testing.T, c *clock) deed {
	t.Helper()
	c.Time = c.Add(time.Duration(u.IntN(20)) * time.Second)
	p := pushing{Key: u.key(t), At: c.Time, Origin: u.origin()}
	if u.IntN(4) == 0 {
		p.Life = declared(t, lifetime.Texts{TTL: u.pick("", "30s", "2m", "none"), Every: u.pick("", "20s", "0"), Grace: u.pick("", "5s")})
		p.Failed = u.pick("", "", "exit status 1")
	}
	families := u.families()
	p.Waited = p.Origin != nil && u.IntN(2) == 0
	once := ""
	switch u.IntN(24) {
	case 0:
		p.Operation = change.Fail
	case 1:
		p.Operation = change.Wipe
		return func(s *groupstore.Store) change.Outcome {
			o, _ := apply(context.Background(), s, p)
			return o
		}
	case 2:
		through, source := uint64(u.IntN(40)), u.pick(sourcesOfTests...)
		return func(s *groupstore.Store) change.Outcome {
			forget(s, source, through)
			return change.Outcome{}
		}
	case 3:
		return func(s *groupstore.Store) (last change.Outcome) {
			for _, e := range s.Expired(5) {
				last, _ = s.Apply(context.Background(), &change.Change{Operation: change.Expire, Key: e.Key, At: p.At, Version: e.Version}, groupstore.Content{})
			}
			return last
		}
	case 4, 5:
		p.Operation, once = u.operation(), u.pick("k1", "k2", "k3")
		p.Origin = nil
	default:
		p.Operation = u.operation()
	}
	return func(s *groupstore.Store) change.Outcome {
		ch, content := p.change(), groupstore.Content{}
		switch {
		case p.Operation == change.Fail:
			content.Fault = "it was malformed"
		case p.Operation.HasBody():
			content.Body = bodyOf(cloned(families)...)
		}
		if once != "" {
			ch.Once = change.NewOnce(once, ch)
		}
		o, _ := s.Apply(context.Background(), ch, content)
		return o
	}
}

func (u universe) operation() change.Operation {
	return []change.Operation{put, put, post, post, change.Delete, change.Delete, change.Add, change.MergeSeries}[u.IntN(8)]
}

func cloned(families []*dto.MetricFamily) []*dto.MetricFamily {
	var all []*dto.MetricFamily
	for _, mf := range families {
		all = append(all, proto.Clone(mf).(*dto.MetricFamily))
	}
	return all
}

// TestFollow: a store that is fed with the records of another one, however many changes they are of, is the same as that one: in all its records and
// tables, and in what it shows. It decides the same from then on, and one that begins with all records as well.
func TestFollow(t *testing.T) {
	rounds := 30
	if testing.Short() {
		rounds /= 4
	}
	taken, refused, gone, told := 0, 0, 0, 0
	for round := range rounds {
		u := universe{Rand: rand.New(rand.NewPCG(11, uint64(round))), wide: round%5 == 4}
		c := &clock{noon}
		cfg := groupstore.Config{
			Check: groupstore.Check(round % 2), OwnFamilies: ownOfTests, AccountLabel: []string{"", "k"}[round/2%2], Now: c.now, MaxGroups: []int{0, 6}[round/4%2],
		}
		newStore := func() *tester {
			s := newTester(t, cfg)
			s.store.SetMaxTraces(20, 40, 6, 9)
			s.store.SetRegime(lifetime.Regime{ForgetAfter: time.Minute})
			return s
		}
		leader, follower := newStore(), newStore()
		feed := leader.store.Follow()
		defer feed.Close()
		what := fmt.Sprint("round ", round)
		for range 120 {
			if u.deed(t, c)(leader.store).IsTaken() {
				taken++
			} else {
				refused++
			}
			if u.IntN(5) > 0 {
				continue
			}
			d := feed.Take()
			for _, record := range recordsOf(d) {
				told++
				if record == nil {
					gone++
				}
			}
			install := follower.store.Install
			if d.Whole {
				install = follower.store.StartFrom
			}
			if err := install(d.Position, recordsOf(d).all()); err != nil {
				t.Fatalf("%s: Install = %v", what, err)
			}
			wantWhole(t, what, leader, follower)
		}
		d := feed.Take()
		if err := follower.store.Install(d.Position, recordsOf(d).all()); err != nil {
			t.Fatal(err)
		}
		begun := newStore()
		randomPush(t, u, begun, 0) // what it had before is forgotten
		everything, position := whole(leader.store)
		if err := begun.store.StartFrom(position, everything.all()); err != nil {
			t.Fatalf("%s: StartFrom = %v", what, err)
		}
		wantWhole(t, what+", begun anew", leader, begun)
		// Any of them may decide now.
		for i := range 60 {
			deed := u.deed(t, c)
			want := deed(leader.store)
			for name, s := range map[string]*tester{"follower": follower, "begun": begun} {
				got := deed(s.store)
				got.Detail = want.Detail // which names any of the groups that are in the way
				if diff := cmp.Diff(want, got); diff != "" {
					t.Fatalf("%s, %s: change %d (-leader +it):\n%s", what, name, i, diff)
				}
				if i%10 == 9 {
					wantAlike(t, what+", "+name+" decides", leader, s)
				}
			}
		}
	}
	t.Logf("%d changes taken, %d refused, %d records told, %d of them gone", taken, refused, told, gone)
	if taken < 20*rounds || refused < 5*rounds || gone < 5*rounds {
		t.Error("the universe is lopsided")
	}
}

// TestTellsWhatHasChanged: a change tells the records of its group, and of the others that it changes, and no more than that.
func TestTellsWhatHasChanged(t *testing.T) {
	s := newTester(t, groupstore.Config{Check: groupstore.CheckQuarantine})
	feed := s.store.Follow()
	a, b := key(t, "job", "a"), key(t, "job", "b")
	told := func() map[string]bool {
		t.Helper()
		all := map[string]bool{}
		for id, record := range recordsOf(feed.Take()) {
			name := strings.TrimRight(id.Name, "\x00")
			all[fmt.Sprint(id.Kind, " ", name[len(name)-1:])] = record != nil
		}
		return all
	}
	want := func(what string, want map[string]bool) {
		t.Helper()
		if diff := cmp.Diff(want, told()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	s.put(key(t, "job", "other"), "other 1\n")
	want("the first time", map[string]bool{"1 r": true, "2 r": true})
	s.put(a, "# TYPE m counter\nm 1\n")
	s.put(b, "# TYPE m gauge\nm 1\n")
	want("two groups", map[string]bool{"1 a": true, "2 a": true, "1 b": true, "2 b": true})
	if _, err := fail(t.Context(), s.store, pushing{Key: a, At: noon}, "odd"); err != nil {
		t.Fatal(err)
	}
	want("a failure", map[string]bool{"2 a": true})
	s.delete(a)
	want("a deletion, which another one has waited for", map[string]bool{"1 a": false, "2 a": false, "1 b": true})
	want("nothing", map[string]bool{})
	p := body(t, "m 3\n")
	p.Key = a
	s.send(p, "x", 1)
	want("a number", map[string]bool{"1 a": true, "2 a": true, "5 x": true})
	feed.Close()
	s.delete(a)
	want("after its end", map[string]bool{})
}

// TestInstallRefuses: records that are not understood, or that are not all, change nothing.
func TestInstallRefuses(t *testing.T) {
	leader := newTester(t, groupstore.Config{Check: groupstore.CheckQuarantine})
	a, b := key(t, "job", "a", "k", "v"), key(t, "job", "a")
	leader.put(a, "m 1\n")
	leader.put(b, "m{k=\"v\"} 1\n")
	p := body(t, "n 1\n")
	p.Key = key(t, "job", "c")
	leader.send(p, "x", 1)
	leader.send(pushing{Operation: change.Delete, Key: p.Key}, "x", 2)
	good, position := whole(leader.store)
	follower := newTester(t, groupstore.Config{})
	if err := follower.store.StartFrom(position, good.all()); err != nil {
		t.Fatal(err)
	}
	id := func(kind groupstore.RecordKind, name string) groupstore.RecordID {
		return groupstore.RecordID{Kind: kind, Name: name}
	}
	var source []byte
	for id, record := range good {
		if id.Kind == groupstore.SourceRecord {
			source = record
		}
	}
	later := good[id(groupstore.NotesRecord, a.Canonical())]
	for name, bad := range map[string]records{
		"an unknown kind":         {id(99, "x"): []byte("x")},
		"half a new group":        {id(groupstore.FamiliesRecord, key(t, "job", "d").Canonical()): good[id(groupstore.FamiliesRecord, a.Canonical())]},
		"no key":                  {id(groupstore.NotesRecord, "job"): later},
		"no group to wait for":    {id(groupstore.FamiliesRecord, a.Canonical()): nil, id(groupstore.FamiliesRecord, b.Canonical()): good[id(groupstore.FamiliesRecord, b.Canonical())]},
		"no message":              {id(groupstore.NotesRecord, a.Canonical()): {0xff}},
		"a field at its top":      {id(groupstore.NotesRecord, a.Canonical()): append(slices.Clip(later), 0xf8, 0x01, 0x01)},
		"a source by other names": {id(groupstore.SourceRecord, "y"): source},
		"a trace of no source":    {id(groupstore.TraceRecord, "12345678"): {}},
		"an answer of nothing":    {id(groupstore.AnswerRecord, "12345678"): {}},
	} {
		if err := follower.store.Install(position+1, bad.all()); err == nil {
			t.Errorf("%s: no error", name)
		}
		wantWhole(t, name, leader, follower)
	}
	if err := follower.store.Install(position-1, records{}.all()); err == nil {
		t.Error("records of the past were installed")
	}
	if err := newTester(t, groupstore.Config{}).store.StartFrom(1, good.all()); err == nil {
		t.Error("a group of the future was installed")
	}
}

// TestShowCommitted: a store that shows what is committed shows just what it was at that position, in every view, whatever has come since.
func TestShowCommitted(t *testing.T) {
	rounds := 15
	if testing.Short() {
		rounds /= 3
	}
	for round := range rounds {
		u := universe{Rand: rand.New(rand.NewPCG(12, uint64(round))), wide: round%3 == 2}
		cfg := groupstore.Config{Check: groupstore.Check(round % 2), OwnFamilies: ownOfTests}
		j := &journal{}
		cfg.Appender = j
		applied := newTester(t, cfg)
		cfg.Appender, cfg.ShowCommitted = nil, true
		s := newTester(t, cfg)
		seen := []string{applied.full()} // by position
		replayed, keys := 0, map[grouping.Key]bool{}
		for i := range 80 {
			if u.IntN(40) == 0 {
				if err := wipe(t.Context(), applied.store); err != nil {
					t.Fatal(err)
				}
			} else {
				p := pushing{Operation: []change.Operation{put, put, post, change.Delete}[u.IntN(4)], Key: u.key(t), Body: bodyOf(u.families()...), At: noon.Add(time.Duration(i) * time.Second), Origin: u.origin()}
				apply(t.Context(), applied.store, p)
				keys[p.Key] = true
			}
			for ; replayed < len(j.changes); replayed++ {
				seen = append(seen, applied.full())
				if err := s.store.Again(uint64(replayed+1), j.changes[replayed]); err != nil {
					t.Fatal(err)
				}
			}
			if u.IntN(3) == 0 {
				s.store.Commit(s.store.Committed() + uint64(u.IntN(6)))
			}
			if got, want := s.full(), seen[s.store.Committed()]; got != want {
				t.Fatalf("round %d: at position %d, of which %d are committed, it shows\n%s\nwant\n%s", round, s.store.Position(), s.store.Committed(), got, want)
			}
			s.checkGroups(maps.Keys(keys))
		}
		s.store.Commit(1 << 60)
		if diff := cmp.Diff(applied.groups(), s.groups()); diff != "" || s.store.Committed() != s.store.Position() {
			t.Fatalf("round %d: when all is committed (-applied +committed):\n%s", round, diff)
		}
	}
}
