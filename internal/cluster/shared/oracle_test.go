package shared_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/ledger"
)

// TestOracle: whatever is done, on whichever relay, comes to what it comes to in a file.
func TestOracle(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { oracle(t, rand.New(rand.NewPCG(seed, 7))) })
	}
}

func oracle(t *testing.T, u *rand.Rand) {
	members, client := three(t)
	file, err := ledger.Open(ledger.Config{Dir: t.TempDir(), Grace: grace})
	must(t, err)
	defer file.Close()
	const steps = 800
	for step := range steps {
		at := begin.Add(time.Duration(step) * time.Minute)
		do := anything(u, at, step)
		m := members[u.IntN(3)]
		want, got := do(file), do(m.Ledger)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("step %d, member %s (-file +etcd):\n%s", step, m.name, diff)
		}
		if step%100 == 99 {
			must(t, members[u.IntN(3)].journal.Compact(t.Context(), at))
		}
	}
	end := begin.Add(steps * time.Minute)
	wantEqual(t, append(members, start(t, "anew", client))...)
	for _, m := range members {
		if diff := cmp.Diff(file.Agents(), m.Agents()); diff != "" {
			t.Errorf("agents of member %s (-file +etcd):\n%s", m.name, diff)
		}
		if diff := cmp.Diff(file.Tokens(end), m.Tokens(end)); diff != "" {
			t.Errorf("tokens of member %s (-file +etcd):\n%s", m.name, diff)
		}
	}
}

// anything returns something that can be done to a ledger, and says what came of it.
func anything(u *rand.Rand, at time.Time, step int) func(*ledger.Ledger) string {
	name, serial := fmt.Sprint("site-", u.IntN(6)), fmt.Sprintf("%x", step+1)
	token := tokenOf(step, 1+u.IntN(3), name, false)
	earlier := tokenOf(max(0, step-u.IntN(40)), 1, name, false).ID
	token.At, token.End = at, at.Add(2*time.Hour)
	if token.Prefix = u.IntN(3) == 0; token.Prefix {
		token.Name, token.Replace = "site-", u.IntN(2) == 0
	}
	c := issued(name, serial, at)
	former := fmt.Sprintf("%x", 1+u.IntN(step+1))
	switch u.IntN(10) {
	case 0:
		return func(l *ledger.Ledger) string {
			done, err := l.Revoke(ledger.Revocation{Agent: name, At: at})
			return fmt.Sprint(done, err)
		}
	case 1:
		return func(l *ledger.Ledger) string {
			done, err := l.Revoke(ledger.Revocation{Agent: name, Serial: former, At: at})
			return fmt.Sprint(done, err)
		}
	case 2:
		return func(l *ledger.Ledger) string { done, err := l.Allow(name, at); return fmt.Sprint(done, err) }
	case 3, 4:
		return func(l *ledger.Ledger) string { return fmt.Sprint(l.MakeToken(token)) }
	case 5:
		return func(l *ledger.Ledger) string { done, err := l.VoidToken(earlier, at); return fmt.Sprint(done, err) }
	case 6, 7:
		c.By, c.Token, c.Key = ledger.ByToken, earlier, keyOf(fmt.Sprint(u.IntN(4)))
		return func(l *ledger.Ledger) string { return fmt.Sprint(l.Issue(c)) }
	case 8:
		c.By, c.Parent = ledger.ByRenewal, former
		return func(l *ledger.Ledger) string { return fmt.Sprint(l.Issue(c)) }
	default:
		return func(l *ledger.Ledger) string { return fmt.Sprint(l.Issue(c)) }
	}
}
