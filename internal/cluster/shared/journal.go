package shared

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"pushrelay/internal/ledger"
	"pushrelay/internal/monotonic"
)

// LedgerConfig says what a ledger is shared by.
type LedgerConfig struct {
	// Client is of the cluster's etcd. Required; whoever made it closes it.
	Client *clientv3.Client
	// Prefix is what all keys of the ledger begin with.
	Prefix string
	// Release is written beside records, for people who meet them with another one.
	Release string
	// Grace is that of ledger.Config.
	Grace time.Duration
	// Revoked is told, by Run, when revocations have come to count that others made. Required.
	Revoked func()
	// Logger is required.
	Logger *slog.Logger
}

// A Journal is the ledger.Journal of relays that are one service. It is made by [NewJournal], and is safe for concurrent use, but for what
// ledger.Journal says of Append.
type Journal struct {
	// Static after construction.
	cfg   LedgerConfig
	keys  ledgerKeys
	state *ledger.State // changes with mu held

	sweep   ledger.Sweep   // owned by Append
	news    chan struct{}  // says to Run that Revoked is to be told; one slot
	unheard chan struct{}  // says to Run that etcd is to be asked until it answers; one slot
	due     chan time.Time // says to Run that many records are over by then; one slot

	mu   sync.Mutex // guards what is below, and changes of the state; taken before that one's own
	at   place      // guarded by mu; how much of etcd the state has
	mute bool       // guarded by mu; no majority has answered since Run was told by unheard
}

// A place is how much of etcd a state has.
type place struct {
	last     uint64 // the number of the last key of records
	mark     int64  // the revision of the mark's key; 0 for none
	revision int64  // all that was noted up to it counts
	version  uint64 // rises with each change of the state
}

var _ ledger.Journal = (*Journal)(nil)

// NewJournal returns the copy of a member, with nothing in it. Call Recover before anything is decided on it.
func NewJournal(cfg LedgerConfig) *Journal {
	return &Journal{
		cfg: cfg, keys: ledgerKeys{cfg.Prefix}, state: ledger.NewState(),
		news: make(chan struct{}, 1), unheard: make(chan struct{}, 1), due: make(chan time.Time, 1),
	}
}

// State is for ledger.Journal, as all that follows.
func (j *Journal) State() *ledger.State { return j.state }

// At returns which state it is.
func (j *Journal) At() uint64 { return j.place().version }

// Close has nothing to give up: Run ends with its context.
func (j *Journal) Close() error { return nil }

func (j *Journal) place() place {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.at
}

// Append writes records under the next number, however often that has to be asked for, in a transaction which wants that nobody has written that one, and
// that no other parts are read before it (whoever asks late would otherwise find the key gone, and write it again).
func (j *Journal) Append(ctx context.Context, at uint64, records []ledger.Record) error {
	from, err := j.begin(at)
	if err != nil {
		return err
	}
	id, number := rand.Text(), from.last+1
	value, err := encode(id, j.cfg.Release, records)
	if err != nil {
		return err
	}
	key, unknown := j.keys.note(number), false
	for {
		resp, err := j.ask(ctx, []clientv3.Cmp{
			clientv3.Compare(clientv3.CreateRevision(key), "=", 0), clientv3.Compare(clientv3.ModRevision(j.keys.mark()), "=", from.mark),
		}, []clientv3.Op{clientv3.OpPut(key, value)}, clientv3.OpGet(key))
		switch {
		case err == nil && resp.Succeeded:
			j.counted(number, records, resp.Header.GetRevision())
			return nil
		case err == nil:
			return j.settle(ctx, resp, number, id, records)
		case !unknown && isRefused(err):
			return &ledger.WriteError{Err: err}
		case ctx.Err() != nil:
			j.hush()
			return &ledger.NoMajorityError{InDoubt: true}
		}
		unknown = true
		monotonic.Sleep(ctx, again)
	}
}

// begin returns what a decision was made on.
func (j *Journal) begin(at uint64) (place, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case j.at.version != at:
		return place{}, ledger.ErrOvertaken
	case j.mute:
		return place{}, &ledger.NoMajorityError{}
	default:
		return j.at, nil
	}
}

// settle finds out whether records that were asked for again were written before. If they were not, they never will be: their number is taken, or there is
// another mark.
func (j *Journal) settle(ctx context.Context, resp *clientv3.TxnResponse, number uint64, id string, records []ledger.Record) error {
	for _, kv := range resp.Responses[0].GetResponseRange().GetKvs() {
		wrote, _, err := decode(kv.Key, kv.Value)
		if err != nil {
			return err
		}
		if wrote == id {
			j.counted(number, records, kv.ModRevision)
			return nil
		}
	}
	if err := j.Refresh(ctx); err != nil {
		return err
	}
	return ledger.ErrOvertaken
}

// counted lets records count that this member has written.
func (j *Journal) counted(number uint64, records []ledger.Record, revision int64) {
	j.mu.Lock()
	if number == j.at.last+1 { // the watch was not faster
		j.state.Count(records...)
		j.at.last, j.at.revision = number, max(j.at.revision, revision)
		j.at.version++
	}
	j.mu.Unlock()
	if j.sweep.Due(j.state, records[0].At, j.cfg.Grace) {
		select {
		case j.due <- records[0].At:
		default: // it is being done
		}
	}
}

// Refresh has the state count what others have written by now.
func (j *Journal) Refresh(ctx context.Context) error {
	j.mu.Lock()
	mute := j.mute
	j.mu.Unlock()
	if mute {
		return &ledger.NoMajorityError{}
	}
	for {
		err := j.catchUp(ctx)
		switch {
		case err == nil || errors.Is(err, errMisread):
			return err
		case ctx.Err() != nil:
			j.hush()
			return &ledger.NoMajorityError{}
		}
		monotonic.Sleep(ctx, again)
	}
}

// hush notes that no majority answers: nobody waits for one until it does.
func (j *Journal) hush() {
	j.mu.Lock()
	j.mute = true
	j.mu.Unlock()
	signal(j.unheard)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it is known
	}
}

// again is how long it takes until something is tried again that failed.
const again = 50 * time.Millisecond

// requestTimeout is how long etcd may take for one request. A majority that is there takes much less.
const requestTimeout = 2 * time.Second

// ask asks for one transaction, once.
func (j *Journal) ask(ctx context.Context, wanted []clientv3.Cmp, then []clientv3.Op, otherwise ...clientv3.Op) (*clientv3.TxnResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return j.cfg.Client.Txn(ctx).If(wanted...).Then(then...).Else(otherwise...).Commit()
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

// Recover reads what etcd holds. It needs a majority of its members, and waits for that as long as ctx lives.
func (j *Journal) Recover(ctx context.Context) error {
	for {
		err := j.load(ctx)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil, errors.Is(err, errMisread):
			return fmt.Errorf("reading the cluster's ledger: %w", err)
		}
		j.cfg.Logger.Warn("the cluster's ledger cannot be read; trying again", slog.Any("err", err))
		monotonic.Sleep(ctx, again)
	}
}
