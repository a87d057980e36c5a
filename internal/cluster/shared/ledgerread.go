package shared

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	storagev1 "pushrelay/internal/gen/storage/v1"
	"pushrelay/internal/ledger"
)

// How many keys are read at once.
const (
	pageOfNotes = 512
	pageOfParts = 8
)

// load makes the state what etcd holds. What counts already is never less for a moment.
func (j *Journal) load(ctx context.Context) error {
	for {
		at, records, err := j.readAll(ctx)
		switch {
		case errors.Is(err, rpctypes.ErrCompacted):
			continue // it took so long that what was being read is gone
		case err != nil:
			return err
		case j.install(at, records):
			return nil
		}
	}
}

// install puts what was read in the place of the state, unless more counts by now.
func (j *Journal) install(at place, records []ledger.Record) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if at.revision < j.at.revision || at.last < j.at.last {
		return false
	}
	j.state.Begin(records)
	at.version = j.at.version + 1
	j.at, j.mute = at, false
	signal(j.news)
	return true
}

// readAll reads everything at one revision.
func (j *Journal) readAll(ctx context.Context) (at place, records []ledger.Record, err error) {
	resp, err := j.get(ctx, j.keys.mark())
	if err != nil {
		return at, nil, err
	}
	at.revision = resp.Header.GetRevision()
	for _, kv := range resp.Kvs {
		var m storagev1.ClusterLedgerMark
		if err := proto.Unmarshal(kv.Value, &m); err != nil {
			return at, nil, fmt.Errorf("%w: %q: %w", errMisread, kv.Key, err)
		}
		at.mark, at.last = kv.ModRevision, m.GetThrough()
		if records, err = j.readParts(ctx, at.revision, &m); err != nil {
			return at, nil, err
		}
	}
	err = j.pages(ctx, at.revision, j.keys.note(at.last+1), j.keys.endOfNotes(), pageOfNotes, func(kv *mvccpb.KeyValue) error {
		n, more, err := j.note(kv)
		if err != nil {
			return err
		}
		if n != at.last+1 {
			return fmt.Errorf("%w: the ledger has no key %q", errMisread, j.keys.note(at.last+1))
		}
		at.last, records = n, append(records, more...)
		return nil
	})
	return at, records, err
}

func (j *Journal) readParts(ctx context.Context, revision int64, m *storagev1.ClusterLedgerMark) (records []ledger.Record, err error) {
	begin, found := j.keys.partsOf(m.GetId()), uint32(0)
	err = j.pages(ctx, revision, begin, clientv3.GetPrefixRangeEnd(begin), pageOfParts, func(kv *mvccpb.KeyValue) error {
		_, more, err := decode(kv.Key, kv.Value)
		found, records = found+1, append(records, more...)
		return err
	})
	if err == nil && found != m.GetParts() {
		err = fmt.Errorf("%w: the ledger has %d parts below %q, want %d", errMisread, found, begin, m.GetParts())
	}
	return records, err
}

// get asks for keys, once.
func (j *Journal) get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return j.cfg.Client.Get(ctx, key, opts...)
}

// pages reads a range at a revision, page by page.
func (j *Journal) pages(ctx context.Context, revision int64, begin, end string, page int64, take func(*mvccpb.KeyValue) error) error {
	for {
		resp, err := j.get(ctx, begin, clientv3.WithRange(end), clientv3.WithRev(revision), clientv3.WithLimit(page))
		if err != nil {
			return err
		}
		for _, kv := range resp.Kvs {
			if err := take(kv); err != nil {
				return err
			}
		}
		if !resp.More {
			return nil
		}
		begin = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
}

// note returns the number and the records of a key.
func (j *Journal) note(kv *mvccpb.KeyValue) (n uint64, records []ledger.Record, err error) {
	if n, err = j.keys.number(string(kv.Key)); err != nil {
		return 0, nil, err
	}
	_, records, err = decode(kv.Key, kv.Value)
	return n, records, err
}

// catchUp has the state count what etcd holds beyond it.
func (j *Journal) catchUp(ctx context.Context) error {
	for {
		at := j.place()
		resp, err := j.ask(ctx, nil, []clientv3.Op{
			clientv3.OpGet(j.keys.mark(), clientv3.WithKeysOnly()),
			clientv3.OpGet(j.keys.note(at.last+1), clientv3.WithRange(j.keys.endOfNotes()), clientv3.WithLimit(pageOfNotes)),
		})
		if err != nil {
			return err
		}
		mark, notes := int64(0), resp.Responses[1].GetResponseRange()
		for _, kv := range resp.Responses[0].GetResponseRange().GetKvs() {
			mark = kv.ModRevision
		}
		if mark > at.mark {
			return j.load(ctx)
		}
		if err := j.take(notes.GetKvs()); err != nil {
			return err
		}
		if !notes.GetMore() {
			j.heard(resp.Header.GetRevision())
			return nil
		}
	}
}

// heard notes that a majority answers, and that all counts which was noted up to a revision.
func (j *Journal) heard(revision int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.at.revision, j.mute = max(j.at.revision, revision), false
}

// take lets records count that are not among those which do, in the order of their numbers.
func (j *Journal) take(notes []*mvccpb.KeyValue) error {
	for _, kv := range notes {
		n, records, err := j.note(kv)
		if err != nil {
			return err
		}
		if err := j.takeOne(n, records); err != nil {
			return err
		}
	}
	return nil
}

var errGap = errors.New("numbers of the ledger are missing")

func (j *Journal) takeOne(n uint64, records []ledger.Record) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case n <= j.at.last:
		return nil
	case n > j.at.last+1:
		return errGap // it is behind a mark of which the watch has yet to tell
	}
	j.state.Count(records...)
	j.at.last = n
	j.at.version++
	for i := range records {
		if records[i].Revokes() {
			signal(j.news)
		}
	}
	return nil
}
