package agent

import (
	"context"
	"sync/atomic"

	"pushrelay/internal/addup"
	"pushrelay/internal/change"
	"pushrelay/internal/grouping"
	"pushrelay/internal/lifetime"
	"pushrelay/internal/push"
)

// pushRules are the push rules that hold at the moment; none before the first are set. They are replaced as a whole.
type pushRules struct {
	current atomic.Pointer[[]lifetime.Rule]
}

func (p *pushRules) set(rules []lifetime.Rule) { p.current.Store(&rules) }

// addingOf returns how pushes to a group are added up; nil if they are not.
func (p *pushRules) addingOf(key grouping.Key) *addup.Rule {
	if rules := p.current.Load(); rules != nil {
		return lifetime.AddingOf(*rules, key)
	}
	return nil
}

// addingApplier adds up the pushes of others as the rules say, before they are spooled: no relay does that with what comes through an agent (L11).
type addingApplier struct {
	applier push.Applier
	rules   *pushRules
}

// Apply hands the push on.
func (a *addingApplier) Apply(ctx context.Context, c *change.Change) change.Outcome {
	return a.applier.Apply(ctx, c.AddedBy(a.rules.addingOf(c.Key)))
}
