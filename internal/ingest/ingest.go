// Package ingest is the relay's way from a push to the store: a body becomes families, a key gets the label of the agent
// that it came through, and what the store says becomes an answer.
//
// It promises that a push which is refused has changed nothing but, where the Pushgateway does so too, the failure time of
// its group. It knows neither HTTP nor the tunnel: both hand it a [change.Change]. Start reading at [Ingester.Apply].
package ingest

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pushrelay/internal/addup"
	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/metric"
)

// Store is what the ingester needs of a grouping store; see [groupstore.Store] for the contracts.
type Store interface {
	Apply(ctx context.Context, c *change.Change, content groupstore.Content) (change.Outcome, groupstore.Finding)
	SetsOf(c *change.Change, body *exposition.Body) *groupstore.Sets
	Decided(agent string, journal [16]byte) (sequence uint64, digest change.Digest, ok bool)
	Stats() groupstore.Stats
}

// Config is what an ingester is made with.
type Config struct {
	// Store takes the pushes. Required.
	Store Store
	// Names is the scheme for metric and label names in bodies.
	Names metric.NameScheme
	// Limits bound the shape of a body. Sizes are checked before, where bodies are read.
	Limits exposition.Limits
	// AgentLabel is the grouping label that pushes through an agent get, with the agent's identity (T20); empty for none.
	AgentLabel string
	// KnownAgent says whether an agent of that name is known; nil if none is. It must be safe for concurrent use.
	KnownAgent func(name string) bool
	// Permit says whether an agent may push to the group that is stored under a key: an error is the outcome, for good. Nil permits everything.
	// It must be safe for concurrent use.
	Permit func(agent string, key grouping.Key) error
	// Sees says of which groups of the store an agent may know: what it is told of its pushes names no others. It is nil, or returns nil, for all.
	// It must be safe for concurrent use.
	Sees func(agent string) func(key grouping.Key) bool
	// Adding says how pushes to a group are added up whose pushers do not ask for it (L11), nil for not at all; a nil function never does. It
	// must be safe for concurrent use.
	Adding func(key grouping.Key) *addup.Rule
	// Decided is told of each push with the key of the store, how it ended and how long that took; nil tells nobody. It must be safe for
	// concurrent use, and is not to keep the change.
	Decided func(c *change.Change, o change.Outcome, took time.Duration)
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
func (in *Ingester) Apply(ctx context.Context, c *change.Change) change.Outcome {
	start := time.Now()
	c = in.added(in.addressed(c))
	o := in.apply(ctx, c)
	took := time.Since(start)
	in.metrics.pushed(o, len(c.Body), took)
	if in.cfg.Decided != nil {
		in.cfg.Decided(c, o, took)
	}
	if o.Detail != "" && c.Agent != "" && in.cfg.Sees != nil {
		o.Detail = change.Readable(o.Detail, in.cfg.Sees(c.Agent))
	}
	return o
}

func (in *Ingester) apply(ctx context.Context, c *change.Change) change.Outcome {
	switch {
	case c.Operation == change.Fail: // a Pushgateway would have set the group's failure time (T19)
		return in.store(ctx, c, groupstore.Content{Fault: "rejected by the agent"})
	case c.Refused != nil || !c.Operation.HasBody():
		return in.store(ctx, c, groupstore.Content{})
	case c.Format == exposition.ProtobufDelimited, c.Operation == change.MergeSeries:
		o, _ := in.parsed(ctx, c)
		return o
	}
	head := in.templates.head(c.Body)
	if o, found := in.matched(ctx, c, head); found != groupstore.Unmet {
		return o
	}
	o, found := in.parsed(ctx, c)
	if found == groupstore.SameSeries && o.IsTaken() && in.templates.worthwhile(head) {
		in.remember(c, head)
	}
	return o
}

// store stores what nothing needs to be found out about.
func (in *Ingester) store(ctx context.Context, c *change.Change, content groupstore.Content) change.Outcome {
	o, _ := in.cfg.Store.Apply(ctx, c, content)
	return o
}

// parsed goes the whole way. Where a body is well formed and only contradicts itself, the Pushgateway's store would have refused it, and so the
// group's failure time is set (S10).
func (in *Ingester) parsed(ctx context.Context, c *change.Change) (change.Outcome, groupstore.Finding) {
	parser := in.parsers.Get().(*exposition.Parser)
	defer func() {
		parser.Reset()
		in.parsers.Put(parser)
	}()
	body, err := parser.Parse(c.Format, c.Body, in.options())
	if inconsistent, ok := errors.AsType[*exposition.InconsistentError](err); ok {
		return in.cfg.Store.Apply(ctx, c, groupstore.Content{Fault: inconsistent.Error()})
	}
	if err != nil {
		err = &change.Outcome{Kind: change.Invalid, Detail: exposition.Diagnose(err, c.Format, c.Body)}
	} else {
		err = in.refuseForged(c, body)
	}
	if err != nil {
		c = refused(c, c.Key, err)
	}
	return in.cfg.Store.Apply(ctx, c, groupstore.Content{Body: body})
}

func (in *Ingester) options() exposition.Options {
	return exposition.Options{Names: in.cfg.Names, Limits: in.cfg.Limits}
}
