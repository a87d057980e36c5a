package groupstore_test

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/change"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/lifetime"
)

// A kept is where a leader keeps its records, in outcomes of which the last may be unfinished.
type kept struct {
	records  records // as they were after the last outcome that was finished
	position uint64
	written  records // since
}

// write keeps some records of a delta, or all.
func (k *kept) write(d *groupstore.Delta, some func() bool) (finished bool) {
	for id, record := range d.Records() {
		if !some() {
			return false
		}
		k.written[id] = record
	}
	for id, record := range k.written {
		if record == nil {
			delete(k.records, id)
		} else {
			k.records[id] = record
		}
	}
	k.position = d.Position
	return true
}

// TestShortWipes: a wipe that is one record leaves those who follow, and those who begin with all that is kept at whatever time, with what the leader has; also
// when another one leads, and when it does after an outcome that was not finished.
func TestShortWipes(t *testing.T) {
	rounds := 40
	if testing.Short() {
		rounds /= 4
	}
	wipes, unfinished, remnants := 0, 0, 0
	for round := range rounds {
		u := universe{Rand: rand.New(rand.NewPCG(24, uint64(round))), wide: round%5 == 4}
		c := &clock{noon}
		cfg := groupstore.Config{Check: groupstore.Check(round % 2), OwnFamilies: ownOfTests, AccountLabel: []string{"", "k"}[round/2%2], Now: c.now, ShortWipes: func() bool { return true }}
		newStore := func() *tester {
			s := newTester(t, cfg)
			s.store.SetMaxTraces(20, 40, 6, 9)
			s.store.SetSettledAtOnce(1)
			s.store.SetRegime(lifetime.Regime{ForgetAfter: time.Minute})
			return s
		}
		leader, follower := newStore(), newStore()
		k := &kept{records: records{}, written: records{}}
		feed := leader.store.FollowOn(nil)
		for step := range 150 {
			what := fmt.Sprintf("round %d, step %d", round, step)
			if u.IntN(12) == 0 {
				wipes++
				p := pushing{Operation: change.Wipe, At: c.Time, Origin: u.origin()}
				if o, err := apply(t.Context(), leader.store, p); err != nil {
					t.Fatalf("%s: a wipe: %v %v", what, o, err)
				}
			} else {
				u.deed(t, c)(leader.store)
			}
			if u.IntN(4) > 0 {
				continue
			}
			if u.IntN(6) == 0 { // it is deposed while it writes; what it has decided and not written is lost
				unfinished++
				if d := feed.Take(); !k.write(d, func() bool { return u.IntN(3) > 0 }) {
					feed.Close()
					leader, follower = follower, newStore()
					start(t, what, follower, k)
					feed = leader.store.FollowOn(slices.Collect(maps.Keys(k.written)))
					k.written = records{}
					continue
				} else if err := follower.store.Install(d.Position, k.written.all()); err != nil {
					t.Fatalf("%s: Install = %v", what, err)
				}
				k.written = records{}
				continue
			}
			d := feed.Take()
			k.write(d, func() bool { return true })
			if err := follower.store.Install(d.Position, k.written.all()); err != nil {
				t.Fatalf("%s: Install = %v", what, err)
			}
			k.written = records{}
			remnants += len(leader.store.Remnants())
			wantWhole(t, what, leader, follower)
			wantRemnants(t, what, leader, follower)
			begun := newStore()
			start(t, what, begun, k)
			wantWhole(t, what+", begun anew", leader, begun)
			wantRemnants(t, what+", begun anew", leader, begun)
			if u.IntN(5) == 0 {
				feed.Close()
				leader, follower = []*tester{follower, begun}[u.IntN(2)], leader
				feed = leader.store.FollowOn(nil)
			}
		}
		for range 100 { // all that is left is told in the end
			d := feed.Take()
			k.write(d, func() bool { return true })
			k.written = records{}
		}
		want, at := whole(leader.store)
		delete(k.records, groupstore.RecordID{Kind: groupstore.WipeRecord})
		if at != k.position || !maps.EqualFunc(want, k.records, bytes.Equal) {
			t.Fatalf("round %d: what is kept in the end (-want +got):\n%s", round, cmp.Diff(want, k.records))
		}
		feed.Close()
	}
	t.Logf("%d wipes, %d outcomes interrupted, %d remnants seen", wipes, unfinished, remnants)
	if wipes < 5*rounds || remnants < 5*rounds || unfinished < rounds {
		t.Error("the universe is lopsided")
	}
}

// start has a store begin with all that is kept.
func start(t *testing.T, what string, s *tester, k *kept) {
	t.Helper()
	if err := s.store.StartFrom(k.position, k.records.all()); err != nil {
		t.Fatalf("%s: StartFrom = %v", what, err)
	}
}

func wantRemnants(t *testing.T, what string, want, got *tester) {
	t.Helper()
	if diff := cmp.Diff(want.store.Remnants(), got.store.Remnants()); diff != "" {
		t.Fatalf("%s: remnants (-want +got):\n%s", what, diff)
	}
}

// TestWipeIsOneRecord: it is told at once by one record, and of the groups little by little; where those who follow do not understand that, by all of them at once.
func TestWipeIsOneRecord(t *testing.T) {
	const groups = 2000
	for _, short := range []bool{true, false} {
		s := newTester(t, groupstore.Config{ShortWipes: func() bool { return short }})
		feed := s.store.Follow()
		for i := range groups {
			s.put(key(t, "job", fmt.Sprint(i)), "m 1\n")
		}
		feed.Take()
		if _, err := apply(t.Context(), s.store, pushing{Operation: change.Wipe}); err != nil {
			t.Fatal(err)
		}
		var lengths []int
		for range 6 {
			lengths = append(lengths, feed.Take().Len())
		}
		want := []int{1 + 2*512, 2 * 512, 2 * 512, 2 * (groups - 3*512), 0, 0}
		if !short {
			want = []int{2 * groups, 0, 0, 0, 0, 0}
		}
		if diff := cmp.Diff(want, lengths); diff != "" {
			t.Errorf("short %v: records told (-want +got):\n%s", short, diff)
		}
		feed.Close()
	}
}
