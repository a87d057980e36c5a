package targets

import (
	"fmt"

	"pushrelay/internal/scrape"
	"pushrelay/internal/target"
)

// nameOf is what the name of a target is made of.
func (c configured) nameOf() target.Target {
	t := c.target
	// The parameters tell targets apart as well, but are nobody else's business: they count only while naming.
	t.MetricsPath += "?" + c.params.Encode()
	if !c.instance {
		t.Instance = t.Address // with its port, as names have always been
	}
	return t
}

// assignNames returns the names of all targets of an agent, empty for those that are equal to one before them.
func assignNames(found []configured) []string {
	targets := make([]target.Target, 0, len(found))
	for _, c := range found {
		targets = append(targets, c.nameOf())
	}
	return target.AssignNames(targets)
}

// describeDuplicate says which target comes twice.
func describeDuplicate(t target.Target) string {
	return fmt.Sprintf("target %q comes twice, with the same job %q, instance and labels", t.Address, t.Job)
}

// nameEndpoints names all endpoints of an agent; of several that are equal in everything one stays, and the others are
// returned as well.
func nameEndpoints(found []unnamed) (named, twice []*scrape.Endpoint) {
	targets := make([]target.Target, 0, len(found))
	for _, u := range found {
		targets = append(targets, u.nameOf)
	}
	for i, name := range target.AssignNames(targets) {
		e := found[i].endpoint
		if name == "" {
			twice = append(twice, e)
			continue
		}
		e.Target.Name = name
		named = append(named, e)
	}
	return named, twice
}
