package shared

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	storagev1 "pushrelay/internal/gen/storage/v1"
	"pushrelay/internal/ledger"
	"pushrelay/internal/monotonic"
)

// Bounds of one transaction.
const (
	recordsOfPart = 1024
	deletedAtOnce = 1024
)

// notesKept is how many keys of records stay although parts have their records. Nobody asks for as long as others take to write as many.
const notesKept = 1024

// compactTimeout bounds one compaction.
const compactTimeout = 2 * time.Minute

// compactWhenDue writes what is not over anew whenever Append says that half of the records are over, until ctx ends.
func (j *Journal) compactWhenDue(ctx context.Context) {
	for {
		select {
		case now := <-j.due:
			if err := j.compact(ctx, now); err != nil && ctx.Err() == nil {
				j.cfg.Logger.Warn("the cluster's ledger was not made smaller; it is tried again when it has grown", slog.Any("err", err))
			}
		case <-ctx.Done():
			return
		}
	}
}

// errOvertaken means that another member has written other parts meanwhile.
var errOvertaken = errors.New("another relay has written the ledger anew meanwhile")

// compact writes what is not over anew, as parts, and has the mark name them. What others note meanwhile follows them.
func (j *Journal) compact(ctx context.Context, now time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, compactTimeout)
	defer cancel()
	j.mu.Lock()
	from, live := j.at, j.state.Live(now, j.cfg.Grace)
	j.mu.Unlock()
	id, mark, err := j.write(ctx, live, from.last, clientv3.Compare(clientv3.ModRevision(j.keys.mark()), "=", from.mark))
	if err != nil {
		return err
	}
	if err := j.cleanParts(ctx, id, mark); err != nil {
		return err
	}
	return j.cleanNotes(ctx, from.last)
}

// write writes records as parts, and then the mark that names them, if what is wanted is so and all parts are there: another member may have taken them
// for what was left by one that died. It returns the id of the parts and the revision of the mark.
func (j *Journal) write(ctx context.Context, records []ledger.Record, through uint64, wanted ...clientv3.Cmp) (id []byte, mark int64, err error) {
	m := &storagev1.ClusterLedgerMark{Id: make([]byte, 16), Through: through}
	rand.Read(m.Id)
	for part := range slices.Chunk(records, recordsOfPart) {
		key := j.keys.part(m.GetId(), int(m.GetParts()))
		value, err := encode("", j.cfg.Release, part)
		if err != nil {
			return nil, 0, err
		}
		if err := j.until(ctx, func(ctx context.Context) error {
			_, err := j.cfg.Client.Put(ctx, key, value)
			return err
		}); err != nil {
			return nil, 0, err
		}
		wanted = append(wanted, clientv3.Compare(clientv3.CreateRevision(key), ">", 0))
		m.Parts++
	}
	value, err := proto.Marshal(m)
	if err != nil {
		return nil, 0, err
	}
	err = j.until(ctx, func(ctx context.Context) error {
		resp, err := j.ask(ctx, wanted, []clientv3.Op{clientv3.OpPut(j.keys.mark(), string(value))}, clientv3.OpGet(j.keys.mark()))
		if err != nil {
			return err
		}
		if mark = resp.Header.GetRevision(); resp.Succeeded {
			return nil
		}
		for _, kv := range resp.Responses[0].GetResponseRange().GetKvs() {
			if mark = kv.ModRevision; string(kv.Value) == string(value) {
				return nil // it was asked for again
			}
		}
		return errOvertaken
	})
	return m.GetId(), mark, err
}

// until does something again until it is known what came of it, or ctx ends.
func (j *Journal) until(ctx context.Context, do func(context.Context) error) error {
	for {
		asked, cancel := context.WithTimeout(ctx, requestTimeout)
		err := do(asked)
		cancel()
		if err == nil || errors.Is(err, errOvertaken) || isRefused(err) || ctx.Err() != nil {
			return err
		}
		monotonic.Sleep(ctx, again)
	}
}

// cleanParts deletes all parts but those of a mark, unless there is another mark by now, whose parts they may be.
func (j *Journal) cleanParts(ctx context.Context, id []byte, mark int64) error {
	own := j.keys.partsOf(id)
	_, err := j.ask(ctx, []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(j.keys.mark()), "=", mark)}, []clientv3.Op{
		clientv3.OpDelete(j.keys.parts(), clientv3.WithRange(own)),
		clientv3.OpDelete(clientv3.GetPrefixRangeEnd(own), clientv3.WithRange(clientv3.GetPrefixRangeEnd(j.keys.parts()))),
	})
	return err
}

// cleanNotes deletes keys of records that are in parts, but for the last: whoever asked for one and heard nothing finds out by it that it was written.
func (j *Journal) cleanNotes(ctx context.Context, through uint64) error {
	if through < notesKept {
		return nil
	}
	for {
		resp, err := j.get(ctx, j.keys.note(0), clientv3.WithRange(j.keys.note(through-notesKept+1)), clientv3.WithKeysOnly(), clientv3.WithLimit(deletedAtOnce))
		if err != nil || len(resp.Kvs) == 0 {
			return err
		}
		last := string(resp.Kvs[len(resp.Kvs)-1].Key)
		if _, err := j.cfg.Client.Delete(ctx, j.keys.note(0), clientv3.WithRange(last+"\x00")); err != nil {
			return err
		}
	}
}

// ErrNotEmpty means that a cluster has a ledger already.
var ErrNotEmpty = errors.New("the cluster has a ledger already")

// Import makes the ledger of a cluster that has none what a relay's own says. The error is [ErrNotEmpty] if it has one, also if that came from the same
// file; then nothing is changed.
func (j *Journal) Import(ctx context.Context, own *ledger.State) error {
	_, _, err := j.write(ctx, own.Records(), 0,
		clientv3.Compare(clientv3.ModRevision(j.keys.mark()), "=", 0), clientv3.Compare(clientv3.CreateRevision(j.keys.note(1)), "=", 0))
	switch {
	case errors.Is(err, errOvertaken):
		return ErrNotEmpty
	case err != nil:
		return fmt.Errorf("writing the cluster's ledger: %w", err)
	}
	if err := j.load(ctx); err != nil {
		return fmt.Errorf("reading the cluster's ledger: %w", err)
	}
	return nil
}

// Export makes the file of a relay that leaves the cluster what the ledger says now.
func (j *Journal) Export(ctx context.Context, file ledger.Config) error {
	if err := j.Refresh(ctx); err != nil {
		return fmt.Errorf("reading the cluster's ledger: %w", err)
	}
	return ledger.WriteFile(file, j.state)
}
