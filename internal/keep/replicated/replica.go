package replicated

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	storagev1 "pushrelay/internal/gen/storage/v1"
	"pushrelay/internal/groupstore"
)

// A replica makes the store hold what etcd does. It belongs to one goroutine at a time.
type replica struct {
	// Static after construction.
	keys     keys
	client   *clientv3.Client
	store    *groupstore.Store
	clock    *clock
	progress *progress

	revision int64 // of the last transaction that was looked at
	complete int64 // of the last one after which records were complete; what it held is in the store
	position int64 // the revision of the key of the position
	leader   Leader
	// pending are records that came since, the present ones; they are installed with the next position that is complete. Nil is for one that is gone.
	pending map[groupstore.RecordID][]byte
	heard   time.Time // when the leader last was
}

// pageOf is how many records are read at once.
const pageOf = 512

// load reads everything at the last revision at which it was complete, and forgets what the store held before.
func (c *replica) load(ctx context.Context) error {
	at, pos, err := c.present(ctx)
	if err != nil {
		return err
	}
	records := map[groupstore.RecordID][]byte{}
	begin, end := c.keys.records(), clientv3.GetPrefixRangeEnd(c.keys.records())
	for {
		resp, err := c.client.Get(ctx, begin, clientv3.WithRange(end), clientv3.WithRev(at), clientv3.WithLimit(pageOf))
		if err != nil {
			return err
		}
		for _, kv := range resp.Kvs {
			if err := c.keys.add(records, kv); err != nil {
				return err
			}
		}
		if !resp.More {
			break
		}
		begin = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
	if err := c.store.StartFrom(pos.GetPosition(), maps.All(records)); err != nil {
		return fmt.Errorf("%w: %w", errValue, err)
	}
	c.revision, c.complete, c.pending, c.heard = at, at, map[groupstore.RecordID][]byte{}, time.Now()
	c.show(pos)
	return nil
}

// present returns the last revision at which records are complete, what the position was there, and takes note of who led.
func (c *replica) present(ctx context.Context) (at int64, pos *storagev1.ClusterPosition, err error) {
	resp, err := c.client.Get(ctx, c.keys.position())
	if err != nil {
		return 0, nil, err
	}
	at, pos = resp.Header.GetRevision(), &storagev1.ClusterPosition{}
	if len(resp.Kvs) > 0 {
		if err := proto.Unmarshal(resp.Kvs[0].Value, pos); err != nil {
			return 0, nil, fmt.Errorf("%w: %w", errValue, err)
		}
	}
	if pos.GetMore() {
		at = pos.GetComplete()
	}
	both, err := c.client.Txn(ctx).Then(clientv3.OpGet(c.keys.position(), clientv3.WithRev(at)), clientv3.OpGet(c.keys.leader(), clientv3.WithRev(at))).Commit()
	if err != nil {
		return 0, nil, err
	}
	c.position, c.leader = 0, Leader{}
	pos.Reset()
	for _, kv := range both.Responses[0].GetResponseRange().GetKvs() {
		c.position = kv.ModRevision
		if err := proto.Unmarshal(kv.Value, pos); err != nil {
			return 0, nil, fmt.Errorf("%w: %w", errValue, err)
		}
	}
	for _, kv := range both.Responses[1].GetResponseRange().GetKvs() {
		if err := c.takeLeader(kv); err != nil {
			return 0, nil, err
		}
	}
	return at, pos, nil
}

func (c *replica) takeLeader(kv *mvccpb.KeyValue) error {
	m := &storagev1.ClusterLeader{}
	if err := proto.Unmarshal(kv.Value, m); err != nil {
		return fmt.Errorf("%w: %w", errValue, err)
	}
	c.leader = Leader{m.GetName(), kv.ModRevision}
	return nil
}

// add puts a record among others.
func (k keys) add(records map[groupstore.RecordID][]byte, kv *mvccpb.KeyValue) error {
	id, record, err := k.read(string(kv.Key), kv.Value)
	if err != nil {
		return err
	}
	records[id] = record
	return nil
}

// watch watches what comes after what the replica has.
func (c *replica) watch(ctx context.Context) clientv3.WatchChan {
	return c.client.Watch(clientv3.WithRequireLeader(ctx), c.keys.prefix, clientv3.WithPrefix(), clientv3.WithRev(c.revision+1), clientv3.WithFragment())
}

// take takes in what a watch has told.
func (c *replica) take(events []*clientv3.Event) error {
	for len(events) > 0 {
		revision := events[0].Kv.ModRevision
		n := slices.IndexFunc(events, func(e *clientv3.Event) bool { return e.Kv.ModRevision != revision })
		if n < 0 {
			n = len(events)
		}
		if err := c.takeRevision(revision, events[:n]); err != nil {
			return err
		}
		events = events[n:]
	}
	return nil
}

// takeRevision takes in one transaction.
func (c *replica) takeRevision(revision int64, events []*clientv3.Event) error {
	var pos *storagev1.ClusterPosition
	for _, e := range events {
		switch string(e.Kv.Key) {
		case c.keys.leader():
			if err := c.takeLeader(e.Kv); err != nil {
				return err
			}
			c.heard = time.Now()
		case c.keys.position():
			pos = &storagev1.ClusterPosition{}
			if err := proto.Unmarshal(e.Kv.Value, pos); err != nil {
				return fmt.Errorf("%w: %w", errValue, err)
			}
			c.position, c.heard = revision, time.Now()
			c.clock.learn(pos.GetAt())
		case c.keys.store():
		default:
			if err := c.takeRecord(e); err != nil {
				return err
			}
		}
	}
	c.revision = revision
	if pos != nil && !pos.GetMore() {
		if err := c.install(revision, pos.GetPosition()); err != nil {
			return err
		}
		c.show(pos)
		return nil
	}
	c.progress.reach(revision, 0)
	return nil
}

// show tells others that the store shows what it did at a position.
func (c *replica) show(pos *storagev1.ClusterPosition) {
	c.clock.learn(pos.GetAt())
	c.clock.show(pos.GetAt())
	c.progress.reach(c.revision, pos.GetPosition())
}

func (c *replica) takeRecord(e *clientv3.Event) error {
	if e.Type == clientv3.EventTypePut {
		return c.keys.add(c.pending, e.Kv)
	}
	id, err := c.keys.recordID(string(e.Kv.Key))
	if err != nil {
		return err
	}
	c.pending[id] = nil
	return nil
}

// install makes the store hold what is complete.
func (c *replica) install(revision int64, position uint64) error {
	if len(c.pending) > 0 || position != c.store.Position() {
		if err := c.store.Install(position, maps.All(c.pending)); err != nil {
			return err
		}
		clear(c.pending)
	}
	c.complete = revision
	return nil
}

// unfinished returns the records that a leader has written of an outcome which it did not complete. They must be written again as the store has them.
func (c *replica) unfinished() []groupstore.RecordID { return slices.Collect(maps.Keys(c.pending)) }

// errEnded means that a watch has ended.
var errEnded = errors.New("the watch has ended")
