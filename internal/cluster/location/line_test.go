package location_test

import (
	"context"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"pushrelay/internal/cluster/enginetest"
)

// A line is a relay's way to etcd. It can be cut: requests then wait as long as they may, and what a watch tells comes later.
type line struct {
	requests, watches gate
}

// gate holds up whoever passes while it is shut.
type gate struct {
	mu     sync.Mutex
	opened chan struct{} // guarded by mu; nil while it is open
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.opened = make(chan struct{})
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.opened)
	g.opened = nil
}

func (g *gate) pass(ctx context.Context) error {
	g.mu.Lock()
	opened := g.opened
	g.mu.Unlock()
	if opened == nil {
		return nil
	}
	select {
	case <-opened:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *line) cut()  { l.requests.shut(); l.watches.shut() }
func (l *line) mend() { l.requests.open(); l.watches.open() }

// over returns a client that goes over the line.
func (l *line) over(t *testing.T, client *clientv3.Client) *clientv3.Client {
	t.Helper()
	c := clientv3.NewCtxClient(t.Context())
	c.KV, c.Lease, c.Watcher = &kvOver{client.KV, &l.requests}, &leaseOver{client.Lease, &l.requests}, &enginetest.HeldWatcher{Watcher: client.Watcher, Pass: l.watches.pass}
	return c
}

type kvOver struct {
	clientv3.KV
	gate *gate
}

func (k *kvOver) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	if err := k.gate.pass(ctx); err != nil {
		return nil, err
	}
	return k.KV.Get(ctx, key, opts...)
}

func (k *kvOver) Txn(ctx context.Context) clientv3.Txn { return &txnOver{k.KV.Txn(ctx), ctx, k.gate} }

type txnOver struct {
	clientv3.Txn
	ctx  context.Context //nolint:containedctx // That of the one transaction.
	gate *gate
}

func (x *txnOver) If(cs ...clientv3.Cmp) clientv3.Txn   { x.Txn = x.Txn.If(cs...); return x }
func (x *txnOver) Then(ops ...clientv3.Op) clientv3.Txn { x.Txn = x.Txn.Then(ops...); return x }
func (x *txnOver) Else(ops ...clientv3.Op) clientv3.Txn { x.Txn = x.Txn.Else(ops...); return x }

func (x *txnOver) Commit() (*clientv3.TxnResponse, error) {
	if err := x.gate.pass(x.ctx); err != nil {
		return nil, err
	}
	return x.Txn.Commit()
}

type leaseOver struct {
	clientv3.Lease
	gate *gate
}

func (x *leaseOver) Revoke(ctx context.Context, id clientv3.LeaseID) (*clientv3.LeaseRevokeResponse, error) {
	if err := x.gate.pass(ctx); err != nil {
		return nil, err
	}
	return x.Lease.Revoke(ctx, id)
}
