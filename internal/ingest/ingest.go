// Package ingest is the relay's way from a push to the store: a body becomes families, a key gets the label of the agent
// that it came through, and what the store says becomes an answer.
//
// It promises that a push which is refused has changed nothing but, where the Pushgateway does so too, the failure time of
// its group. It knows neither HTTP nor the tunnel: both hand it a [change.Change]. Start reading at [Ingester.Apply].
package ingest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/metric"
)

// Store is what the ingester needs of a grouping store; see [groupstore.Store] for the contracts.
type Store interface {
	Push(ctx context.Context, p groupstore.Push) (groupstore.Verdict, error)
	PushValues(ctx context.Context, p groupstore.Push, o *groupstore.Outline, values string) (v groupstore.Verdict, taken bool, err error)
	Fail(ctx context.Context, p groupstore.Push, reason string) (groupstore.Verdict, error)
	Mark(ctx context.Context, p groupstore.Push) (groupstore.Verdict, error)
	Outline(key grouping.Key, body *exposition.Body) *groupstore.Outline
	Decided(source string) (sequence uint64, digest [16]byte, ok bool)
	Forget(source string, through uint64)
	Stats() groupstore.Stats
}

// Config is what an ingester is made with.
type Config struct {
	// Store takes the pushes. Required.
	Store Store
	// Check is the check of that store: without enforcement nothing is refused for being inconsistent.
	Check groupstore.Check
	// Names is the scheme for metric and label names in bodies.
	Names metric.NameScheme
	// Limits bound the shape of a body. Sizes are checked before, where bodies are read.
	Limits exposition.Limits
	// AgentLabel is the grouping label that pushes through an agent get, with the agent's identity (T20); empty for none.
	AgentLabel string
	// KnownAgent says whether an agent of that name is known; nil if none is. It must be safe for concurrent use.
	KnownAgent func(name string) bool
	// Registerer takes the ingester's metrics. Required.
	Registerer prometheus.Registerer
}

// Ingester is the relay's [push.Applier]. It is safe for concurrent use and starts nothing.
type Ingester struct {
	cfg       Config
	metrics   *metrics
	parsers   sync.Pool
	matchings sync.Pool
	templates *templates
}

// New returns an ingester.
func New(cfg Config) *Ingester {
	return &Ingester{
		cfg:       cfg,
		metrics:   newMetrics(cfg.Registerer),
		parsers:   sync.Pool{New: func() any { return new(exposition.Parser) }},
		matchings: sync.Pool{New: func() any { return new(matching) }},
		templates: newTemplates(),
	}
}

// Apply stores the push. See [push.Applier].
func (in *Ingester) Apply(ctx context.Context, r *change.Change) change.Outcome {
	start := time.Now()
	o := in.apply(ctx, r)
	in.metrics.pushed(o, len(r.Body), time.Since(start))
	return o
}

func (in *Ingester) apply(ctx context.Context, r *change.Change) change.Outcome {
	p, refusal := in.toStore(r)
	switch {
	case refusal != nil:
		return in.refuseUnjudged(ctx, &p, change.OutcomeOf(refusal))
	case p.Operation == groupstore.Fail:
		return in.fail(ctx, &p)
	case p.Operation == groupstore.Delete:
		_, o := in.store(ctx, &p)
		return o
	case r.Format == exposition.ProtobufDelimited:
		_, o := in.parseAndStore(ctx, &p, r)
		return o
	}
	head := in.templates.head(r.Body)
	if verdict, taken, err := in.storeValues(ctx, &p, r.Body, head); taken {
		return in.outcome(p.Operation, verdict, err)
	}
	verdict, o := in.parseAndStore(ctx, &p, r)
	if o.IsTaken() && verdict.Known && in.templates.worthwhile(head) {
		in.remember(&p, r.Body, head)
	}
	return o
}

// toStore returns the push as the store sees it, without a body, or why it is refused for good whatever the store holds.
// Also one that is refused has the key under which its origin is kept.
func (in *Ingester) toStore(r *change.Change) (p groupstore.Push, refusal error) {
	p = groupstore.Push{At: r.At, Origin: originOf(r), Waited: r.Waited, Current: r.Current}
	p.Key, refusal = in.storedKey(r)
	if r.Refused != nil {
		return p, r.Refused
	}
	if refusal == nil {
		p.Operation, refusal = operationOf(r.Operation)
	}
	return p, refusal
}

// storeValues stores the values of a body that matches a template, if there is one and the group has just its series.
func (in *Ingester) storeValues(ctx context.Context, p *groupstore.Push, body []byte, head uint64) (v groupstore.Verdict, taken bool, err error) {
	candidates := in.templates.candidates(head)
	if len(candidates) == 0 {
		return v, false, nil
	}
	m := in.matchings.Get().(*matching)
	defer in.matchings.Put(m)
	for _, t := range candidates {
		values, ok := t.match(body, m)
		if !ok {
			continue
		}
		if v, taken, err = in.cfg.Store.PushValues(ctx, *p, t.outline, values); taken {
			return v, true, err
		}
	}
	return v, false, nil
}

// remember makes a template of a body that was stored, and whose series the group had before: so it may well come again.
func (in *Ingester) remember(p *groupstore.Push, body []byte, head uint64) {
	parser := in.parsers.Get().(*exposition.Parser)
	defer func() {
		parser.Reset()
		in.parsers.Put(parser)
	}()
	t := newTemplate(body,
		func(numbered []byte) (*exposition.Body, error) { return parser.ParseText(numbered, in.options()) },
		func(b *exposition.Body) *groupstore.Outline {
			if in.namesAgents(p.Key, b) {
				return nil // which agents are known is asked anew each time
			}
			return in.cfg.Store.Outline(p.Key, b)
		})
	if t != nil {
		in.templates.add(head, t, max(templatesLeast, in.cfg.Store.Stats().Bytes/templatesShare))
	}
}

// parseAndStore goes the whole way.
func (in *Ingester) parseAndStore(ctx context.Context, p *groupstore.Push, r *change.Change) (groupstore.Verdict, change.Outcome) {
	parser := in.parsers.Get().(*exposition.Parser)
	defer func() {
		parser.Reset()
		in.parsers.Put(parser)
	}()
	body, err := in.parse(parser, r)
	if err != nil {
		return groupstore.Verdict{}, in.refuseBody(ctx, p, err)
	}
	if forged := in.refuseForged(r, body); forged != nil {
		return groupstore.Verdict{}, in.refuseUnjudged(ctx, p, *forged)
	}
	p.Body = body
	return in.store(ctx, p)
}

func operationOf(o change.Operation) (groupstore.Operation, error) {
	switch o {
	case change.Replace:
		return groupstore.Replace, nil
	case change.Merge:
		return groupstore.Merge, nil
	case change.Delete:
		return groupstore.Delete, nil
	case change.Fail:
		return groupstore.Fail, nil
	default:
		return 0, change.Refuse(change.Invalid, "operation %d of a push is not supported", o)
	}
}

// storedKey returns the key under which the push is stored. What comes through an agent gets the agent's label, so that no
// site can touch another's groups; and what comes directly may not pretend to come from an agent (T20). A key that an agent
// may not have is refused, and returned with a value of the label that is no agent's identity: so its origin can be kept, and
// apart from those of groups that are.
func (in *Ingester) storedKey(r *change.Change) (grouping.Key, error) {
	label := in.cfg.AgentLabel
	if label == "" {
		return r.Key, nil
	}
	value, has := r.Key.Get(label)
	switch {
	case r.Agent == "" && has && in.cfg.KnownAgent != nil && in.cfg.KnownAgent(value):
		return grouping.Key{}, change.Refuse(change.Forbidden, "group %v belongs to agent %q: only pushes through that agent may change it", r.Key, value)
	case r.Agent == "":
		return r.Key, nil
	case has:
		return r.Key.With(label, r.Agent+"/"+value), change.Refuse(change.Invalid, "grouping key %v has the label %q, which the relay adds by itself to what comes through an agent", r.Key, label)
	default:
		return r.Key.With(label, r.Agent), nil
	}
}

func (in *Ingester) parse(p *exposition.Parser, r *change.Change) (*exposition.Body, error) {
	if r.Format == exposition.ProtobufDelimited {
		return p.ParseProtobuf(r.Body, in.options())
	}
	return p.ParseText(r.Body, in.options())
}

func (in *Ingester) options() exposition.Options {
	return exposition.Options{Names: in.cfg.Names, Limits: in.cfg.Limits}
}

// refuseBody answers a push whose body was not taken. Where the body is well formed and only contradicts itself, the
// Pushgateway's store would have refused it, and so the group's failure time is set (S10).
func (in *Ingester) refuseBody(ctx context.Context, p *groupstore.Push, err error) change.Outcome {
	inconsistent, ok := errors.AsType[*exposition.InconsistentError](err)
	if !ok {
		return in.refuseUnjudged(ctx, p, change.Outcome{Kind: change.Invalid, Detail: err.Error()})
	}
	v, err := in.cfg.Store.Fail(ctx, *p, inconsistent.Error())
	if err != nil || v.Duplicate && v.Rejected == "" {
		return in.outcome(p.Operation, v, err)
	}
	return decided(v, in.refuseInconsistent(inconsistent.Error()))
}

// refuseUnjudged answers a push that the store is not asked about. That it is decided is durable first (T13).
func (in *Ingester) refuseUnjudged(ctx context.Context, p *groupstore.Push, refusal change.Outcome) change.Outcome {
	v, err := in.cfg.Store.Mark(ctx, *p)
	if err != nil || v.Duplicate && v.Rejected == "" {
		return in.outcome(p.Operation, v, err)
	}
	return decided(v, refusal)
}

// fail notes that an agent rejected a push, for which a Pushgateway would have set the group's failure time (T19).
func (in *Ingester) fail(ctx context.Context, p *groupstore.Push) change.Outcome {
	v, err := in.cfg.Store.Fail(ctx, *p, "rejected by the agent")
	if err != nil {
		return decided(v, in.refuse(err))
	}
	return decided(v, change.Outcome{Kind: change.Applied})
}

// refuseInconsistent answers a push that does not fit. With the check off nobody is refused for that.
func (in *Ingester) refuseInconsistent(reason string) change.Outcome {
	if in.cfg.Check != groupstore.CheckEnforced {
		return change.Outcome{Kind: change.Unchecked, Detail: reason}
	}
	return *change.Contradiction(reason)
}

func (in *Ingester) store(ctx context.Context, p *groupstore.Push) (groupstore.Verdict, change.Outcome) {
	verdict, err := in.cfg.Store.Push(ctx, *p)
	return verdict, in.outcome(p.Operation, verdict, err)
}

// decided adds to an outcome what the store says of the decision, be it a refusal or not.
func decided(v groupstore.Verdict, o change.Outcome) change.Outcome {
	o.Duplicate, o.Decided.Position = v.Duplicate, v.Position
	return o
}

// outcome turns what the store says into what the pusher hears.
func (in *Ingester) outcome(op groupstore.Operation, v groupstore.Verdict, err error) change.Outcome {
	switch {
	case err != nil:
		return decided(v, in.refuse(err))
	case v.Duplicate && v.Rejected != "":
		return decided(v, in.refuseInconsistent(v.Rejected))
	case v.Duplicate, in.cfg.Check == groupstore.CheckEnforced, op == groupstore.Delete:
		return decided(v, change.Outcome{Kind: change.Applied})
	default:
		return decided(v, change.Outcome{Kind: change.Unchecked, Detail: detailOf(v)})
	}
}

// refuse is the one place where an error of the store becomes an outcome.
func (in *Ingester) refuse(err error) change.Outcome {
	var inconsistent *groupstore.InconsistentError
	var full *groupstore.FullError
	var inDoubt *groupstore.InDoubtError
	switch {
	case errors.As(err, &inconsistent):
		return in.refuseInconsistent(inconsistent.Error())
	case errors.As(err, &full):
		return fullOutcome(full)
	case errors.As(err, &inDoubt) && ctxEnded(err):
		return change.OutcomeOf(err) // the handler has words for its own timeout
	case errors.Is(err, groupstore.ErrSuperseded):
		return change.Outcome{Kind: change.Superseded, Detail: "superseded: a newer push of the same agent has taken effect in the group since"}
	case errors.Is(err, groupstore.ErrNotCurrent):
		return change.Outcome{Kind: change.NotCurrent, Detail: err.Error()}
	default:
		return change.Outcome{Kind: change.NotWritable, Detail: err.Error(), RetryAfter: retryAfter}
	}
}

// limitFlags name the limits of the store for people: those of all, and those of each agent.
var limitFlags = map[groupstore.Countable]struct{ store, agent string }{
	groupstore.Groups: {" (--store.max-groups)", " (--agents.max-groups)"},
	groupstore.Series: {" (--store.max-series)", " (--agents.max-series)"},
}

// fullOutcome is that of a push for which a limit leaves no room. An agent that is full need not ask every second.
func fullOutcome(full *groupstore.FullError) change.Outcome {
	if full.Account == "" {
		return change.Outcome{Kind: change.Full, Detail: full.Error() + limitFlags[full.What].store}
	}
	return change.Outcome{Kind: change.Full, Detail: full.Error() + limitFlags[full.What].agent, RetryAfter: retryFullAgent}
}

// retryFullAgent is when an agent that has all that it may have may try again.
const retryFullAgent = 30 * time.Second

// retryAfter is when a push may be tried again that was not taken for lack of a writable disk.
const retryAfter = 10 * time.Second

func ctxEnded(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// detailOf says in one line what of the push is not exposed.
func detailOf(v groupstore.Verdict) string {
	switch n := len(v.Quarantined); n {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf("not exposed: %s", v.Quarantined[0].Reason)
	default:
		return fmt.Sprintf("%d metric families are not exposed, the first: %s", n, v.Quarantined[0].Reason)
	}
}
