package enginetest

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"

	"pushrelay/internal/cluster/engine"
)

// A FaultyKV is the way of one member to etcd. Transactions on it fail, some of them after they were committed, and while it is cut all of them wait. It is safe
// for concurrent use.
type FaultyKV struct {
	clientv3.KV
	// Before is called with what each transaction does, before it is asked for; nil for nothing. It is static while any transaction is.
	Before func(then []clientv3.Op)

	mu       sync.Mutex
	u        *rand.Rand                    // guarded by mu; nil for no faults by chance
	of       int                           // guarded by mu; two in so many fail
	lost     int                           // guarded by mu; how many of the next answers are lost of transactions that write
	cut      chan struct{}                 // guarded by mu; closed when the way is there again; nil while it is
	cutAfter func(then []clientv3.Op) bool // guarded by mu; has the way cut behind the next transaction of which it is true; nil for none
}

var errFault = errors.New("the connection was lost")

// OverFaulty returns a client of a member that goes by a faulty way of its own, and that way, which has no faults yet. It ends with the member.
func OverFaulty(member *engine.Engine) (*clientv3.Client, *FaultyKV) {
	client := *member.Client()
	way := &FaultyKV{KV: client.KV}
	client.KV = way
	return &client, way
}

// Fail has two in so many transactions fail, one of them before it is committed and one after.
func (f *FaultyKV) Fail(u *rand.Rand, of int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.u, f.of = u, of
}

// Heal ends what [FaultyKV.Fail] began.
func (f *FaultyKV) Heal() { f.Fail(nil, 0) }

// LoseAnswer has the answer lost of the next transaction that writes.
func (f *FaultyKV) LoseAnswer() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lost = 1
}

// Cut cuts the way until the function that it returns is called.
func (f *FaultyKV) Cut() (resume func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cut = make(chan struct{})
	return f.resume
}

// CutAfter cuts the way behind the next transaction of which that is true, until the function that it returns is called, which is not to be before.
func (f *FaultyKV) CutAfter(is func(then []clientv3.Op) bool) (resume func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cutAfter = is
	return f.resume
}

func (f *FaultyKV) resume() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.cut)
	f.cut = nil
}

// Txn is for [clientv3.KV].
func (f *FaultyKV) Txn(ctx context.Context) clientv3.Txn {
	return &faultyTxn{Txn: f.KV.Txn(ctx), way: f, ctx: ctx}
}

type faultyTxn struct {
	clientv3.Txn
	way  *FaultyKV
	ctx  context.Context
	then []clientv3.Op
}

func (t *faultyTxn) If(cs ...clientv3.Cmp) clientv3.Txn   { t.Txn = t.Txn.If(cs...); return t }
func (t *faultyTxn) Else(ops ...clientv3.Op) clientv3.Txn { t.Txn = t.Txn.Else(ops...); return t }
func (t *faultyTxn) Then(ops ...clientv3.Op) clientv3.Txn {
	t.then, t.Txn = ops, t.Txn.Then(ops...)
	return t
}

func (t *faultyTxn) Commit() (*clientv3.TxnResponse, error) {
	if t.way.Before != nil {
		t.way.Before(t.then)
	}
	fate, cut := t.way.next(t.then)
	if cut != nil {
		select {
		case <-cut:
		case <-t.ctx.Done():
			return nil, t.ctx.Err()
		}
	}
	if fate == failsBefore {
		return nil, errFault
	}
	resp, err := t.Txn.Commit()
	if fate == failsAfter {
		return nil, errFault
	}
	return resp, err
}

const (
	failsBefore = iota
	failsAfter
	succeeds // or more
)

// next returns what becomes of the next transaction, and what it has to wait for first.
func (f *FaultyKV) next(then []clientv3.Op) (fate int, cut chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fate, cut = succeeds, f.cut
	switch {
	case f.lost > 0 && slices.ContainsFunc(then, clientv3.Op.IsPut):
		f.lost--
		fate = failsAfter
	case f.u != nil:
		fate = f.u.IntN(f.of)
	}
	if f.cutAfter != nil && f.cutAfter(then) {
		f.cutAfter, f.cut = nil, make(chan struct{})
	}
	return fate, cut
}
