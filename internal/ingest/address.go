package ingest

import (
	"pushrelay/internal/change"
	"pushrelay/internal/grouping"
)

// addressed returns the change under the key under which it is stored, refused if it may not be stored there. Also one that is refused has the
// key under which its origin is kept.
func (in *Ingester) addressed(c *change.Change) *change.Change {
	key, refusal := in.storedKey(c)
	switch {
	case c.Refused != nil:
		refusal = c.Refused
	case refusal == nil && !c.Operation.IsPush():
		refusal = change.Refuse(change.Invalid, "operation %d of a push is not supported", c.Operation)
	case refusal == nil && c.Agent != "" && in.cfg.Permit != nil:
		refusal = in.cfg.Permit(c.Agent, key)
	}
	if refusal == nil && key == c.Key {
		return c
	}
	return refused(c, key, refusal)
}

// added returns the change as one that adds, if a rule wants that of a push that enters here and does not ask for anything. What comes through an
// agent entered there, and stays what it is (L11).
func (in *Ingester) added(c *change.Change) *change.Change {
	if in.cfg.Adding == nil || c.Agent != "" || c.Refused != nil || !c.Operation.HasBody() {
		return c
	}
	return c.AddedBy(in.cfg.Adding(c.Key))
}

// refused returns a copy of the change with that key and that refusal, which may be nil.
func refused(c *change.Change, key grouping.Key, refusal error) *change.Change {
	stored := *c
	stored.Key, stored.Refused = key, refusal
	return &stored
}

// storedKey returns the key under which the push is stored. What comes through an agent gets the agent's label, so that no
// site can touch another's groups; and what comes directly may not pretend to come from an agent (T20). A key that an agent
// may not have is refused, and returned with a value of the label that is no agent's identity: so its origin can be kept, and
// apart from those of groups that are.
func (in *Ingester) storedKey(c *change.Change) (grouping.Key, error) {
	label := in.cfg.AgentLabel
	if label == "" {
		return c.Key, nil
	}
	value, has := c.Key.Get(label)
	switch {
	case c.Agent == "" && has && in.cfg.KnownAgent != nil && in.cfg.KnownAgent(value):
		return grouping.Key{}, change.Refuse(change.Forbidden, "group %v belongs to agent %q: only pushes through that agent may change it", c.Key, value)
	case c.Agent == "":
		return c.Key, nil
	case has:
		return c.Key.With(label, c.Agent+"/"+value), change.OwnAgentLabel(c.Key, label)
	default:
		return c.Key.With(label, c.Agent), nil
	}
}
