package groupstore_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/change"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/metric"
)

// ownOfTests is the one family that the stores of these tests have themselves.
var ownOfTests = []groupstore.OwnFamily{{Name: "own", Type: metric.Gauge}}

// encoded returns the records of a journal's changes.
func encoded(j *journal) [][]byte {
	records := make([][]byte, len(j.changes))
	for i, c := range j.changes {
		records[i] = groupstore.AppendEffect(nil, uint64(i+1), c)
	}
	return records
}

// formerCut returns the records of the whole store as they were before format 3.
func formerCut(tb testing.TB, s *groupstore.Store) [][]byte {
	tb.Helper()
	c, err := s.Cut(func() error { return nil })
	if err != nil {
		tb.Fatal(err)
	}
	return c.FormerRecords()
}

// cut returns the records of the whole store.
func cut(tb testing.TB, s *groupstore.Store) [][]byte {
	tb.Helper()
	c, err := s.Cut(func() error { return nil })
	if err != nil {
		tb.Fatal(err)
	}
	var records [][]byte
	for r := range c.Records() {
		records = append(records, slices.Clone(r))
	}
	return records
}

func load(tb testing.TB, cfg groupstore.Config, records [][]byte) *tester {
	tb.Helper()
	s := newTester(tb, cfg)
	l := s.store.Loader()
	for i, r := range records {
		if err := l.Add(r); err != nil {
			tb.Fatalf("record %d: %v", i, err)
		}
	}
	if err := l.Finish(); err != nil {
		tb.Fatal(err)
	}
	return s
}

// randomPush does one of everything that can be done to a store.
func randomPush(t *testing.T, u universe, s *tester, i int) {
	t.Helper()
	p := pushing{Key: u.key(t), At: noon.Add(time.Duration(i) * time.Second), Origin: u.origin()}
	switch u.IntN(20) {
	case 0:
		if _, err := fail(t.Context(), s.store, p, "it was malformed"); err != nil {
			t.Fatal(err)
		}
	case 2:
		if _, err := mark(t.Context(), s.store, p); err != nil {
			t.Fatal(err)
		}
	case 3:
		forget(s.store, u.pick(sourcesOfTests...), uint64(u.IntN(40)))
	case 1:
		if u.IntN(4) == 0 {
			if err := wipe(t.Context(), s.store); err != nil {
				t.Fatal(err)
			}
		}
	default:
		p.Operation = []change.Operation{put, put, post, post, change.Delete}[u.IntN(5)]
		p.Body = bodyOf(u.families()...)
		apply(t.Context(), s.store, p)
	}
}

// sourcesOfTests are some authors, of which two have the names of values of labels, and one none: it is a relay.
var sourcesOfTests = []string{"a", "1\x00b", "2", "\x00r"}

// origin returns none, or one that may well have been before.
func (u universe) origin() *origin {
	if u.IntN(3) == 0 {
		return nil
	}
	return &origin{Source: u.pick(sourcesOfTests...), Sequence: 1 + uint64(u.IntN(40)), Digest: [16]byte{byte(u.IntN(2))}}
}

var zeros = regexp.MustCompile("\x00{2,}")

// marksOf returns all marks of a store.
func marksOf(tb testing.TB, s *groupstore.Store) map[string]string {
	tb.Helper()
	all, err := s.Marks()
	if err != nil {
		tb.Fatal(err)
	}
	short := make(map[string]string, len(all)) // journals of tests are short names
	for name, mark := range all {
		short[zeros.ReplaceAllString(name, "")] = zeros.ReplaceAllString(mark, "")
	}
	return short
}

// wantSame compares all that can be seen of two stores.
func wantSame(t *testing.T, what string, want, got *tester) {
	t.Helper()
	if diff := cmp.Diff(want.groups(), got.groups()); diff != "" {
		t.Fatalf("%s: groups (-want +got):\n%s", what, diff)
	}
	if diff := cmp.Diff(want.full(), got.full()); diff != "" {
		t.Fatalf("%s: exposition (-want +got):\n%s", what, diff)
	}
	if diff := cmp.Diff(marksOf(t, want.store), marksOf(t, got.store)); diff != "" {
		t.Fatalf("%s: marks (-want +got):\n%s", what, diff)
	}
	ignored := []string{"valueBytes", "layouts"}
	w, g := want.store.Tables(), got.store.Tables()
	for _, table := range ignored {
		delete(w, table)
		delete(g, table)
	}
	if diff := cmp.Diff(w, g); diff != "" {
		t.Fatalf("%s: tables (-want +got):\n%s", what, diff)
	}
}

// TestRecords encodes the changes and the cuts of random stores: what is made of them is the store, at every position, and
// goes on as the store does, also where families wait in quarantine.
func TestRecords(t *testing.T) {
	rounds := 12
	if testing.Short() {
		rounds /= 3
	}
	for _, check := range []groupstore.Check{groupstore.CheckEnforced, groupstore.CheckQuarantine} {
		for round := range rounds {
			u := universe{Rand: rand.New(rand.NewPCG(4, uint64(round))), wide: round%4 == 3}
			j := &journal{}
			plain := groupstore.Config{Check: check, OwnFamilies: ownOfTests, AccountLabel: []string{"", "k"}[round%2]}
			replica := newTester(t, plain)
			logged := plain
			logged.Appender = j
			s := newTester(t, logged)
			followers := map[string]*tester{"replica": replica, "former replica": newTester(t, plain)}
			done := 0
			for i := range 80 {
				randomPush(t, u, s, i)
				for ; done < len(j.changes); done++ {
					record := groupstore.AppendEffect(nil, uint64(done+1), j.changes[done])
					former := groupstore.AppendFormerEffect(nil, uint64(done+1), j.changes[done])
					for name, f := range followers {
						of := record
						if strings.HasPrefix(name, "former") {
							of = former
						}
						if !groupstore.ChangeTime(record).Equal(groupstore.ChangeTime(former)) {
							t.Fatalf("ChangeTime() = %v, and %v of the former record", groupstore.ChangeTime(record), groupstore.ChangeTime(former))
						}
						if err := f.store.Replay(of); err != nil {
							t.Fatalf("%s: Replay at position %d: %v", name, done+1, err)
						}
					}
				}
				if i%4 == 3 {
					for name, f := range followers {
						wantSame(t, name, s, f)
					}
				}
				if i == 20 || i == 50 {
					followers["loaded"] = load(t, plain, cut(t, s.store))
					followers["former loaded"] = load(t, plain, formerCut(t, s.store))
				}
			}
			if got, want := followers["loaded"].store.Position(), s.store.Position(); got != want {
				t.Fatalf("Position() = %d, want %d", got, want)
			}
		}
	}
}

// TestLoadWithOtherFlags loads with other limits and another check: what was acknowledged stays.
func TestLoadWithOtherFlags(t *testing.T) {
	for round := range 10 {
		u := universe{Rand: rand.New(rand.NewPCG(5, uint64(round)))}
		j := &journal{}
		s := newTester(t, groupstore.Config{Check: groupstore.CheckQuarantine, OwnFamilies: ownOfTests, Appender: j})
		for i := range 60 {
			randomPush(t, u, s, i)
		}
		other := groupstore.Config{Check: groupstore.CheckEnforced, OwnFamilies: ownOfTests, MaxSeries: 1, MaxGroups: 1}
		wantSame(t, "loaded", s, load(t, other, cut(t, s.store)))
		replica := newTester(t, other)
		for _, r := range encoded(j) {
			if err := replica.store.Replay(r); err != nil {
				t.Fatal(err)
			}
		}
		wantSame(t, "replayed", s, replica)
	}
}

// TestLoadWithOtherOwnFamilies loads into a program that has got a metric of its own, and has lost another.
func TestLoadWithOtherOwnFamilies(t *testing.T) {
	before := newTester(t, groupstore.Config{Check: groupstore.CheckQuarantine, OwnFamilies: []groupstore.OwnFamily{{Name: "old", Type: metric.Gauge}}})
	before.put(key(t, "job", "a"), "# TYPE new counter\nnew 1\n# TYPE old counter\nold 1\nm 1\n")
	before.put(key(t, "job", "b"), "# TYPE new gauge\nnew 2\n")
	after := load(t, groupstore.Config{OwnFamilies: []groupstore.OwnFamily{{Name: "new", Type: metric.Gauge}}}, cut(t, before.store))
	want := "# TYPE m untyped\nm{instance=\"\",job=\"a\"} 1\n# TYPE new gauge\nnew{instance=\"\",job=\"b\"} 2\n# TYPE old counter\nold{instance=\"\",job=\"a\"} 1\n"
	if diff := cmp.Diff(want, after.text()); diff != "" {
		t.Errorf("exposition (-want +got):\n%s", diff)
	}
	if got := after.store.Stats().Quarantined; got != 1 {
		t.Errorf("%d families in quarantine, want 1", got)
	}
}

// TestMend replays a log of which changes are missing.
func TestMend(t *testing.T) {
	j := &journal{}
	s := newTester(t, groupstore.Config{Appender: j})
	a, b := key(t, "job", "a"), key(t, "job", "b")
	s.put(a, "m 1\nn 1\n")
	s.put(b, "m 1\n")
	if _, err := s.push(post, a, "m 2\n"); err != nil {
		t.Fatal(err)
	}
	s.delete(b)
	s.put(a, "m 3\n")
	records := encoded(j)
	lossy := newTester(t, groupstore.Config{})
	for i, r := range [][]byte{records[2], records[3], records[4]} {
		if err := lossy.store.Replay(r); i == 0 && err == nil {
			t.Error("Replay of a log with a hole succeeded")
		}
		if err := lossy.store.Mend(r); err != nil {
			t.Fatal(err)
		}
	}
	wantSame(t, "mended", s, lossy)
}

// TestReplayRefusesATenant: a change of another tenant's store is never taken for one of this store (S2).
func TestReplayRefusesATenant(t *testing.T) {
	j := &journal{}
	newTester(t, groupstore.Config{Appender: j}).put(key(t, "job", "a"), "m 1\n")
	record := groupstore.AppendFormerEffect(nil, 1, j.changes[0])
	const tenant = 4 // follows format, kind, operation and position
	if record[tenant] != 0 {
		t.Fatalf("a record has a tenant of %d bytes, want none", record[tenant])
	}
	others := slices.Replace(slices.Clone(record), tenant, tenant+1, []byte("\x05other")...)
	for name, replay := range map[string]func(*groupstore.Store, []byte) error{"Replay": (*groupstore.Store).Replay, "Mend": (*groupstore.Store).Mend} {
		s := newTester(t, groupstore.Config{})
		if err := replay(s.store, others); err == nil || !strings.Contains(err.Error(), `tenant "other"`) {
			t.Errorf("%s of another tenant's change: %v, want an error that names the tenant", name, err)
		}
		if err := replay(s.store, append(encoded(j)[0], "\x42\x05other"...)); err == nil || !strings.Contains(err.Error(), "does not know") {
			t.Errorf("%s of a change with a field that is not known: %v, want it refused", name, err)
		}
		if err := replay(s.store, record); err != nil {
			t.Errorf("%s of the same change without a tenant: %v", name, err)
		}
	}
}

func TestLoaderRefuses(t *testing.T) {
	s := newTester(t, groupstore.Config{Check: groupstore.CheckQuarantine})
	s.put(key(t, "job", "a"), "# TYPE m counter\nm 1\n")
	s.put(key(t, "job", "b"), "# TYPE m gauge\nm 1\n")
	whole := formerCut(t, s.store)
	later := slices.Clone(whole[0])
	later[0] = 99
	for name, records := range map[string][][]byte{
		"no position":      whole[1:],
		"two positions":    {whole[0], whole[0]},
		"a group twice":    {whole[0], whole[1], whole[2], whole[2]},
		"a later version":  {later},
		"a kind of later":  {whole[0], {99, 1}},
		"no set":           {whole[0], whole[2]},
		"an empty record":  {whole[0], {}},
		"an unknown kind":  {whole[0], {1, 99}},
		"nothing":          {},
		"a change instead": {whole[0], groupstore.AppendEffect(nil, 1, groupstore.Effect{Operation: change.Wipe})},
	} {
		t.Run(name, func(t *testing.T) {
			l := groupstore.New(groupstore.Config{}).Loader()
			var err error
			for _, r := range records {
				err = errors.Join(err, l.Add(r))
			}
			if err = errors.Join(err, l.Finish()); err == nil {
				t.Error("no error")
			}
		})
	}
}

// TestReservedSince: a family that an earlier release took under a name that is the relay's own by now is kept and hidden, in a snapshot and in a log.
func TestReservedSince(t *testing.T) {
	log := &journal{}
	s := newTester(t, groupstore.Config{Appender: log})
	k := key(t, "job", "a")
	s.put(k, "m 1\npush_uq 1\n")
	rename := func(record []byte) []byte { return bytes.ReplaceAll(record, []byte("push_uq"), []byte("push_up")) }
	var records [][]byte
	for _, r := range cut(t, s.store) {
		records = append(records, rename(r))
	}
	loaded := load(t, groupstore.Config{}, records)
	replayed := newTester(t, groupstore.Config{})
	if err := replayed.store.Replay(rename(groupstore.AppendEffect(nil, 1, log.changes[0]))); err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]*tester{"loaded": loaded, "replayed": replayed} {
		if got := s.text(); strings.Contains(got, "push_up") || !strings.Contains(got, "\nm{") {
			t.Errorf("%s, exposed:\n%s", name, got)
		}
		if got := s.groups(); len(got) != 1 || !strings.Contains(got[0], "push_up@0s!") {
			t.Errorf("%s, groups: %q", name, got)
		}
	}
}
