package shared_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"pushrelay/internal/cluster/enginetest"
	"pushrelay/internal/ledger"
)

// A faultyKV is the way of one member to etcd. Transactions on it fail, some of them after they were committed, and while it is cut all of them wait.
type faultyKV struct {
	clientv3.KV
	mu  sync.Mutex
	u   *rand.Rand    // guarded by mu; nil for no faults but cuts
	cut chan struct{} // guarded by mu; closed when the way is there again; nil while it is
	// before is called with each transaction, before it is asked for; static while any is.
	before func(then []clientv3.Op)
	// lost is how many of the next answers are lost of transactions that are committed; guarded by mu.
	lost int
}

var errFault = errors.New("the connection was lost")

func (f *faultyKV) Txn(ctx context.Context) clientv3.Txn {
	return &faultyTxn{Txn: f.KV.Txn(ctx), way: f, ctx: ctx}
}

type faultyTxn struct {
	clientv3.Txn
	way    *faultyKV
	ctx    context.Context
	then   []clientv3.Op
	writes bool
}

func (t *faultyTxn) If(cs ...clientv3.Cmp) clientv3.Txn   { t.Txn = t.Txn.If(cs...); return t }
func (t *faultyTxn) Else(ops ...clientv3.Op) clientv3.Txn { t.Txn = t.Txn.Else(ops...); return t }
func (t *faultyTxn) Then(ops ...clientv3.Op) clientv3.Txn {
	for _, op := range ops {
		t.writes = t.writes || op.IsPut()
	}
	t.then, t.Txn = ops, t.Txn.Then(ops...)
	return t
}

func (t *faultyTxn) Commit() (*clientv3.TxnResponse, error) {
	if t.way.before != nil {
		t.way.before(t.then)
	}
	fate, cut := t.way.next(t.writes)
	if cut != nil {
		select {
		case <-cut:
		case <-t.ctx.Done():
			return nil, t.ctx.Err()
		}
	}
	if fate == 0 {
		return nil, errFault // before
	}
	resp, err := t.Txn.Commit()
	if fate == 1 {
		return nil, errFault // after
	}
	return resp, err
}

// next returns what becomes of the next transaction, and what it has to wait for first.
func (f *faultyKV) next(writes bool) (fate int, cut chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fate = 2
	switch {
	case f.lost > 0 && writes:
		f.lost--
		fate = 1
	case f.u != nil:
		fate = f.u.IntN(8)
	}
	return fate, f.cut
}

// pause cuts the way until the function that it returns is called.
func (f *faultyKV) pause() (resume func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cut = make(chan struct{})
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		close(f.cut)
		f.cut = nil
	}
}

// overFaulty are members that share one etcd, each by a way of its own.
func overFaulty(t *testing.T) (members []*member, ways []*faultyKV) {
	t.Helper()
	engine := enginetest.New(t, 1).Start(t, "a")["a"]
	for _, name := range enginetest.Names(3) {
		client := *engine.Client()
		way := &faultyKV{KV: client.KV}
		client.KV = way
		members, ways = append(members, start(t, name, &client)), append(ways, way)
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
			ways[0].mu.Lock()
			ways[0].lost = 1
			ways[0].mu.Unlock()
			var asking sync.WaitGroup
			asking.Go(func() {
				if _, err := members[0].Revoke(ledger.Revocation{Agent: name, At: begin}); err != nil {
					t.Error(err)
				}
			})
			eventually(t, "another one hears it", func() bool {
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
				way.mu.Lock()
				way.u = rand.New(rand.NewPCG(seed, uint64(i)))
				way.mu.Unlock()
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
				way.mu.Lock()
				way.u = nil
				way.mu.Unlock()
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
	eventually(t, "it goes on", func() bool { return a.Issue(issued("site-c", "c1", begin)) == nil })
	if _, err := b.Revoke(ledger.Revocation{Agent: "site-c", At: begin}); err != nil {
		t.Fatal(err)
	}
	wantEqual(t, a, b)
}
