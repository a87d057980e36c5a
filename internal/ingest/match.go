package ingest

import (
	"context"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/groupstore"
)

// matched stores the values of a body that matches a template, if there is one and the group has just its series.
func (in *Ingester) matched(ctx context.Context, c *change.Change, head uint64) (change.Outcome, groupstore.Finding) {
	candidates := in.templates.candidates(head)
	if len(candidates) == 0 {
		return change.Outcome{}, groupstore.Unmet
	}
	m := in.matchings.Get().(*matching)
	defer in.matchings.Put(m)
	for _, t := range candidates {
		values, ok := t.match(c.Body, m)
		if !ok {
			continue
		}
		if o, found := in.cfg.Store.Apply(ctx, c, groupstore.Content{Sets: t.sets, Values: values}); found != groupstore.Unmet {
			return o, found
		}
	}
	return change.Outcome{}, groupstore.Unmet
}

// remember makes a template of a body that was stored, and whose series the group had before: so it may well come again.
func (in *Ingester) remember(c *change.Change, head uint64) {
	parser := in.parsers.Get().(*exposition.Parser)
	defer func() {
		parser.Reset()
		in.parsers.Put(parser)
	}()
	t := newTemplate(c.Body,
		func(numbered []byte) (*exposition.Body, error) { return parser.ParseText(numbered, in.options()) },
		func(b *exposition.Body) *groupstore.Sets {
			if c.Agent == "" && in.namesAgents(c.Key, b) {
				return nil // which agents are known is asked anew each time
			}
			return in.cfg.Store.SetsOf(c, b)
		})
	if t != nil {
		in.templates.add(head, t, max(templatesLeast, in.cfg.Store.Stats().Bytes/templatesShare))
	}
}
