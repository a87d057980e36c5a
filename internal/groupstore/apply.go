package groupstore

import (
	"cmp"
	"context"
	"fmt"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
)

// Content is what somebody who has looked at the body of a change says of it, and of the group: at most one of Body, Sets and Fault. The
// zero Content is an empty body, for whatever the group holds.
type Content struct {
	// Body is what was pushed. The store keeps nothing of it, and may change it.
	Body *exposition.Body
	// Sets and Values are a body that differs from the one that the sets were made of in its values only. They are in the order and the form of
	// [Sets.Values], and as exposition.AppendFloat writes numbers. The condition is that nothing but values of the group changes: it
	// exposes just these series, and the change is neither a duplicate nor superseded, and its carrier is current.
	Sets   *Sets
	Values string
	// Fault is why the body is refused whatever the store holds, or was by an agent (change.Fail), where a Pushgateway sets the failure time.
	Fault string
}

// A Finding is what the store found in the group of a change.
type Finding uint8

const (
	// Unmet means that the group is not as the change or its content wants it. Nothing has happened, and the outcome is Changed.
	Unmet Finding = iota
	// OtherSeries means that it is, or that nothing was wanted.
	OtherSeries
	// SameSeries means besides that the group exposed just the series of the change before: nothing but values has changed.
	SameSeries
)

// Apply is the door into the store: it decides a change, logs what follows from it and applies that. It returns when the decision is durable;
// a scrape may see it earlier. [change.Mark] is no operation to ask for: it is what becomes of a change that is refused.
//
// The outcome is Applied; Unchecked if the store does not enforce its check; or why the change was not taken. What is Inconsistent has changed
// nothing but the failure time of the group, and that only if the group fits without the push (S10); and what is Superseded nothing. Full,
// NotCurrent, and NotWritable without a position have changed nothing, and may be sent again. With a position NotWritable is in doubt, as
// TimedOut and Canceled are: the change is visible, and may or may not outlive a crash.
//
// Of a change with an origin that is decided for good the mark is durable as well when Apply returns, whatever the outcome (T13). A change that
// says that it is refused is not judged: it moves the mark, and its refusal is the outcome.
//
// The note of a rejection is not waited for unless it has an origin, and a log that refuses it refuses it silently: the one who pushed has the
// answer. Nor is what [change.Forget] asks for: what is forgotten in vain is forgotten again.
func (s *Store) Apply(ctx context.Context, c *change.Change, content Content) (change.Outcome, Finding) {
	if content.Sets != nil && content.Sets.began != (c.Operation == change.Add) {
		return unmet(), Unmet
	}
	x := s.newDecision(draft{change: c, operation: c.Operation, key: c.Key, at: nanoseconds(c.At)})
	defer x.release(&s.decisions)
	if refusal := s.draft(&x.draft, &content); refusal != nil {
		return *refusal, OtherSeries
	}
	take := s.take
	if x.operation.IsOnto() && x.fault == "" {
		take = s.takeOnto
	}
	wait, err := take(x)
	switch {
	case x.found == Unmet:
		return unmet(), Unmet
	case x.refusal != nil && c.Origin == nil && c.Once == nil, x.operation == change.Forget:
		x.verdict.position = 0 // not waited for
	case err != nil:
		return notLogged(&x.draft, err), OtherSeries
	case wait != nil:
		if err := wait(ctx); err != nil {
			o := inDoubt(err, &x.verdict)
			o.MayCountTwice = c.Operation == change.Add && c.Once == nil && c.Origin == nil
			return o, x.found
		}
	}
	return x.outcome(&x.draft, s.check), x.found
}

// ApplyBodiless is [Store.Apply] of a change that has no body.
func (s *Store) ApplyBodiless(ctx context.Context, c *change.Change) change.Outcome {
	o, _ := s.Apply(ctx, c, Content{})
	return o
}

// unmet is the outcome of a change whose condition the group does not meet.
func unmet() change.Outcome {
	return change.Outcome{Kind: change.Changed, Detail: "the group has changed since it was looked at, look again"}
}

// notLogged is the outcome of a change that the log refuses.
func notLogged(d *draft, err error) change.Outcome {
	what := "push"
	if d.operation == change.Wipe {
		what = "wipe"
	}
	return notWritable(fmt.Sprintf("logging the %s: %v", what, err))
}

// A verdict is what came of deciding a draft.
type verdict struct {
	found Finding
	// duplicate says that a push of that origin was decided before, and rejected why it was rejected then; empty if it was taken.
	duplicate bool
	rejected  string
	// before is what was answered to the same push before; nil if it was not.
	before *answer
	// refusal is why the draft is not taken; nil if it is, and for what was decided before.
	refusal *change.Outcome
	// position is the store's after the draft was decided; 0 if nothing was logged.
	position uint64
	// quarantined are the families that are kept and not exposed; always empty if the check is enforced.
	quarantined []Quarantined
}

// outcome says what the pusher hears of a draft.
func (v *verdict) outcome(d *draft, check Check) (o change.Outcome) {
	switch {
	case v.before != nil:
		o.Kind, o.Detail = v.before.kind, v.before.detail
	case v.refusal != nil:
		o = *v.refusal
	case v.duplicate && v.rejected == "":
		o.Kind = change.Applied
	case d.told != nil:
		o = *d.told
	case v.duplicate:
		o = *check.refusal(v.rejected)
	case check == CheckEnforced || !d.operation.HasBody():
		o.Kind, o.Detail = change.Applied, detailOf(v.quarantined) // none but of what may be hidden
	default:
		o.Kind, o.Detail = change.Unchecked, detailOf(v.quarantined)
	}
	o.Duplicate, o.Decided.Position = v.duplicate || v.before != nil, v.position
	return o
}

// draft makes a change ready outside every lock. It returns what is wrong with one that is not even to be decided.
func (s *Store) draft(d *draft, content *Content) (refusal *change.Outcome) {
	c := d.change
	if c.Refused != nil {
		o := change.OutcomeOf(c.Refused)
		if d.operation, d.told = change.Mark, &o; c.Origin == nil {
			return &o
		}
	}
	switch {
	case d.operation == change.Wipe, d.operation == change.Forget && c.Origin != nil:
		d.key = grouping.Key{}
	case c.Refused == nil && !d.operation.IsPush() && d.operation != change.Expire:
		return change.Refuse(change.Invalid, "operation %d of a push is not supported", d.operation)
	case d.key.IsZero():
		return s.check.refusal("the push names no group")
	}
	d.version = c.Version
	switch {
	case d.operation == change.Fail:
		d.fault, d.told = cmp.Or(content.Fault, "the push was rejected"), &change.Outcome{Kind: change.Applied}
	case !d.operation.HasBody():
		return nil
	case content.Sets != nil:
		d.known = content.Sets
		d.parts, d.lines, d.valueSize = content.Sets.parts(content.Values, d.at), content.Sets.lines, len(content.Values)
		return nil
	case content.Fault != "":
		d.fault, d.told = content.Fault, s.check.refusal(content.Fault)
	}
	d.labels = d.key.Labels()
	if content.Body != nil && d.fault == "" {
		s.draftBody(d, content.Body)
	}
	s.prepareGroup(d)
	return nil
}
