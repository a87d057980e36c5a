package link

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"pushrelay/internal/change"
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/push"
)

const (
	// retryNotTaken is when something may be pushed again that was not taken: a leader that died has been replaced by then.
	retryNotTaken = 2 * time.Second
	// copyWait is how long an answer waits for the own copy (C7).
	copyWait = time.Second
	// again is how long it takes until something is tried again that failed.
	again = 100 * time.Millisecond
)

// Forwarder takes changes wherever they may be decided (C11). It is a [push.Applier], is safe for concurrent use, and needs [Link.Run].
type Forwarder struct {
	// static
	cfg     *Config
	queue   *queue
	client  *client
	metrics *metrics

	mu      sync.Mutex
	forgets map[journalOf]uint64 // guarded by mu; what agents are past, and the decider is not told
}

type journalOf struct {
	agent   string
	journal [16]byte
}

var _ push.Applier = (*Forwarder)(nil)

func newForwarder(cfg *Config, c *client, m *metrics) *Forwarder {
	return &Forwarder{cfg: cfg, queue: newQueue(cfg.Incarnation), client: c, metrics: m, forgets: map[journalOf]uint64{}}
}

// Apply decides the push here or hands it on. See [push.Applier].
func (f *Forwarder) Apply(ctx context.Context, c *change.Change) change.Outcome {
	if f.cfg.Leader().Leads {
		if o := f.cfg.Push.Apply(ctx, c); !f.mayHandOn(o) {
			return o
		}
	}
	return f.handOn(ctx, order{change: c})
}

// Store returns the door to the store of who decides, for changes that are no pushes or are about a group as the store has it. It takes no body.
func (f *Forwarder) Store() Store { return storeDoor{f} }

type storeDoor struct{ *Forwarder }

// ApplyBodiless is that of groupstore.Store.
func (d storeDoor) ApplyBodiless(ctx context.Context, c *change.Change) change.Outcome {
	if d.cfg.Leader().Leads {
		if o := d.cfg.Store.ApplyBodiless(ctx, c); !d.mayHandOn(o) {
			return o
		}
	}
	if c.Operation.HasBody() {
		return *change.Refuse(change.Invalid, "a change with a body is handed on as a push")
	}
	return d.handOn(ctx, order{change: c, stored: true})
}

// mayHandOn says that a change was not decided here, since this relay has ceased to lead: nothing has happened.
func (f *Forwarder) mayHandOn(o change.Outcome) bool {
	return o.Kind == change.NotWritable && o.Decided.Position == 0 && !f.cfg.Leader().Leads
}

// handOn hands a change on, and waits until it is decided and the own copy has it.
func (f *Forwarder) handOn(ctx context.Context, o order) change.Outcome {
	start := time.Now()
	a := f.decided(ctx, o)
	if position := a.Decided.Position; position > 0 && !f.cfg.Leader().Leads {
		f.awaitCopy(ctx, position)
	}
	f.metrics.forwarded(a, time.Since(start))
	return a
}

// awaitCopy waits until the own copy has the position, so that who asks this relay next sees what was pushed; but not for long.
func (f *Forwarder) awaitCopy(ctx context.Context, position uint64) {
	ctx, cancel := context.WithTimeout(ctx, copyWait)
	defer cancel()
	f.cfg.WaitFor(ctx, position) //nolint:errcheck // It is decided, whatever the copy has.
}

func (f *Forwarder) decided(ctx context.Context, o order) change.Outcome {
	e, refusal := f.queue.add(o)
	if refusal != nil {
		return *refusal
	}
	select {
	case a := <-e.answer:
		return a
	case <-ctx.Done():
		return f.queue.giveUp(e, *f.notSent(), inDoubt(ctx.Err(), o.change))
	}
}

// notSent is the outcome of a change that did not go out in time.
func (f *Forwarder) notSent() *change.Outcome {
	if name := f.cfg.Leader().Name; name != "" {
		return notTaken("relay %q, which decides, took nothing in time", name)
	}
	return notTaken("no relay decides at present")
}

// inDoubt is the outcome of a change that went out and has no answer.
func inDoubt(err error, c *change.Change) change.Outcome {
	o := change.OutcomeOf(fmt.Errorf("the push is in doubt: waiting for the relay that decides: %w", err))
	o.MayCountTwice = c.Operation == change.Add && c.Once == nil && (c.Agent == "" || c.Origin == nil)
	return o
}

// Forget says that the agent will never send pushes of that journal again that are numbered up to through. It waits for nothing.
func (f *Forwarder) Forget(agent string, journal [16]byte, through uint64) {
	if f.cfg.Leader().Leads {
		forget(f.cfg.Store, agent, journal, through)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queue.stir()
	if len(f.forgets) < maxQueued { // what is forgotten in vain is forgotten again
		f.forgets[journalOf{agent, journal}] = max(through, f.forgets[journalOf{agent, journal}])
	}
}

func forget(store Store, agent string, journal [16]byte, through uint64) {
	c := &change.Change{Operation: change.Forget, Agent: agent, Origin: &change.Origin{Journal: journal, Sequence: through}}
	store.ApplyBodiless(context.Background(), c) // it waits for nothing
}

// takeForgets returns what the decider is to be told.
func (f *Forwarder) takeForgets() map[journalOf]uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.forgets) == 0 {
		return nil
	}
	taken := f.forgets
	f.forgets = map[journalOf]uint64{}
	return taken
}

// next waits for the change that goes out next, and has what agents are past told meanwhile.
func (f *Forwarder) next(ctx context.Context, tell func(of journalOf, through uint64) error) (*entry, *relayv1.ForwardBegin, error) {
	for ctx.Err() == nil {
		for of, through := range f.takeForgets() {
			if err := tell(of, through); err != nil {
				return nil, nil, err
			}
		}
		if e, begin := f.queue.pop(); e != nil {
			return e, begin, nil
		}
		select {
		case <-f.queue.wake:
		case <-ctx.Done():
		}
	}
	return nil, nil, context.Cause(ctx)
}

// run has changes go out to who decides, until ctx ends.
func (f *Forwarder) run(ctx context.Context) {
	for ctx.Err() == nil {
		leader := f.cfg.Leader()
		var err error
		switch {
		case leader.Leads:
			f.decideHere(ctx, leader)
		case leader.Name == "" || leader.Name == f.cfg.Name:
			until(ctx, leader.Changed, 0)
		default:
			err = f.lane(ctx, leader)
		}
		if err != nil && ctx.Err() == nil && !errors.Is(err, errLeaderChanged) {
			f.cfg.Logger.Debug("the way to the relay that decides is broken; trying again", slog.String("member", leader.Name), slog.Any("err", err))
			until(ctx, leader.Changed, again)
		}
	}
}

// until waits until the channel is closed, or for some time if that is given.
func until(ctx context.Context, changed <-chan struct{}, most time.Duration) {
	if most > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, most)
		defer cancel()
	}
	select {
	case <-changed:
	case <-ctx.Done():
	}
}

var errLeaderChanged = errors.New("another relay decides, or none")

// during returns a context that ends when the leader is another one.
func during(ctx context.Context, leader Leader) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-leader.Changed:
			cancel(errLeaderChanged)
		case <-ctx.Done():
		}
	})
	return ctx, func() { cancel(nil); watching.Wait() }
}
