package replicated

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	storagev1 "pushrelay/internal/gen/storage/v1"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/monotonic"
)

// A writer writes what has changed, one transaction after the other. It belongs to Run.
type writer struct {
	keys    keys
	client  *clientv3.Client
	store   *groupstore.Store
	term    *term
	copy    *replica
	limits  Limits
	sealed  func() bool // records are to be
	metrics *metrics
}

// write writes a delta, and commits it.
func (w *writer) write(ctx context.Context, d *groupstore.Delta) error {
	began, records, bytes := time.Now(), 0, 0
	w.term.begin()
	var ops []clientv3.Op
	size := 0
	for id, record := range d.Records() {
		key := w.keys.record(id)
		op := clientv3.OpDelete(key)
		if record != nil {
			op = clientv3.OpPut(key, string(pack(key, record, w.sealed())))
		}
		if n := len(op.KeyBytes()) + len(op.ValueBytes()); len(ops) > 0 && (size+n > w.limits.batchBytes() || len(ops) == w.limits.batchOps()) {
			if err := w.transact(ctx, ops, &storagev1.ClusterPosition{Position: d.Position, More: true}); err != nil {
				return err
			}
			w.copy.progress.reach(w.copy.revision, 0)
			records, bytes = records+len(ops), bytes+size
			ops, size = nil, 0
		}
		ops, size = append(ops, op), size+len(op.KeyBytes())+len(op.ValueBytes())
	}
	last := &storagev1.ClusterPosition{Position: d.Position}
	if err := w.transact(ctx, ops, last); err != nil {
		return err
	}
	w.copy.complete = w.copy.revision
	w.store.Commit(d.Position)
	w.copy.show(last)
	w.term.commit(d.Position)
	w.metrics.committed(time.Since(began), records+len(ops), bytes+size)
	return nil
}

// transact commits one transaction, however often that has to be asked for. An error means that this member leads no longer, or that ctx has ended.
func (w *writer) transact(ctx context.Context, ops []clientv3.Op, pos *storagev1.ClusterPosition) error {
	pos.Batch = make([]byte, 16)
	rand.Read(pos.Batch)
	pos.Complete, pos.At = w.copy.complete, w.copy.clock.tick().UnixNano()
	value, err := proto.Marshal(pos)
	if err != nil {
		return err
	}
	key := w.keys.position()
	txn := append(ops, clientv3.OpPut(key, string(value)))
	for patience := askedAgain; ; patience = min(2*patience, longestAsk) {
		resp, err := w.ask(ctx, txn, patience)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil && isRefused(err):
			return err
		case err != nil:
			monotonic.Sleep(ctx, again/4)
		case resp.Succeeded:
			w.copy.position, w.copy.revision = resp.Header.GetRevision(), resp.Header.GetRevision()
			return nil
		default:
			return w.settle(resp, pos.Batch)
		}
	}
}

func (w *writer) ask(ctx context.Context, ops []clientv3.Op, patience time.Duration) (*clientv3.TxnResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
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
