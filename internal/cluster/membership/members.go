package membership

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	storagev1 "pushrelay/internal/gen/storage/v1"

	"pushrelay/internal/monotonic"
)

const (
	// askTimeout bounds one question to etcd.
	askTimeout = 5 * time.Second
	// again is after how long what failed is tried once more.
	again = time.Second
	// remarkEvery is how often data dir and cluster get a new generation: what a snapshot of the disk puts back is known if it is older than that.
	remarkEvery = 10 * time.Minute
)

// Config is what [NewMembers] needs. All is required but Changed and Engine.
type Config struct {
	Client *clientv3.Client
	// Engine is this member's etcd; nil for one that is somebody else's.
	Engine Engine
	// Dir is that of this member.
	Dir *Dir
	// Release is the program's, and Level the highest feature level that it understands.
	Release string
	Level   uint32
	// Changed is called after each change of who is a member or runs, and of what Own says. It must not block.
	Changed func()
	Logger  *slog.Logger
}

// Engine is what is needed of engine.Engine.
type Engine interface {
	// Leads says that it leads: then it attends to the others.
	Leads() bool
	// Stopped is closed when it has stopped, and Removed says whether that is because the cluster has removed it.
	Stopped() <-chan struct{}
	Removed() bool
}

// A Listed is a member as the cluster lists it.
type Listed struct {
	Name string
	Addresses

	// Witness says that it is an etcd member and nothing else.
	Witness bool
	// EngineID is the id of its etcd; 0 before its first start.
	EngineID uint64
	// Incarnation is the one that it has, or had last; zero before its first start.
	Incarnation Incarnation
}

// An Incarnation is a member from one start to its end. It may be taken for dead meanwhile, and come back.
type Incarnation [16]byte

// A Presence is a member that runs.
type Presence struct {
	Incarnation Incarnation
	Release     string
	Level       uint32
}

// Members are who is a member of the cluster and who runs, as this one has heard. They are safe for concurrent use, and no question waits.
type Members struct {
	cfg    Config
	name   string
	keys   keys
	struck chan struct{} // closed when the list has this member no more

	seen     atomic.Pointer[seen]
	presence atomic.Pointer[Own] // nil while this member has no key
	changing sync.Mutex          // held while seen is replaced
}

// Own is this member's presence.
type Own struct {
	Incarnation Incarnation
	// Lease is what its key hangs on, and whatever is to vanish with it.
	Lease clientv3.LeaseID
}

// seen is what was heard. It is never changed.
type seen struct {
	members map[string]Listed
	running map[string]Presence
}

// NewMembers returns the members, of which nothing is known before Run.
func NewMembers(cfg Config) *Members {
	m := &Members{cfg: cfg, name: cfg.Dir.Member().Name, keys: cfg.Dir.keys(), struck: make(chan struct{})}
	m.seen.Store(&seen{members: map[string]Listed{}, running: map[string]Presence{}})
	return m
}

// All returns all members, sorted by name.
func (m *Members) All() []Listed {
	now := m.seen.Load()
	all := make([]Listed, 0, len(now.members))
	for _, name := range slices.Sorted(maps.Keys(now.members)) {
		all = append(all, now.members[name])
	}
	return all
}

// Get returns one member.
func (m *Members) Get(name string) (member Listed, is bool) {
	member, is = m.seen.Load().members[name]
	return member, is
}

// IsMember reports whether there is such a member.
func (m *Members) IsMember(name string) bool {
	_, is := m.Get(name)
	return is
}

// Address returns where a member's link is dialled.
func (m *Members) Address(name string) (address string, is bool) {
	member, is := m.Get(name)
	return member.Link, is && !member.Witness
}

// Running returns the present incarnation of a member; running is false if it has none.
func (m *Members) Running(name string) (of Presence, running bool) {
	of, running = m.seen.Load().running[name]
	return of, running
}

// Gone reports whether an incarnation has ended for good: none that runs, or is only taken for dead, has it. False before anything is known.
func (m *Members) Gone(incarnation Incarnation) bool {
	now := m.seen.Load()
	for _, member := range now.members {
		if member.Incarnation == incarnation {
			return false
		}
	}
	return len(now.members) > 0
}

// Own returns this member's own presence; present is false while others may take it for dead.
func (m *Members) Own() (own Own, present bool) {
	if p := m.presence.Load(); p != nil {
		return *p, true
	}
	return own, false
}

// Name returns this member's.
func (m *Members) Name() string { return m.name }

// Run hears who is a member and runs, says that this one does, and makes voters of those that have caught up, until ctx ends. Then its own key is
// taken away. The error is [ErrOther] or [ErrRemoved], in words: this member must stop.
func (m *Members) Run(ctx context.Context) error {
	all, ctx := errgroup.WithContext(ctx)
	all.Go(func() error { m.hear(ctx); return nil })
	all.Go(func() error { m.bePresent(ctx); return nil })
	if m.cfg.Engine != nil {
		all.Go(func() error { m.promote(ctx); return nil })
		all.Go(func() error { return m.watchEngine(ctx) })
	} else {
		all.Go(func() error { return m.watchList(ctx) })
	}
	all.Go(func() error { return m.remark(ctx) })
	return all.Wait()
}

// watchEngine returns why this member's etcd has stopped by itself.
func (m *Members) watchEngine(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-m.cfg.Engine.Stopped():
	}
	switch {
	case ctx.Err() != nil, m.cfg.Dir.Member().Pending == Leave: // the relay begins anew without it
		return nil //nolint:nilerr // It was to end.
	case m.cfg.Engine.Removed():
		return m.cfg.Dir.refuse(ErrRemoved)
	default:
		return errors.New("the etcd of this member has stopped by itself; its log says why")
	}
}

// watchList returns once this member is on the list no more, whose etcd runs by itself and on.
func (m *Members) watchList(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-m.struck:
	}
	if m.cfg.Dir.Member().Pending == Leave { // the relay begins anew
		return nil
	}
	return m.cfg.Dir.refuse(ErrRemoved)
}

// hear keeps what is seen true.
func (m *Members) hear(ctx context.Context) {
	for ctx.Err() == nil {
		revision, err := m.load(ctx)
		if err == nil {
			err = m.follow(ctx, revision+1)
		}
		if ctx.Err() == nil {
			m.cfg.Logger.Warn("who is a member of the cluster cannot be heard; trying again", slog.Any("err", err))
			monotonic.Sleep(ctx, again)
		}
	}
}

// load reads all at one revision. What this member's etcd has is enough where no majority answers; others may have less than was told.
func (m *Members) load(ctx context.Context) (revision int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	options := []clientv3.OpOption{clientv3.WithPrefix()}
	if m.cfg.Engine != nil {
		options = append(options, clientv3.WithSerializable())
	}
	got, err := m.cfg.Client.Txn(ctx).Then(clientv3.OpGet(m.keys.members(), options...), clientv3.OpGet(m.keys.allRunning(), options...)).Commit()
	if err != nil {
		return 0, err
	}
	next := &seen{members: map[string]Listed{}, running: map[string]Presence{}}
	for _, kind := range got.Responses {
		for _, kv := range kind.GetResponseRange().Kvs {
			if err := next.put(m.keys, string(kv.Key), kv.Value); err != nil {
				return 0, err
			}
		}
	}
	m.replace(func(*seen) (*seen, error) { return next, nil }) //nolint:errcheck // It fails with nothing.
	return got.Header.Revision, nil
}

// follow takes what changes from a revision on.
func (m *Members) follow(ctx context.Context, from int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if m.cfg.Engine == nil { // of several that run by themselves one may be cut off
		ctx = clientv3.WithRequireLeader(ctx)
	}
	watch := func(prefix string) clientv3.WatchChan {
		return m.cfg.Client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(from))
	}
	members, running := watch(m.keys.members()), watch(m.keys.allRunning())
	for {
		var heard clientv3.WatchResponse
		var open bool
		select {
		case heard, open = <-members:
		case heard, open = <-running:
		}
		if !open {
			return fmt.Errorf("watching: %w", context.Cause(ctx))
		}
		if err := heard.Err(); err != nil {
			return fmt.Errorf("watching: %w", err)
		}
		if err := m.replace(func(s *seen) (*seen, error) { return s.after(m.keys, heard.Events) }); err != nil {
			return err
		}
	}
}

// replace replaces what is seen, and says so if it is something else.
func (m *Members) replace(f func(*seen) (*seen, error)) error {
	m.changing.Lock()
	former := m.seen.Load()
	next, err := f(former)
	if err == nil {
		m.seen.Store(next)
		m.noteStruck(next)
	}
	m.changing.Unlock()
	if err == nil && (!maps.Equal(former.members, next.members) || !maps.Equal(former.running, next.running)) {
		m.tell()
	}
	return err
}

// noteStruck tells if this member is on the list no more, on which it was put before anything was heard. The caller holds changing.
func (m *Members) noteStruck(now *seen) {
	if _, listed := now.members[m.name]; listed {
		return
	}
	select {
	case <-m.struck:
	default:
		close(m.struck)
	}
}

func (m *Members) tell() {
	if m.cfg.Changed != nil {
		m.cfg.Changed()
	}
}

// after returns what is seen after events.
func (s *seen) after(keys keys, events []*clientv3.Event) (*seen, error) {
	next := &seen{members: maps.Clone(s.members), running: maps.Clone(s.running)}
	for _, e := range events {
		key := string(e.Kv.Key)
		if e.Type == clientv3.EventTypeDelete {
			delete(next.members, nameOf(keys.members(), key))
			if name := nameOf(keys.allRunning(), key); name != key {
				delete(next.running, name)
			}
			continue
		}
		if err := next.put(keys, key, e.Kv.Value); err != nil {
			return nil, err
		}
	}
	return next, nil
}

// put takes a key in.
func (s *seen) put(keys keys, key string, value []byte) error {
	if name := nameOf(keys.allRunning(), key); name != key {
		var r storagev1.ClusterRunning
		if err := proto.Unmarshal(value, &r); err != nil || len(r.GetIncarnation()) != len(Incarnation{}) {
			return fmt.Errorf("the key %q has a value that this release does not understand", key)
		}
		s.running[name] = Presence{Incarnation: Incarnation(r.GetIncarnation()), Release: r.GetRelease(), Level: r.GetLevel()}
		return nil
	}
	listed, err := listedOf(value)
	if err != nil {
		return fmt.Errorf("the key %q: %w", key, err)
	}
	s.members[nameOf(keys.members(), key)] = listed
	return nil
}

func listedOf(value []byte) (Listed, error) {
	var c storagev1.ClusterMember
	if err := proto.Unmarshal(value, &c); err != nil {
		return Listed{}, fmt.Errorf("reading a member: %w", err)
	}
	var incarnation Incarnation
	copy(incarnation[:], c.GetIncarnation())
	return Listed{
		Incarnation: incarnation, Name: c.GetName(), Addresses: Addresses{Peer: c.GetPeerAddress(), Link: c.GetLinkAddress(), Web: c.GetWebAddress()}, Witness: c.GetWitness(), EngineID: c.GetEngineId(),
	}, nil
}

// remark gives data dir and cluster a new generation now and then.
func (m *Members) remark(ctx context.Context) error {
	ticks := time.NewTicker(remarkEvery)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticks.C:
		}
		asking, cancel := context.WithTimeout(ctx, askTimeout)
		err := m.cfg.Dir.renew(asking, m.cfg.Client)
		cancel()
		if isOver(err) {
			return err
		}
		if err != nil && ctx.Err() == nil {
			m.cfg.Logger.Warn("the data dir got no new mark; trying again", slog.Any("err", err))
		}
	}
}
