// Package ingest is the relay's way from a push to the store: a body becomes families, a key gets the label of the agent
// that it came through, and what the store says becomes an answer.
//
// It promises that a push which is refused has changed nothing but, where the Pushgateway does so too, the failure time of
// its group. It knows neither HTTP nor the tunnel: both hand it a [push.Request]. Start reading at [Ingester.Push].
package ingest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/push"
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
	Names exposition.NameScheme
	// Limits bound the shape of a body. Sizes are checked before, where bodies are read.
	Limits exposition.Limits
	// AgentLabel is the grouping label that pushes through an agent get, with the agent's identity (T20); empty for none.
	AgentLabel string
	// KnownAgent says whether an agent of that name is known; nil if none is. It must be safe for concurrent use.
	KnownAgent func(name string) bool
	// Registerer takes the ingester's metrics. Required.
	Registerer prometheus.Registerer
}

// Ingester is the relay's [push.Pusher]. It is safe for concurrent use and starts nothing.
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

// Push stores the push. See [push.Pusher].
func (in *Ingester) Push(ctx context.Context, r *push.Request) (push.Result, error) {
	start := time.Now()
	result, err := in.push(ctx, r)
	in.metrics.pushed(result, err, len(r.Body), time.Since(start))
	return result, err
}

func (in *Ingester) push(ctx context.Context, r *push.Request) (push.Result, error) {
	p, refusal := in.toStore(r)
	if refusal != nil {
		return in.refuseUnjudged(ctx, &p, refusal)
	}
	if p.Operation == groupstore.Fail {
		return in.fail(ctx, &p)
	}
	if p.Operation == groupstore.Delete {
		_, result, err := in.store(ctx, &p)
		return result, err
	}
	if r.Format == exposition.ProtobufDelimited {
		_, result, err := in.parseAndStore(ctx, &p, r)
		return result, err
	}
	head := in.templates.head(r.Body)
	if verdict, taken, err := in.storeValues(ctx, &p, r.Body, head); taken {
		return in.answer(p.Operation, verdict, err)
	}
	verdict, result, err := in.parseAndStore(ctx, &p, r)
	if err == nil && verdict.Known && in.templates.worthwhile(head) {
		in.remember(&p, r.Body, head)
	}
	return result, err
}

// toStore returns the push as the store sees it, without a body, or why it is refused for good whatever the store holds.
// Also one that is refused has the key under which its origin is kept.
func (in *Ingester) toStore(r *push.Request) (p groupstore.Push, refusal error) {
	p = groupstore.Push{At: r.ReceivedAt, Origin: originOf(r), Waited: r.Waited, Current: r.Current}
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
func (in *Ingester) parseAndStore(ctx context.Context, p *groupstore.Push, r *push.Request) (v groupstore.Verdict, result push.Result, err error) {
	parser := in.parsers.Get().(*exposition.Parser)
	defer func() {
		parser.Reset()
		in.parsers.Put(parser)
	}()
	p.Body, err = in.parse(parser, r)
	if err != nil {
		result, err = in.refuseBody(ctx, p, err)
		return v, result, err
	}
	if forged := in.refuseForged(r, p.Body); forged != nil {
		result, err = in.refuseUnjudged(ctx, p, forged)
		return v, result, err
	}
	return in.store(ctx, p)
}

func operationOf(o push.Operation) (groupstore.Operation, error) {
	switch o {
	case push.Replace:
		return groupstore.Replace, nil
	case push.Merge:
		return groupstore.Merge, nil
	case push.Delete:
		return groupstore.Delete, nil
	case push.Fail:
		return groupstore.Fail, nil
	default:
		return 0, push.Errorf(push.ErrInvalid, "operation %d of a push is not supported", o)
	}
}

// storedKey returns the key under which the push is stored. What comes through an agent gets the agent's label, so that no
// site can touch another's groups; and what comes directly may not pretend to come from an agent (T20). A key that an agent
// may not have is refused, and returned with a value of the label that is no agent's identity: so its origin can be kept, and
// apart from those of groups that are.
func (in *Ingester) storedKey(r *push.Request) (grouping.Key, error) {
	label := in.cfg.AgentLabel
	if label == "" {
		return r.Key, nil
	}
	value, has := r.Key.Get(label)
	switch {
	case r.Agent == "" && has && in.cfg.KnownAgent != nil && in.cfg.KnownAgent(value):
		return grouping.Key{}, push.Errorf(push.ErrForbidden, "group %v belongs to agent %q: only pushes through that agent may change it", r.Key, value)
	case r.Agent == "":
		return r.Key, nil
	case has:
		return r.Key.With(label, r.Agent+"/"+value), push.Errorf(push.ErrInvalid, "grouping key %v has the label %q, which the relay adds by itself to what comes through an agent", r.Key, label)
	default:
		return r.Key.With(label, r.Agent), nil
	}
}

func (in *Ingester) parse(p *exposition.Parser, r *push.Request) (*exposition.Body, error) {
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
func (in *Ingester) refuseBody(ctx context.Context, p *groupstore.Push, err error) (push.Result, error) {
	var inconsistent *exposition.InconsistentError
	if !errors.As(err, &inconsistent) {
		return in.refuseUnjudged(ctx, p, &push.Error{Kind: push.ErrInvalid, Message: err.Error()})
	}
	v, err := in.cfg.Store.Fail(ctx, *p, inconsistent.Error())
	if err != nil || v.Duplicate && v.Rejected == "" {
		return in.answer(p.Operation, v, err)
	}
	result, err := in.refuseInconsistent(inconsistent.Error())
	return decided(v, result), err
}

// refuseUnjudged answers a push that the store is not asked about. That it is decided is durable first (T13).
func (in *Ingester) refuseUnjudged(ctx context.Context, p *groupstore.Push, refusal error) (push.Result, error) {
	v, err := in.cfg.Store.Mark(ctx, *p)
	if err != nil || v.Duplicate && v.Rejected == "" {
		return in.answer(p.Operation, v, err)
	}
	return decided(v, push.Result{}), refusal
}

// fail notes that an agent rejected a push, for which a Pushgateway would have set the group's failure time (T19).
func (in *Ingester) fail(ctx context.Context, p *groupstore.Push) (push.Result, error) {
	v, err := in.cfg.Store.Fail(ctx, *p, "rejected by the agent")
	result := push.Result{Outcome: push.Applied}
	if err != nil {
		result, err = in.refuse(err)
	}
	return decided(v, result), err
}

// refuseInconsistent answers a push that does not fit. With the check off nobody is refused for that.
func (in *Ingester) refuseInconsistent(reason string) (push.Result, error) {
	if in.cfg.Check != groupstore.CheckEnforced {
		return push.Result{Outcome: push.Unchecked, Detail: reason}, nil
	}
	return push.Result{}, push.Inconsistent(reason)
}

func (in *Ingester) store(ctx context.Context, p *groupstore.Push) (groupstore.Verdict, push.Result, error) {
	verdict, err := in.cfg.Store.Push(ctx, *p)
	result, err := in.answer(p.Operation, verdict, err)
	return verdict, result, err
}

// answer turns what the store says into what the pusher hears.
func (in *Ingester) answer(op groupstore.Operation, v groupstore.Verdict, err error) (push.Result, error) {
	result, err := in.outcome(op, v, err)
	return decided(v, result), err
}

// decided adds to an answer what the store says of the decision, be it a refusal or not.
func decided(v groupstore.Verdict, result push.Result) push.Result {
	result.Duplicate, result.Decided.Position = v.Duplicate, v.Position
	return result
}

func (in *Ingester) outcome(op groupstore.Operation, v groupstore.Verdict, err error) (push.Result, error) {
	switch {
	case err != nil:
		return in.refuse(err)
	case v.Duplicate && v.Rejected != "":
		return in.refuseInconsistent(v.Rejected)
	case v.Duplicate:
		return push.Result{Outcome: push.Applied}, nil
	case in.cfg.Check == groupstore.CheckEnforced || op == groupstore.Delete:
		return push.Result{Outcome: push.Applied}, nil
	default:
		return push.Result{Outcome: push.Unchecked, Detail: detailOf(v)}, nil
	}
}

// refuse is the one place where an error of the store becomes one of the push.
func (in *Ingester) refuse(err error) (push.Result, error) {
	var inconsistent *groupstore.InconsistentError
	var full *groupstore.FullError
	var inDoubt *groupstore.InDoubtError
	switch {
	case errors.As(err, &inconsistent):
		return in.refuseInconsistent(inconsistent.Error())
	case errors.As(err, &full):
		return push.Result{}, fullError(full)
	case errors.As(err, &inDoubt) && ctxEnded(err):
		return push.Result{}, err // the handler has words for its own timeout
	case errors.Is(err, groupstore.ErrSuperseded):
		return push.Result{}, &push.Error{Kind: push.ErrSuperseded, Message: "superseded: a newer push of the same agent has taken effect in the group since"}
	case errors.Is(err, groupstore.ErrNotCurrent):
		return push.Result{}, &push.Error{Kind: push.ErrNotCurrent, Message: err.Error()}
	default:
		return push.Result{}, &push.Error{Kind: push.ErrNotWritable, Message: err.Error(), RetryAfter: retryAfter}
	}
}

// limitFlags name the limits of the store for people: those of all, and those of each agent.
var limitFlags = map[groupstore.Countable]struct{ store, agent string }{
	groupstore.Groups: {" (--store.max-groups)", " (--agents.max-groups)"},
	groupstore.Series: {" (--store.max-series)", " (--agents.max-series)"},
}

// fullError is the refusal of a push for which a limit leaves no room. An agent that is full need not ask every second.
func fullError(full *groupstore.FullError) *push.Error {
	refused := &push.Error{Kind: push.ErrFull, Message: full.Error()}
	if full.Account == "" {
		refused.Message += limitFlags[full.What].store
		return refused
	}
	refused.Message += limitFlags[full.What].agent
	refused.RetryAfter = retryFullAgent
	return refused
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
