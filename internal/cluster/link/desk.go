package link

import (
	"context"
	"sync"

	"pushrelay/internal/change"
	relayv1 "pushrelay/internal/gen/relay/v1"
)

// desk decides what comes over one lane, where this relay leads: changes of one group take effect in the order in which they came, and all wait for the
// commit together. It belongs to who takes from the lane.
type desk struct {
	// static
	cfg    *Config
	leader Leader
	reply  func(*relayv1.ForwardResponse) // may be called from anywhere

	slots   chan struct{} // one per change in progress
	changes sync.WaitGroup

	last map[groupSum]chan struct{} // per group: closed when its last change has its turn in the store, or is over
}

// A task is a change that came over a lane.
type task struct {
	order

	number  uint64
	release func()          // gives the memory of its body back; nil for nothing to give
	fault   *change.Outcome // what is wrong with it already; its change may be nil then
}

func newDesk(cfg *Config, leader Leader, reply func(*relayv1.ForwardResponse)) *desk {
	return &desk{cfg: cfg, leader: leader, reply: reply, slots: make(chan struct{}, maxOut), last: map[groupSum]chan struct{}{}}
}

// wait waits until all is decided that came.
func (d *desk) wait() { d.changes.Wait() }

// take has a change decided after what came before it to the same group.
func (d *desk) take(t task) {
	d.slots <- struct{}{}
	mine := make(chan struct{})
	passed := sync.OnceFunc(func() { close(mine) })
	earlier := d.follow(t, mine)
	if c := t.change; c != nil {
		current := c.Current
		c.Current = func() bool { // asked under the store's lock: whoever asks for it now comes after this one
			passed()
			return current == nil || current()
		}
	}
	d.changes.Go(func() {
		defer func() { <-d.slots }()
		defer passed()
		if earlier != nil {
			<-earlier
		}
		if t.release != nil {
			defer t.release()
		}
		if o, known := d.decide(t); known {
			d.reply(responseOf(t.number, o))
		}
	})
}

// follow returns when the change before it in the same group has passed, nil for none.
func (d *desk) follow(t task, mine chan struct{}) (earlier <-chan struct{}) {
	if t.change == nil {
		return nil // it names no group
	}
	if len(d.last) > 4*maxOut {
		for group, passed := range d.last {
			select {
			case <-passed:
				delete(d.last, group)
			default:
			}
		}
	}
	group := groupOf(t.change)
	earlier = d.last[group]
	d.last[group] = mine
	return earlier
}

// decide returns how a change ended; known is false for one that is in doubt, or that another leader will decide.
func (d *desk) decide(t task) (o change.Outcome, known bool) {
	if t.fault != nil {
		return *t.fault, true
	}
	ctx := context.Background() // ended by the timeout, and by the store when this relay leads no longer
	if d.cfg.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.cfg.Timeout)
		defer cancel()
	}
	if t.stored {
		o = d.cfg.Store.ApplyBodiless(ctx, t.change)
	} else {
		o = d.cfg.Push.Apply(ctx, t.change)
	}
	return o, o.IsFinal() || !d.isOpen(o)
}

// isOpen says of a change that was not decided for good that this leader, or the next one, may have it decided yet.
func (d *desk) isOpen(o change.Outcome) bool {
	switch o.Kind {
	case change.TimedOut, change.Canceled:
		return true
	case change.NotWritable, change.NotCurrent:
		return o.Decided.Position > 0 || !d.leads()
	default:
		return !d.leads()
	}
}

func (d *desk) leads() bool {
	now := d.cfg.Leader()
	return now.Leads && now.Term == d.leader.Term
}

func responseOf(number uint64, o change.Outcome) *relayv1.ForwardResponse {
	if o.Kind == change.OutOfTurn {
		return &relayv1.ForwardResponse{Number: number, Result: &relayv1.ForwardResponse_Again{Again: &relayv1.ForwardAgain{}}}
	}
	return &relayv1.ForwardResponse{Number: number, Result: &relayv1.ForwardResponse_Outcome{Outcome: outcomeToProto(o)}}
}
