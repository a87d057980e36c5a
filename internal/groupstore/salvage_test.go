package groupstore_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/groupstore"
	"pushrelay/internal/series"
)

// TestSalvage leaves runs of records out of the cuts of random stores. What is loaded of the rest is what the store had, or
// a part of it; a group that is gone though its record is there is told; and the store goes on.
func TestSalvage(t *testing.T) {
	whole, part, told := 0, 0, 0
	rounds := 200
	if testing.Short() {
		rounds /= 4
	}
	for round := range rounds {
		u := universe{Rand: rand.New(rand.NewPCG(13, uint64(round))), wide: round%4 == 3}
		cfg := groupstore.Config{Check: []groupstore.Check{groupstore.CheckEnforced, groupstore.CheckQuarantine}[round%2], OwnFamilies: ownOfTests}
		s := newTester(t, cfg)
		for i := range 60 {
			randomPush(t, u, s, i)
		}
		records := cut(t, s.store)
		if round/2%2 == 1 {
			records = formerCut(t, s.store)
		}
		rescued := newTester(t, cfg)
		l := rescued.store.Loader()
		lost := map[int]bool{}
		for range 1 + u.IntN(3) {
			first := u.IntN(len(records))
			for i := first; i < min(len(records), first+1+u.IntN(8)); i++ {
				lost[i] = true
			}
		}
		for i, r := range records {
			switch {
			case !lost[i]:
				if err := l.Add(r); err != nil {
					t.Fatalf("round %d: record %d of %d: %v", round, i, len(records), err)
				}
			case !lost[i-1]:
				l.Missing()
			}
		}
		if err := l.Finish(); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		told += len(l.Lost())
		want := familiesOfGroups(s)
		for key, families := range familiesOfGroups(rescued) {
			switch lines := want[key]; {
			case slices.Equal(lines, families):
				whole++
			case slices.ContainsFunc(families, func(f string) bool { return !slices.Contains(lines, f) }):
				t.Fatalf("round %d: group %s has what it never had:\n%q\nwant of\n%q", round, key, families, lines)
			default:
				part++
				if !slices.ContainsFunc(l.Lost(), func(line string) bool { return strings.HasPrefix(line, key) }) {
					t.Fatalf("round %d: a part of group %s is lost, and that is not told: %q", round, key, l.Lost())
				}
			}
		}
		rescued.store.DropMarks()
		for i := range 20 {
			randomPush(t, u, rescued, 100+i)
		}
		rescued.full()
		load(t, cfg, cut(t, rescued.store))
	}
	if whole == 0 || part == 0 || told == 0 {
		t.Errorf("%d groups are whole, %d in part, %d are told as lost: not every kind was met", whole, part, told)
	}
}

// familiesOfGroups returns all that the groups hold, whether it is exposed or not.
func familiesOfGroups(s *tester) map[string][]string {
	all := map[string][]string{}
	for g := range s.store.Snapshot().Groups() {
		families := []string{}
		for f := range g.Families() {
			if f.Name() == series.PushTimeFamily || f.Name() == series.FailureTimeFamily {
				continue
			}
			line := fmt.Sprint(f.Name(), f.Type(), f.PushTime().UnixNano())
			for m := range f.Metrics() {
				line += strings.ReplaceAll(m.String(), "  ", " ")
			}
			families = append(families, line)
		}
		all[g.Key().String()] = families
	}
	return all
}

func TestChangeTime(t *testing.T) {
	j := &journal{}
	s := newTester(t, groupstore.Config{Appender: j})
	apply(t.Context(), s.store, pushing{Operation: put, Key: universe{Rand: rand.New(rand.NewPCG(1, 1))}.key(t), Body: bodyOf(), At: noon})
	if err := wipe(t.Context(), s.store); err != nil {
		t.Fatal(err)
	}
	for i, want := range []time.Time{noon, {}} {
		if got := groupstore.ChangeTime(encoded(j)[i]); !got.Equal(want) {
			t.Errorf("ChangeTime() of change %d = %v, want %v", i, got, want)
		}
	}
	if got := groupstore.ChangeTime([]byte("?")); !got.IsZero() {
		t.Errorf("ChangeTime() of no record = %v", got)
	}
}
