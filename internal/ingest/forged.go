package ingest

import (
	"iter"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
)

// refuseForged refuses a direct push of a series that has the label of agents, with the name of a known one (T20): it would be shown
// as that agent's, and be in the way of the agent's own push.
func (in *Ingester) refuseForged(r *change.Change, b *exposition.Body) error {
	if r.Agent != "" || in.cfg.KnownAgent == nil {
		return nil
	}
	last := ""
	for f, value := range in.namedAgents(r.Key, b) {
		if string(value) == last {
			continue
		}
		last = string(value)
		if in.cfg.KnownAgent(last) {
			return change.Refuse(change.Forbidden, "series %q has the label %s=%q, which is that of an agent: only what is pushed through that agent has it; push through the agent, or give the label another name",
				f.Name, in.cfg.AgentLabel, last)
		}
	}
	return nil
}

// namesAgents says whether some series of the body names an agent, known or not.
func (in *Ingester) namesAgents(key grouping.Key, b *exposition.Body) bool {
	for range in.namedAgents(key, b) {
		return true
	}
	return false
}

// namedAgents yields the values that the series of a body give to the label of agents, with their families. Where the grouping key has
// the label, nothing that was pushed counts.
func (in *Ingester) namedAgents(key grouping.Key, b *exposition.Body) iter.Seq2[*exposition.Family, []byte] {
	return func(yield func(*exposition.Family, []byte) bool) {
		label := in.cfg.AgentLabel
		if _, has := key.Get(label); label == "" || has {
			return
		}
		for i := range b.Families {
			f := &b.Families[i]
			for _, m := range b.Metrics[f.Metrics.Start:f.Metrics.End] {
				for _, l := range b.Labels[m.Labels.Start:m.Labels.End] {
					if string(l.Name) == label && len(l.Value) > 0 && !yield(f, l.Value) {
						return
					}
				}
			}
		}
	}
}
