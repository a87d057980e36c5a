package groupstore_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"pushrelay/internal/change"
	"pushrelay/internal/groupstore"
)

// through pushes to a group of the agent's as the agent does.
func (t *tester) through(agent string, sequence uint64, op change.Operation, job, text string) error {
	t.tb.Helper()
	p := pushing{
		Operation: op, Key: key(t.tb, "job", job, "agent", agent), At: noon,
		Origin: &origin{Source: agent + "\x00journal", Sequence: sequence},
	}
	if op != change.Delete {
		p.Body = bodyOf(parse(t.tb, text)...)
	}
	_, err := apply(t.tb.Context(), t.store, p)
	return err
}

// families returns the families that were pushed and are exposed, and the reasons of those that are not.
func (t *tester) families() (exposed string, hidden []string) {
	for g := range t.store.Snapshot().Groups() {
		for f := range g.Families() {
			if f.Quarantined() != "" {
				hidden = append(hidden, f.Quarantined())
			}
		}
	}
	return t.text(), hidden
}

// TestClaims: what looks as if it came from an agent is hidden from the agent's first push on, is in the way of none of the agent's
// pushes, and is looked at again when the agent has nothing more.
func TestClaims(t *testing.T) {
	for _, tt := range []struct{ name, squat, own string }{
		{"the same series", "m{agent=\"site\",job=\"x\"} 1\n", "m 2\n"},
		{"another type", "# TYPE m counter\nm{agent=\"site\"} 1\n", "# TYPE m gauge\nm 2\n"},
		{"a histogram of its name", "# TYPE m histogram\nm_bucket{agent=\"site\",le=\"+Inf\"} 1\nm_sum{agent=\"site\"} 1\nm_count{agent=\"site\"} 1\n", "m_count 2\n"},
		{"a family of another name", "squat{agent=\"site\"} 1\n", "m 2\n"},
		{"one of many series", "m{agent=\"other\"} 1\nm{agent=\"site\"} 1\nm{z=\"1\"} 1\n", "m 2\n"},
		{"nothing but a failure", "m{agent=\"site\"} 1\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			j := &journal{}
			cfg := groupstore.Config{AccountLabel: "agent"}
			replica := newTester(t, cfg)
			cfg.Appender = j
			s := newTester(t, cfg)
			s.put(key(t, "job", "squatter"), tt.squat)
			s.put(key(t, "job", "honest"), "fine{agent=\"somebody\"} 1\n")
			s.put(key(t, "job", "j", "agent", "site"), "direct 1\n") // the agent is not known by that
			if _, hidden := s.families(); len(hidden) > 0 {
				t.Fatalf("hidden before the agent comes: %q", hidden)
			}
			if tt.own == "" {
				p := pushing{Key: key(t, "job", "x", "agent", "site"), At: noon, Origin: &origin{Source: "site\x00journal", Sequence: 1}}
				if _, err := fail(t.Context(), s.store, p, "malformed"); err != nil {
					t.Fatal(err)
				}
			} else if err := s.through("site", 1, put, "x", tt.own); err != nil {
				t.Fatalf("the agent's push = %v", err)
			}
			exposed, hidden := s.families()
			if len(hidden) != 1 || !strings.Contains(hidden[0], "has the label agent of site") {
				t.Errorf("hidden are %q", hidden)
			}
			if strings.Contains(exposed, `job="squatter"`) || !strings.Contains(exposed, `fine{agent="somebody"`) || tt.own != "" && !strings.Contains(exposed, `m`) {
				t.Errorf("exposed is:\n%s", exposed)
			}
			if _, err := s.push(put, key(t, "job", "later"), "late{agent=\"site\"} 1\n"); err == nil {
				t.Error("a later one is taken")
			}
			for i, c := range j.changes {
				if err := replica.store.Again(uint64(i)+1, c); err != nil {
					t.Fatal(err)
				}
			}
			cfg.Appender = nil
			wantSame(t, "replayed", s, replica)
			wantSame(t, "loaded", s, load(t, cfg, cut(t, s.store)))
			if err := s.through("site", 2, change.Delete, "x", ""); err != nil {
				t.Fatal(err)
			}
			if exposed, hidden := s.families(); len(hidden) > 0 || !strings.Contains(exposed, `job="squatter"`) {
				t.Errorf("when the agent has nothing more, %q are hidden, and exposed is:\n%s", hidden, exposed)
			}
			wantSame(t, "loaded again", s, load(t, cfg, cut(t, s.store)))
		})
	}
}

// TestClaimsAreImported: what is imported is kept, and hidden.
func TestClaimsAreImported(t *testing.T) {
	s := newTester(t, groupstore.Config{AccountLabel: "agent"})
	if err := s.through("site", 1, put, "x", "m 1\n"); err != nil {
		t.Fatal(err)
	}
	hidden, _, err := s.store.Import(&groupstore.Import{Key: key(t, "job", "old"), Body: bodyOf(parse(t, "squat{agent=\"site\"} 1\nfine 1\n")...)})
	if err != nil || len(hidden) != 1 || hidden[0].Family != "squat" {
		t.Errorf("Import = %+v, %v", hidden, err)
	}
	if exposed, _ := s.families(); strings.Contains(exposed, "squat") || !strings.Contains(exposed, "fine{") {
		t.Errorf("exposed is:\n%s", exposed)
	}
}

// TestClaimsFreeOthers: who waited for a squatter to go is looked at when it goes into hiding, and not before the agent's push is in.
func TestClaimsFreeOthers(t *testing.T) {
	for _, own := range []string{"m 1\n", "other 1\n"} {
		s := newTester(t, groupstore.Config{AccountLabel: "agent", Check: groupstore.CheckQuarantine})
		s.put(key(t, "job", "squatter"), "# TYPE m counter\nm{agent=\"site\"} 1\n")
		s.put(key(t, "job", "waits"), "# TYPE m gauge\nm 1\n")
		if err := s.through("site", 1, put, "x", own); err != nil {
			t.Fatal(err)
		}
		exposed, hidden := s.families()
		if freed := strings.Contains(exposed, `m{instance="",job="waits"}`); freed != (own != "m 1\n") {
			t.Errorf("with %q pushed, %q are hidden, and exposed is:\n%s", own, hidden, exposed)
		}
	}
}

// TestClaimsOfAnotherLabel: a store that is loaded with another label hides what claims under that one, and shows the rest.
func TestClaimsOfAnotherLabel(t *testing.T) {
	before := newTester(t, groupstore.Config{AccountLabel: "agent"})
	before.put(key(t, "job", "a"), "m{agent=\"site\"} 1\n")
	before.put(key(t, "job", "b"), "n{site=\"site\"} 1\n")
	if err := before.through("site", 1, put, "x", "o 1\n"); err != nil {
		t.Fatal(err)
	}
	p := pushing{Operation: put, Key: key(t, "job", "x", "site", "site"), At: noon, Body: bodyOf(parse(t, "p 1\n")...), Origin: &origin{Source: "site\x00j", Sequence: 2}}
	if _, err := apply(t.Context(), before.store, p); err != nil {
		t.Fatal(err)
	}
	records := cut(t, before.store)
	for label, want := range map[string]string{"agent": "no op", "site": "mo p", "": "mnop"} {
		exposed, _ := load(t, groupstore.Config{AccountLabel: label}, records).families()
		for _, family := range "mnop" {
			if got := strings.Contains(exposed, "\n"+string(family)+"{"); got != strings.ContainsRune(want, family) {
				t.Errorf("loaded with label %q, %c is exposed: %v", label, family, got)
			}
		}
	}
}

// TestClaimsOracle: whatever was pushed, imported and deleted, what is exposed names no agent that has groups, and fits; and nothing else
// is hidden for that.
func TestClaimsOracle(t *testing.T) {
	rounds := 50
	if testing.Short() {
		rounds = 20
	}
	ousted := 0
	for round := range rounds {
		u := universe{Rand: rand.New(rand.NewPCG(6, uint64(round))), wide: round%3 == 0}
		check := []groupstore.Check{groupstore.CheckEnforced, groupstore.CheckQuarantine}[round%2]
		s, o := newTester(t, groupstore.Config{Check: check, OwnFamilies: ownOfTests, AccountLabel: "k"}), newOracle()
		for i := range 60 {
			randomPush(t, u, s, i)
			if err := gather(o.own, s.store.Snapshot(), groupstore.Family{}); err != nil {
				t.Fatalf("round %d: what is exposed does not fit: %v", round, err)
			}
			ousted += checkClaims(t, s, fmt.Sprintf("round %d, step %d", round, i))
		}
	}
	if ousted < rounds {
		t.Errorf("only %d families were ever hidden", ousted)
	}
}

// checkClaims returns how many families are hidden because they claim.
func checkClaims(t *testing.T, s *tester, when string) (ousted int) {
	t.Helper()
	held := map[string]bool{}
	for at, mark := range marksOf(t, s.store) {
		author, _, _ := strings.Cut(strings.Fields(mark)[0], "\x00")
		if author != "" && strings.HasPrefix(at, "{") && strings.Contains(at, fmt.Sprintf("k=%q", author)) {
			held[author] = true
		}
	}
	for g := range s.store.Snapshot().Groups() {
		own, _ := g.Key().Get("k")
		for f := range g.Families() {
			claims := false
			for m := range f.Metrics() {
				for _, l := range m.GetLabel() {
					claims = claims || l.GetName() == "k" && own == "" && held[l.GetValue()]
				}
			}
			hidden := strings.Contains(f.Quarantined(), "has the label k of ")
			if claims && g.Quarantined() == "" && f.Quarantined() == "" || hidden && !claims {
				t.Fatalf("%s: %s of %v claims: %v, and is hidden: %q", when, f.Name(), g.Key(), claims, f.Quarantined())
			}
			if hidden {
				ousted++
			}
		}
	}
	return ousted
}
