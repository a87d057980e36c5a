package shared_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pushrelay/internal/cluster/enginetest"
	"pushrelay/internal/ledger"
)

// overFaulty are members that share one etcd, each by a way of its own.
func overFaulty(t *testing.T) (members []*member, ways []*enginetest.FaultyKV) {
	t.Helper()
	engine := enginetest.New(t, 1).Start(t, "a")["a"]
	for _, name := range enginetest.Names(3) {
		client, way := enginetest.OverFaulty(engine)
		members, ways = append(members, start(t, name, client)), append(ways, way)
	}
	return members, ways
}

// TestLostAnswers: what was written and whose answer was lost is written once, also if others have written since, or have written all anew.
func TestLostAnswers(t *testing.T) {
	members, ways := overFaulty(t)
	for _, tt := range []struct {
		name    string
		between func()
	}{
		{"nothing comes between", func() {}},
		{"others write", func() { must(t, members[1].Issue(issued("site-b", "b1", begin))) }},
		{"others write all anew", func() { must(t, members[1].journal.Compact(t.Context(), begin)) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			name := strings.ReplaceAll(tt.name, " ", "-")
			count := len(members[0].Records())
			ways[0].LoseAnswer()
			var asking sync.WaitGroup
			asking.Go(func() {
				if _, err := members[0].Revoke(ledger.Revocation{Agent: name, At: begin}); err != nil {
					t.Error(err)
				}
			})
			enginetest.Eventually(t, "another one hears it", func() bool {
				_, refused := members[1].Refuses(name, "1")
				return refused
			})
			tt.between()
			asking.Wait()
			if _, refused := members[0].Refuses(name, "1"); !refused {
				t.Error("it does not count")
			}
			wantEqual(t, members...)
			if n := strings.Count(text(t, members[0].State), `"revoked":{"agent":"`+name+`"`); n != 1 || len(members[0].Records()) < count {
				t.Errorf("it was written %d times:\n%s", n, text(t, members[0].State))
			}
		})
	}
}

// TestFaults: while answers are lost, tokens are spent once, and what was acknowledged counts everywhere in the end.
func TestFaults(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			members, ways := overFaulty(t)
			must(t, members[0].MakeToken(tokenOf(1, 40, "site-", true)))
			for i, way := range ways {
				way.Fail(rand.New(rand.NewPCG(seed, uint64(i))), 8)
			}
			var let, failed atomic.Int64
			together(members, func(i int, m *member) {
				for n := range 40 {
					name := fmt.Sprintf("site-%d-%d", i, n)
					err := m.Issue(enrolled(name, fmt.Sprintf("%x", 1+i*1000+n), tokenOf(1, 40, "site-", true).ID, begin))
					_, doubt := errors.AsType[*ledger.NoMajorityError](err)
					switch {
					case err == nil:
						if let.Add(1); !m.HasAny(name) {
							t.Errorf("%s was let in, and the relay does not know it", name)
						}
					case doubt:
						failed.Add(1)
					case !errors.Is(err, ledger.ErrToken):
						t.Errorf("%s: %v", name, err)
					}
					if n%10 == 9 {
						if err := m.journal.Compact(t.Context(), begin); err != nil {
							t.Logf("member %s: %v", m.name, err)
						}
					}
				}
			})
			for _, way := range ways {
				way.Heal()
			}
			wantEqual(t, members...)
			used := len(members[0].Agents())
			if used != 40 || let.Load() > 40 || let.Load()+failed.Load() < 40 {
				t.Errorf("a token of 40 uses has let in %d, of which %d were told and %d may not have been", used, let.Load(), failed.Load())
			}
			t.Logf("%d told, %d in doubt", let.Load(), failed.Load())
		})
	}
}

// TestNoMajority: nothing is noted and that is said, at once after the first time; what is known refuses; and once there is a majority all goes on.
func TestNoMajority(t *testing.T) {
	c := enginetest.New(t, 2)
	a := start(t, "a", c.Start(t, "a", "b")["a"].Client())
	must(t, a.Issue(issued("site-a", "a1", begin)))
	if _, err := a.Revoke(ledger.Revocation{Agent: "site-a", At: begin}); err != nil {
		t.Fatal(err)
	}
	c.Stop("b")
	for i := range 10 {
		began := time.Now()
		err := a.Issue(issued("site-b", fmt.Sprintf("b%d", i), begin))
		without, ok := errors.AsType[*ledger.NoMajorityError](err)
		if !ok || without.InDoubt != (i == 0) || !strings.Contains(err.Error(), "no majority") {
			t.Fatalf("Issue() %d = %v", i, err)
		}
		if took := time.Since(began); i > 0 && took > 2*time.Second {
			t.Errorf("Issue() %d took %v", i, took)
		}
		if _, refused := a.Refuses("site-a", "a1"); !refused {
			t.Error("what is revoked is not refused")
		}
		if _, ok := errors.AsType[*ledger.RevokedError](a.Issue(issued("site-a", "a2", begin))); !ok {
			t.Error("a certificate for a name that is revoked is not refused for that")
		}
	}
	b := start(t, "b", c.Start(t, "b")["b"].Client())
	enginetest.Eventually(t, "it goes on", func() bool { return a.Issue(issued("site-c", "c1", begin)) == nil })
	if _, err := b.Revoke(ledger.Revocation{Agent: "site-c", At: begin}); err != nil {
		t.Fatal(err)
	}
	wantEqual(t, a, b)
}
