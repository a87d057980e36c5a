// Package lifecycle removes from the store what has expired, and puts other rules to use.
//
// Hiding is at once and the store's own; removing is late (L8): a group goes only after it was seen expired for an hour of the relay's own
// running time under the same rules, so that a mistake in a rule, or a clock that jumps, is noticed and taken back without loss. What the
// work costs follows from what expires, never from what is stored. Start reading at [Keeper.Run].
package lifecycle

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"pushrelay/internal/change"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/lifetime"
)

const (
	// sweepEvery is how often it is seen what has expired.
	sweepEvery = 10 * time.Second
	// grace is how long a group must have been seen expired before it is removed.
	grace = time.Hour
	// batch is how many groups are removed, or asked for, at a time; other rules wait for one.
	batch = 256
	// atOnce is how many of them wait for the log together.
	atOnce = 64
	// patience is how long a batch may wait for the log.
	patience = 10 * time.Second
	// massExpiry is the part of all groups from which on a reload is warned of that lets them expire.
	massExpiry = 0.1
)

// Store is what a keeper needs of a grouping store; see [groupstore.Store] for the contracts.
type Store interface {
	SetRegime(r lifetime.Regime) groupstore.Reform
	Expired(n int) []groupstore.Expired
	ApplyBodiless(ctx context.Context, c *change.Change) change.Outcome
}

// Config is what a keeper is made with.
type Config struct {
	// Store has the groups. Required.
	Store Store
	// ForgetAfter is how long what is left of an expired group is kept (L6); 0 for ever.
	ForgetAfter time.Duration
	// Leads says whether what expires is removed here; nil if it always is. Where it is not, another relay removes it from the same store.
	Leads func() bool
	// Logger warns of rules by which much expires. Required.
	Logger *slog.Logger
	// Registerer takes the keeper's metrics. Required.
	Registerer prometheus.Registerer
}

// Keeper keeps the lives of a store's groups. It is safe for concurrent use.
type Keeper struct {
	cfg     Config
	metrics *metrics

	mu    sync.Mutex // guards what follows, and is held while groups are removed
	ruled bool       // there were rules before
	led   bool       // what expires was removed here at the last look
	rules []lifetime.Rule
	seen  []sighting // the oldest first
}

// A sighting is a group that was seen expired.
type sighting struct {
	groupstore.Expired
	at time.Time // with a monotonic reading, as all that has to do with grace
}

// New returns a keeper. It starts nothing; the store has no rules, and nothing is removed, before the first [Keeper.SetRules].
func New(cfg Config) *Keeper {
	return &Keeper{cfg: cfg, metrics: newMetrics(cfg.Registerer)}
}

// SetRules puts rules to use in place of the present ones, for all groups at once. What was seen expired by the earlier ones is to be seen
// anew, unless the rules are the same.
func (k *Keeper) SetRules(rules []lifetime.Rule) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ruled && lifetime.SameRules(rules, k.rules) {
		return
	}
	k.seen, k.rules = nil, rules
	reform := k.setRegime()
	if k.ruled && float64(reform.Expired) > massExpiry*float64(reform.Groups) {
		k.metrics.massExpiries.Inc()
		k.cfg.Logger.Warn("many groups are expired by the rules that were just loaded, and not exposed any more; if that is a mistake, correct the file and reload it within an hour: before that nothing is deleted but what stands in the way of a push",
			slog.Int("expired", reform.Expired), slog.Int("groups", reform.Groups))
	}
	k.ruled = true
}

// Run removes what expires until ctx ends. It returns nil.
func (k *Keeper) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if k.leads() {
			k.sweep(ctx)
		}
	}
}

// leads says whether what expires is removed here. Where that begins, all that has expired is to be seen anew.
func (k *Keeper) leads() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	leads := k.cfg.Leads == nil || k.cfg.Leads()
	if leads && !k.led && k.cfg.Leads != nil && k.ruled {
		k.seen = nil
		k.setRegime()
	}
	k.led = leads
	return leads
}

// setRegime has the store look at all groups by the present rules. The caller holds mu.
func (k *Keeper) setRegime() groupstore.Reform {
	return k.cfg.Store.SetRegime(lifetime.Regime{Rules: k.rules, ForgetAfter: k.cfg.ForgetAfter})
}

// sweep notes all that has expired, and removes what has been for long enough.
func (k *Keeper) sweep(ctx context.Context) {
	for more := true; more; {
		more = k.look()
	}
	for more := true; more && ctx.Err() == nil; {
		more = k.remove(ctx)
	}
}

// look notes groups that have expired. It says whether there may be more.
func (k *Keeper) look() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	expired, now := k.cfg.Store.Expired(batch), time.Now()
	for _, e := range expired {
		k.seen = append(k.seen, sighting{e, now})
	}
	return len(expired) == batch
}

// remove removes some of the groups whose hour is over. It says whether there may be more to remove now.
func (k *Keeper) remove(ctx context.Context) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	due := 0
	for due < min(batch, len(k.seen)) && time.Since(k.seen[due].at) >= grace {
		due++
	}
	if due == 0 {
		return false
	}
	left := k.expire(ctx, k.seen[:due])
	k.seen = append(left, k.seen[due:]...)
	return len(left) == 0
}

// expire removes groups, each if it is still as it was seen, and returns those that the store does not take a change of now.
func (k *Keeper) expire(ctx context.Context, due []sighting) (left []sighting) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	kept := make([]bool, len(due))
	var work errgroup.Group
	work.SetLimit(atOnce)
	for i, seen := range due {
		work.Go(func() error {
			c := &change.Change{Operation: change.Expire, Key: seen.Key, At: time.Now(), Version: seen.Version}
			o := k.cfg.Store.ApplyBodiless(ctx, c)
			switch {
			case o.Kind == change.Changed: // it was pushed to, or the clock was set back
			case o.IsTaken():
				k.metrics.removed.Inc()
			default:
				kept[i] = true
			}
			return nil
		})
	}
	work.Wait() //nolint:errcheck // None returns any.
	for i := range due {
		if kept[i] {
			left = append(left, due[i])
		}
	}
	return left
}
