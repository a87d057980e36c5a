package location

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"

	"pushrelay/internal/monotonic"
	"pushrelay/internal/roster"
)

// Config says whose copy it is, and in what it is shared.
type Config struct {
	// Client is of the cluster's etcd. Required; whoever made it closes it.
	Client *clientv3.Client
	// Prefix is what all keys begin with.
	Prefix string
	// Relay is this member's name, and Address where other members reach it, host:port. Required.
	Relay, Address string
	// Incarnation is this process of the relay.
	Incarnation [16]byte
	// Leads says whether this relay is the one that forgets agents, for all. It must not wait. Required.
	Leads func() bool
	// MaxValueBytes bounds what is written of an agent; 0 means 8 MiB. The targets of an agent beyond it are known to no relay but those it is attached to.
	MaxValueBytes int
	// TTL is for how long sessions stay registered after the relay is gone, in whole seconds; 0 means 15 s.
	TTL time.Duration
	// Logger and Registerer are required.
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

const (
	defaultTTL      = 15 * time.Second
	defaultMaxValue = 8 << 20
	// registerWait is how long a session that begins waits to be registered. Then it begins all the same, and is registered as soon as that can be.
	registerWait = time.Second
	// requestTimeout is how long etcd may take for one request. A majority that is there takes much less.
	requestTimeout = 5 * time.Second
	// readTimeout is how long all that etcd holds may take to be read.
	readTimeout = time.Minute
	// again is how long it takes until something is tried again that failed.
	again = 500 * time.Millisecond
)

// Location is the copy that one relay has. It is safe for concurrent use; Recover comes before all else but the making of the registry.
type Location struct {
	// Static after New.
	cfg     Config
	keys    keys
	metrics *metrics

	registry *roster.Registry // static after Recover

	register, write chan struct{} // one slot each: there is something to register, or to write

	telling sync.Mutex // held while the registry is told of an agent, so that what is told last is what holds

	mu       sync.RWMutex
	agents   map[string]*located // guarded by mu
	stored   map[string]stored   // guarded by mu; what etcd has of each agent
	local    map[string]*local   // guarded by mu; the sessions here
	orphans  map[string]int64    // guarded by mu; epochs of sessions here that are over, by agent
	dirty    map[string]bool     // guarded by mu; agents to write, or to read if others know them better
	lease    *lease              // guarded by mu; nil for none
	revision int64               // guarded by mu; up to which the copy has sessions
	moved    chan struct{}       // guarded by mu; closed and replaced when revision changes
}

// located is where an agent's sessions are.
type located struct {
	process  [16]byte // whose sessions are current
	since    int64    // the revision of its key; no session that was registered before is current; 0 for none
	by       string   // where it came first
	sessions []place
}

// place is a session that is registered.
type place struct {
	relay   string
	process [16]byte
	attach  uint64
	epoch   int64
}

// stored is what etcd has of an agent.
type stored struct {
	revision  int64
	sum       uint64
	connected bool // as whoever wrote it had it
}

// local is a session here.
type local struct {
	at    *roster.Attachment
	base  int64 // the revision of the key of another process that the session may displace
	epoch int64 // 0 as long as it is not registered
	busy  bool  // somebody is about to register it
}

var _ roster.Sharing = (*Location)(nil)

// New returns a location that knows nothing.
func New(cfg Config) *Location {
	if cfg.TTL == 0 {
		cfg.TTL = defaultTTL
	}
	if cfg.MaxValueBytes == 0 {
		cfg.MaxValueBytes = defaultMaxValue
	}
	l := &Location{
		cfg: cfg, keys: keys{cfg.Prefix}, register: make(chan struct{}, 1), write: make(chan struct{}, 1),
		agents: map[string]*located{}, stored: map[string]stored{}, local: map[string]*local{}, orphans: map[string]int64{}, dirty: map[string]bool{},
		moved: make(chan struct{}),
	}
	l.metrics = newMetrics(cfg.Registerer, l)
	return l
}

// Recover reads what etcd holds into the registry, which was made with this as its Sharing. What a registry knew before the cluster began is written then. It needs
// a majority, and waits for that as long as ctx lives.
func (l *Location) Recover(ctx context.Context, registry *roster.Registry) error {
	l.registry = registry
	for {
		err := l.load(ctx)
		if err == nil {
			err = l.grant(ctx)
		}
		switch {
		case err == nil:
			registry.Settle()
			return nil
		case ctx.Err() != nil || isForeign(err):
			return err
		}
		l.cfg.Logger.Warn("the agents that the cluster knows cannot be read; trying again", slog.Any("err", err))
		monotonic.Sleep(ctx, again)
	}
}

// Run keeps the copy, the registrations and what etcd has of agents up to date until ctx ends. Then this relay has no sessions any more. An error says that etcd
// holds what is not understood: the relay must not go on (C20).
func (l *Location) Run(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var all sync.WaitGroup
	all.Go(func() {
		defer cancel()
		err = l.follow(ctx)
	})
	all.Go(func() { l.keepLease(ctx) })
	all.Go(func() { l.keepRegistered(ctx) })
	all.Go(func() { l.keepWritten(ctx) })
	all.Wait()
	l.revoke()
	return err
}

// EpochCurrent says whether a session of the agent that was registered at the epoch may still change groups: that its process is the newest, as far as this relay
// knows. Of an epoch that it has not heard of yet it does not know that: another process may have come since. It does not wait: the store asks in the moment in
// which a push takes effect.
func (l *Location) EpochCurrent(agent string, epoch int64) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	a := l.agents[agent]
	return a != nil && a.since > 0 && epoch >= a.since && epoch <= l.revision
}

// WaitEpoch waits until this relay knows all that was registered up to an epoch, or ctx ends. Whoever takes a push asks it before: the session may be
// known here a moment later than on the relay that it is with.
func (l *Location) WaitEpoch(ctx context.Context, epoch int64) error {
	for {
		l.mu.RLock()
		revision, moved := l.revision, l.moved
		l.mu.RUnlock()
		if revision >= epoch {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Places returns the other relays that an agent has a session with, the best first: that of its latest attempt.
func (l *Location) Places(agent string) []string {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.agents[agent].elsewhere(l.cfg.Relay)
}

// IsHere says whether an agent has a session with this relay.
func (l *Location) IsHere(agent string) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.local[agent] != nil
}

// Name is for [roster.Sharing], as Leads.
func (l *Location) Name() string { return l.cfg.Relay }

// Leads is Config.Leads.
func (l *Location) Leads() bool { return l.cfg.Leads() }

// wake fills the one slot of a channel.
func wake(slot chan struct{}) {
	select {
	case slot <- struct{}{}:
	default:
	}
}
