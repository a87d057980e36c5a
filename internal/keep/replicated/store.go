package replicated

import (
	"context"
	"crypto/rand"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	storagev1 "pushrelay/internal/gen/storage/v1"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/history"
	"pushrelay/internal/keep"
)

// newStore returns what the store of a cluster is that begins with what another one holds. The zero ID and history stand for none.
func newStore(id keep.ID, before history.History) ([]byte, error) {
	if id == (keep.ID{}) {
		rand.Read(id[:])
	}
	m := &storagev1.ClusterStore{Id: id[:], Epoch: make([]byte, len(history.EpochID{})), Began: before.Position}
	rand.Read(m.Epoch)
	for _, e := range before.Epochs {
		m.Earlier = append(m.Earlier, &storagev1.Epoch{Id: e.ID[:], Began: e.Began})
	}
	return proto.Marshal(m)
}

// readStore reads what [newStore] returned.
func readStore(value []byte) (id keep.ID, epochs []history.Epoch, err error) {
	m := &storagev1.ClusterStore{}
	if err := proto.Unmarshal(value, m); err != nil {
		return id, nil, fmt.Errorf("%w: %w", errValue, err)
	}
	if len(m.GetId()) != len(id) {
		return id, nil, errValue
	}
	for _, e := range append(m.GetEarlier(), &storagev1.Epoch{Id: m.GetEpoch(), Began: m.GetBegan()}) {
		if len(e.GetId()) != len(history.EpochID{}) {
			return id, nil, errValue
		}
		epochs = history.Begin(epochs, history.Epoch{ID: history.EpochID(e.GetId()), Began: e.GetBegan()})
	}
	return keep.ID(m.GetId()), epochs, nil
}

// Renew gives the store of a cluster another id, and no history: it is another store from then on, to which agents bring back what it lacks. Nobody leads or
// follows meanwhile.
func Renew(ctx context.Context, client *clientv3.Client, prefix string) error {
	store, err := newStore(keep.ID{}, history.History{})
	if err != nil {
		return err
	}
	if _, err := client.Put(ctx, keys{prefix}.store(), string(store)); err != nil {
		return fmt.Errorf("giving the cluster's store another id: %w", err)
	}
	return nil
}

// Import is a store of one relay that becomes that of a cluster.
type Import struct {
	// Client is of the cluster's etcd, of which nobody else is a member yet. Required.
	Client *clientv3.Client
	// Prefix is that of Config.
	Prefix string
	// Store is not changed any more. ID and History are its own. Required.
	Store   *groupstore.Store
	ID      keep.ID
	History history.History
	// Limits are those of etcd.
	Limits Limits
	// Progress is told how many of the records are written; nil for nobody.
	Progress func(done, total int64)
}

// Write writes the store, under the id that it has. What an earlier attempt has left is replaced; if it was brought to its end, nothing is done.
func (i Import) Write(ctx context.Context) error {
	keys := keys{i.Prefix}
	resp, err := i.Client.Get(ctx, keys.store(), clientv3.WithCountOnly())
	if err != nil {
		return fmt.Errorf("importing the store into the cluster: %w", err)
	}
	if resp.Count > 0 {
		return nil
	}
	if _, err := i.Client.Delete(ctx, i.Prefix, clientv3.WithPrefix()); err != nil {
		return fmt.Errorf("importing the store into the cluster: %w", err)
	}
	feed := i.Store.Follow()
	defer feed.Close()
	if err := i.write(ctx, keys, feed.Take()); err != nil {
		return fmt.Errorf("importing the store into the cluster: %w", err)
	}
	return nil
}

// write writes the records, and in the last transaction what makes a store of them.
func (i Import) write(ctx context.Context, keys keys, d *groupstore.Delta) error {
	store, err := newStore(i.ID, i.History)
	if err != nil {
		return err
	}
	position, err := proto.Marshal(&storagev1.ClusterPosition{Position: d.Position})
	if err != nil {
		return err
	}
	var ops []clientv3.Op
	size, done := 0, int64(0)
	flush := func() error {
		_, err := i.Client.Txn(ctx).Then(ops...).Commit()
		done += int64(len(ops))
		ops, size = ops[:0], 0
		if i.Progress != nil {
			i.Progress(done, max(done, int64(d.Len())))
		}
		return err
	}
	for id, record := range d.Records() {
		key := keys.record(id)
		op := clientv3.OpPut(key, string(pack(key, record, true)))
		n := len(op.KeyBytes()) + len(op.ValueBytes())
		if len(ops) > 0 && (size+n > i.Limits.batchBytes() || len(ops)+1 >= i.Limits.batchOps()) {
			if err := flush(); err != nil {
				return err
			}
		}
		ops, size = append(ops, op), size+n
	}
	ops = append(ops, clientv3.OpPut(keys.position(), string(position)), clientv3.OpPut(keys.store(), string(store)))
	return flush()
}
