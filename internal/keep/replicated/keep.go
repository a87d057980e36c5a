package replicated

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"

	"pushrelay/internal/groupstore"
	"pushrelay/internal/history"
	"pushrelay/internal/keep"
	"pushrelay/internal/ledger"
	"pushrelay/internal/monotonic"
	"pushrelay/internal/wal"
)

// Config says what a store is shared by, and what it is made with.
type Config struct {
	// Client is of the cluster's etcd. Required; whoever made it closes it.
	Client *clientv3.Client
	// Prefix is what all keys begin with.
	Prefix string
	// Name is this member's. Required.
	Name string
	// Store is what the store is made with; its Appender is set here. Its clock is this relay's, and counts while it leads; of its bounds of
	// records whether the store is full.
	Store groupstore.Config
	// Limits are those of etcd.
	Limits Limits
	// Sealed says that all members understand records with a checksum, and must not block; nil for that they do not.
	Sealed func() bool
	// HasQuorum says whether the engine knows of a majority, and must not block; nil if it cannot tell.
	HasQuorum func() bool
	// Others asks the other members. Nil for none to ask: then this one shows what it has when it hears no majority.
	Others func(ctx context.Context) Others
	// MaxStaleness is for how long a member that hears no majority shows nothing that others may have gone beyond; with Others.
	MaxStaleness time.Duration
	// Silence is after how long another member takes the place of a leader that is not heard; 0 means 1.5 s (C6). The leader is to be heard three times
	// in it.
	Silence time.Duration
	// Heard returns when the leader was last heard over the link between relays, and must not block; nil if there is none.
	Heard func() time.Time
	// Release is named in backups.
	Release string
	// Registerer takes the metrics; nil for nobody.
	Registerer prometheus.Registerer
	// Logger is required.
	Logger *slog.Logger
}

// Keep is the copy that one relay has of the cluster's store. It is made by [New].
type Keep struct {
	// Static after construction.
	cfg   Config
	keys  keys
	store *groupstore.Store

	// what is static after Recover
	id     keep.ID
	epochs []history.Epoch

	copy     replica // owned by Recover, and then by Run
	yielded  int64   // owned by Run; the revision at which this member last handed over
	clock    clock
	progress progress
	reader   *reader
	metrics  *metrics             // static
	term     atomic.Pointer[term] // nil while another member leads
	leader   atomic.Pointer[Leader]
	changed  atomic.Pointer[chan struct{}] // closed and replaced when one of these two does; owned by Recover, and then by Run
	appended chan struct{}                 // says to Run that there is something to write; one slot
}

var _ keep.Keep = (*Keep)(nil)

// Leader is who decides, as far as the copy knows.
type Leader struct {
	// Name is the member's; empty for none.
	Name string
	// Term is the revision at which its leadership began; a later one has a higher one.
	Term int64
}

// silence is the default of Config.Silence.
const silence = 1500 * time.Millisecond

// New returns the copy of a member, with nothing in it.
func New(cfg Config) *Keep {
	if cfg.Silence == 0 {
		cfg.Silence = silence
	}
	k := &Keep{cfg: cfg, keys: keys{cfg.Prefix}, appended: make(chan struct{}, 1)}
	k.clock.wall = cfg.Store.Now
	if k.clock.wall == nil {
		k.clock.wall = time.Now
	}
	if k.cfg.Sealed == nil {
		k.cfg.Sealed = func() bool { return false }
	}
	cfg.Store.Records = cfg.Limits.records(cfg.Store.Records.Full)
	cfg.Store.Appender, cfg.Store.ShowCommitted, cfg.Store.TimesRise, cfg.Store.Now, cfg.Store.ShownAt = k, true, true, k.Now, k.Clock
	k.store = groupstore.New(cfg.Store)
	k.reader = newReader(cfg.Client, k.keys.position())
	k.copy = replica{keys: k.keys, client: cfg.Client, store: k.store, clock: &k.clock, progress: &k.progress}
	k.leader.Store(&Leader{})
	k.changed.Store(new(make(chan struct{})))
	k.metrics = newMetrics(cfg.Registerer, k)
	return k
}

// tellLeader tells others whom the copy knows for the leader. It belongs to who has the copy.
func (k *Keep) tellLeader() {
	if current := k.copy.leader; current != k.Leader() {
		k.metrics.termChanges.Inc()
		k.leader.Store(&current)
		k.tellChanged()
	}
}

// tellChanged wakes those who wait for another leader. It belongs to who has the copy.
func (k *Keep) tellChanged() {
	close(*k.changed.Swap(new(make(chan struct{}))))
}

// LeaderChanged returns a channel that is closed when another member leads, or this one begins or ends to. It is to be asked for before the leader is.
func (k *Keep) LeaderChanged() <-chan struct{} { return *k.changed.Load() }

// Leader returns who leads.
func (k *Keep) Leader() Leader { return *k.leader.Load() }

// Leads says whether this member does.
func (k *Keep) Leads() bool { return k.term.Load() != nil }

// Store is for [keep.Keep], as all that follows.
func (k *Keep) Store() *groupstore.Store { return k.store }

// Recover reads what etcd holds. It needs a majority of its members, and waits for that as long as ctx lives.
func (k *Keep) Recover(ctx context.Context) error {
	for {
		began := time.Now()
		err := k.read(ctx)
		switch {
		case err == nil:
			k.reader.heard.Store(&began) // a majority has told how far it was: what others show since may be more
			k.tellLeader()
			stats := k.store.Stats()
			k.cfg.Logger.Info("the cluster's store is read", slog.Int("groups", stats.Groups), slog.Int("series", stats.Series), slog.Int64("revision", k.copy.revision))
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("reading the cluster's store: %w", err)
		case isFinal(err):
			return fmt.Errorf("reading the cluster's store: %w", err) // it will not be another one
		}
		k.cfg.Logger.Warn("the cluster's store cannot be read; trying again", slog.Any("err", err))
		monotonic.Sleep(ctx, again)
	}
}

func (k *Keep) read(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	if err := k.identify(ctx); err != nil {
		return err
	}
	return k.copy.load(ctx)
}

// identify finds out which store it is; the first member of all gives it an id.
func (k *Keep) identify(ctx context.Context) error {
	value, err := newStore(keep.ID{}, history.History{})
	if err != nil {
		return err
	}
	resp, err := k.cfg.Client.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(k.keys.store()), "=", 0)).
		Then(clientv3.OpPut(k.keys.store(), string(value)), clientv3.OpGet(k.keys.store())).Else(clientv3.OpGet(k.keys.store())).Commit()
	if err != nil {
		return err
	}
	kvs := resp.Responses[len(resp.Responses)-1].GetResponseRange().Kvs
	k.id, k.epochs, err = readStore(kvs[0].Value)
	return err
}

// ErrNotLeading is why a member that does not lead changes nothing.
var ErrNotLeading = errors.New("another relay of the cluster decides")

// Append takes a change on its way to etcd, if this member leads.
func (k *Keep) Append(position uint64, _ groupstore.Effect) (wait func(context.Context) error, err error) {
	t := k.term.Load()
	if t == nil {
		return nil, ErrNotLeading
	}
	if err := t.take(position); err != nil {
		return nil, err
	}
	select {
	case k.appended <- struct{}{}:
	default: // Run knows already
	}
	return func(ctx context.Context) error { return t.wait(ctx, position) }, nil
}

// Close has nothing to give up: Run has handed over.
func (k *Keep) Close() error { return nil }

// Failure returns why nothing can be changed here.
func (k *Keep) Failure() error {
	t := k.term.Load()
	if t == nil {
		return ErrNotLeading
	}
	return t.failure()
}

// Losses returns none: what a majority has taken is there.
func (k *Keep) Losses() []wal.Loss { return nil }

// Fresh returns false: an empty cluster was begun on purpose.
func (k *Keep) Fresh() bool { return false }

// ID returns that of the cluster's store.
func (k *Keep) ID() keep.ID { return k.id }

// History returns the one epoch of the cluster after those of the store that it began with. It has no end: what a majority has committed stays, and a copy that has
// not heard of all of it yet is no earlier store, from which agents would have to send anew what was counted.
func (k *Keep) History() history.History {
	return history.History{Epochs: k.epochs, Position: math.MaxUint64}
}

// Imported returns true: a file is taken over by a relay before it is a member.
func (k *Keep) Imported(string) bool { return true }

// NoteImport is never asked for.
func (k *Keep) NoteImport(context.Context, keep.Import) error { return ErrNotLeading }

// WriteBackup writes what the copy holds.
func (k *Keep) WriteBackup(ctx context.Context, out io.Writer, l *ledger.State) error {
	return keep.BackUp(ctx, out, k.cfg.Release, k.store, l)
}
