package replicated

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	storagev1 "pushrelay/internal/gen/storage/v1"
	"pushrelay/internal/groupstore"
)

// Bounds of one transaction (C4).
const (
	maxBatchBytes = 1 << 20
	maxBatchOps   = 8 << 10
)

// lead decides until ctx ends, or until another member does. The copy has all that was written before.
func (k *Keep) lead(ctx context.Context) error {
	feed := k.store.FollowOn(k.copy.unfinished())
	defer feed.Close()
	clear(k.copy.pending)
	t := newTerm(k.store.Committed())
	w := writer{keys: k.keys, client: k.cfg.Client, store: k.store, term: t, copy: &k.copy}
	k.cfg.Logger.Info("this relay leads the cluster", slog.Int64("term", k.copy.leader.Term), slog.Uint64("position", k.store.Position()))
	k.term.Store(t)
	defer func() {
		k.term.Store(nil)
		t.end()
	}()
	// What is under way when ctx ends is brought to its end: nobody else could find out what came of it.
	ctx, write, stop := outlive(ctx)
	defer stop()
	beat := time.NewTicker(k.cfg.Silence / 3)
	defer beat.Stop()
	for {
		select {
		case <-k.appended:
		case <-beat.C:
		case <-ctx.Done():
			t.end() // nothing is decided any more
			return k.handOver(write, &w, feed.Take())
		}
		if err := w.write(write, feed.Take()); err != nil {
			k.cfg.Logger.Warn("this relay leads the cluster no longer", slog.Any("err", err))
			return err
		}
	}
}

// handOverGrace bounds how long the last changes may take.
const handOverGrace = 5 * time.Second

// outlive returns a context that lives a little longer than ctx.
func outlive(ctx context.Context) (short, long context.Context, stop func()) {
	long, cancel := context.WithCancel(context.WithoutCancel(ctx))
	timer := time.AfterFunc(1<<62, cancel)
	undo := context.AfterFunc(ctx, func() { timer.Reset(handOverGrace) })
	return ctx, long, func() { undo(); timer.Stop(); cancel() }
}

// handOver commits what was decided, and lets another member lead at once.
func (k *Keep) handOver(ctx context.Context, w *writer, d *groupstore.Delta) error {
	if err := w.write(ctx, d); err != nil {
		return err
	}
	value, err := proto.Marshal(&storagev1.ClusterLeader{})
	if err != nil {
		return err
	}
	key := k.keys.leader()
	_, err = k.cfg.Client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", k.copy.leader.Term)).Then(clientv3.OpPut(key, string(value))).Commit()
	return err
}

// A writer writes what has changed, one transaction after the other. It belongs to Run.
type writer struct {
	keys   keys
	client *clientv3.Client
	store  *groupstore.Store
	term   *term
	copy   *replica
}

// write writes a delta, and commits it.
func (w *writer) write(ctx context.Context, d *groupstore.Delta) error {
	w.term.begin()
	var ops []clientv3.Op
	size := 0
	for id, record := range d.Records() {
		op := clientv3.OpDelete(w.keys.record(id))
		if record != nil {
			op = clientv3.OpPut(w.keys.record(id), string(pack(record)))
		}
		if n := len(op.KeyBytes()) + len(op.ValueBytes()); len(ops) > 0 && (size+n > maxBatchBytes || len(ops) == maxBatchOps) {
			if err := w.transact(ctx, ops, &storagev1.ClusterPosition{Position: d.Position, More: true}); err != nil {
				return err
			}
			ops, size = nil, 0
		}
		ops, size = append(ops, op), size+len(op.KeyBytes())+len(op.ValueBytes())
	}
	if err := w.transact(ctx, ops, &storagev1.ClusterPosition{Position: d.Position}); err != nil {
		return err
	}
	w.copy.complete = w.copy.revision
	w.store.Commit(d.Position)
	w.term.commit(d.Position)
	return nil
}

// transact commits one transaction, however often that has to be asked for. An error means that this member leads no longer, or that ctx has ended.
func (w *writer) transact(ctx context.Context, ops []clientv3.Op, pos *storagev1.ClusterPosition) error {
	pos.Batch = make([]byte, 16)
	rand.Read(pos.Batch)
	pos.Complete, pos.At = w.copy.complete, time.Now().UnixNano()
	value, err := proto.Marshal(pos)
	if err != nil {
		return err
	}
	key := w.keys.position()
	txn := append(ops, clientv3.OpPut(key, string(value)))
	for {
		resp, err := w.ask(ctx, txn)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil && isRefused(err):
			return err
		case err != nil:
			sleep(ctx, again)
		case resp.Succeeded:
			w.copy.position, w.copy.revision = resp.Header.GetRevision(), resp.Header.GetRevision()
			return nil
		default:
			return w.settle(resp, pos.Batch)
		}
	}
}

func (w *writer) ask(ctx context.Context, ops []clientv3.Op) (*clientv3.TxnResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return w.client.Txn(ctx).If(
		clientv3.Compare(clientv3.ModRevision(w.keys.leader()), "=", w.copy.leader.Term),
		clientv3.Compare(clientv3.ModRevision(w.keys.position()), "=", w.copy.position),
	).Then(ops...).Else(clientv3.OpGet(w.keys.position())).Commit()
}

// settle finds out whether a transaction that was asked for again was committed before.
func (w *writer) settle(resp *clientv3.TxnResponse, batch []byte) error {
	for _, kv := range resp.Responses[0].GetResponseRange().GetKvs() {
		pos := &storagev1.ClusterPosition{}
		if err := proto.Unmarshal(kv.Value, pos); err == nil && string(pos.GetBatch()) == string(batch) {
			w.copy.position, w.copy.revision = kv.ModRevision, kv.ModRevision
			return nil
		}
	}
	return errDeposed
}

// isRefused says whether etcd will never take a transaction, however often it is asked.
func isRefused(err error) bool {
	for _, final := range []error{rpctypes.ErrRequestTooLarge, rpctypes.ErrTooManyOps, rpctypes.ErrNoSpace, rpctypes.ErrPermissionDenied} {
		if errors.Is(err, final) {
			return true
		}
	}
	return false
}
