package roster

// claims are the hosts that an agent has, each with the announcement since which it does.
type claims map[string]uint64

// claimsOf returns the claims of an agent with these targets.
func claimsOf(targets map[string]*Target) claims {
	had := make(claims, len(targets))
	for _, t := range targets {
		for _, key := range hostKeys(t) {
			if since, found := had[key]; !found || t.since(key) < since {
				had[key] = t.since(key)
			}
		}
	}
	return had
}

// give writes into a target since when the agent has its hosts, which is now unless it had them before.
func (c claims) give(t *Target, now uint64) {
	t.InstanceSince, t.AddressSince = now, now
	if since, found := c[hostKey(t.Instance)]; found {
		t.InstanceSince = since
	}
	if since, found := c[hostKey(t.Address)]; found {
		t.AddressSince = since
	}
}

// since returns the announcement since which the agent of a target has one of its hosts.
func (t *Target) since(key string) uint64 {
	if hostKey(t.Instance) == key {
		return t.InstanceSince
	}
	return t.AddressSince
}

// contestedBy returns the targets with hosts that the agent has since an announcement and another agent had before, and one such agent.
// The caller holds mu.
func (r *Registry) contestedBy(a *listedAgent, announcement uint64) (targets []string, first string) {
	for _, name := range a.order {
		t := a.targets[name]
		if a.withheld.why[name] != nil {
			continue
		}
		for _, key := range hostKeys(t) {
			if t.since(key) != announcement {
				continue
			}
			if owner := r.ownerBeside(a, key); owner != "" {
				targets, first = append(targets, name), owner
				break
			}
		}
	}
	return targets, first
}

// ownerBeside returns another agent that has a host, with or without the port of https; empty if none has. The caller holds mu.
func (r *Registry) ownerBeside(a *listedAgent, key string) string {
	for _, key := range withTwin(key) {
		for _, p := range r.byHost[key] {
			if p.agent != a.Name && r.agents[p.agent].targets[p.target].ListedUntil.IsZero() {
				return p.agent
			}
		}
	}
	return ""
}
