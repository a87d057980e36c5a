package roster

import (
	"net"
	"slices"
	"strings"

	"pushrelay/internal/scrape"
)

// place is where a target is.
type place struct{ agent, target string }

// hosts finds targets by their label instance and by their address, for requests that name nothing else.
type hosts map[string][]place

// hostKey is an instance or address as a host name is compared: in lower case, without the dot at its end, and without the
// port that a URL need not have.
func hostKey(instance string) string {
	host, port, err := net.SplitHostPort(instance)
	if err != nil {
		return strings.ToLower(strings.TrimSuffix(instance, "."))
	}
	key := strings.ToLower(net.JoinHostPort(strings.TrimSuffix(host, "."), port))
	if port == "80" {
		return strings.TrimSuffix(key, ":80")
	}
	return key
}

// hostKeys are the keys under which a target is found.
func hostKeys(t *Target) []string {
	instance, address := hostKey(t.Instance), hostKey(t.Address)
	if instance == address {
		return []string{instance}
	}
	return []string{instance, address}
}

// add adds the targets of an agent, without those that are withheld: they take no host from anybody.
func (in hosts) add(a *listedAgent) {
	for name, t := range a.targets {
		if a.withheld.why[name] != nil {
			continue
		}
		for _, key := range hostKeys(t) {
			in[key] = append(in[key], place{a.Name, name})
		}
	}
}

func (in hosts) remove(agent string, targets map[string]*Target) {
	for _, t := range targets {
		for _, key := range hostKeys(t) {
			if in[key] == nil {
				continue
			}
			in[key] = slices.DeleteFunc(in[key], func(p place) bool { return p.agent == agent })
			if len(in[key]) == 0 {
				delete(in, key)
			}
		}
	}
}

// candidate is a target at the host of a request, and the key under which it is.
type candidate struct {
	agent string
	*Target
	key string
}

// Find finds the target that a proxied request wants. See scrape.Finder. Of several agents that have the host, the one that
// had it first is asked: another one that announces it takes nothing away.
func (r *Registry) Find(m scrape.Match) (agent, target string, err *scrape.Error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	candidates := r.candidates(m)
	owners := ownersOf(candidates)
	var best candidate
	bestScore, rivals := -1, map[string]bool{}
	for _, c := range candidates {
		asked := owners[c.agent]
		if m.Agent != "" {
			asked = c.agent == m.Agent
		}
		if !asked || m.Scheme != "" && c.Scheme != m.Scheme {
			continue
		}
		// A target that is announced no more is nobody's rival.
		if c.ListedUntil.IsZero() {
			rivals[c.agent] = true
		}
		if s := c.score(m); s > bestScore || s == bestScore && c.Name < best.Name {
			best, bestScore = c, s
		}
	}
	if len(rivals) > 1 {
		return "", "", scrape.Errorf(scrape.TargetAmbiguous, "%d agents announce a target with the instance or address %q: choose one with the parameter _agent=NAME", len(rivals), m.Instance)
	}
	if best.Target == nil {
		return "", "", scrape.Errorf(scrape.TargetUnknown, "no agent has announced a target with the instance or address %q%s%s", m.Instance, wanted(m), r.revokedText(m.Agent))
	}
	return best.agent, best.Name, nil
}

// ownersOf returns the agents that are asked for a host if the request names none: the one that had it before all others. Several, if it
// is not known which; those that announce it no more, if nobody else does. Of two that have it since the same announcement, which two relays have numbered alike,
// it is the first by name, as every relay sees it.
func ownersOf(candidates []candidate) map[string]bool {
	owners := map[string]bool{}
	var first uint64
	listed := false
	for _, c := range candidates {
		live, since := c.ListedUntil.IsZero(), c.since(c.key)
		switch {
		case len(owners) > 0 && (listed && !live || listed == live && since > first):
			continue
		case len(owners) > 0 && since > 0 && listed == live && since == first:
			if owners[c.agent] || !isBefore(c.agent, owners) {
				continue
			}
			clear(owners)
		case live && !listed || since < first:
			clear(owners)
		}
		first, listed = since, live
		owners[c.agent] = true
	}
	return owners
}

// isBefore says whether a name comes before all of others.
func isBefore(name string, others map[string]bool) bool {
	for other := range others {
		if other <= name {
			return false
		}
	}
	return true
}

func wanted(m scrape.Match) string {
	out := ""
	if m.Scheme != "" {
		out += " and scheme " + m.Scheme
	}
	if m.Agent != "" {
		out += " of agent " + m.Agent
	}
	return out
}

// candidates returns the targets at the host of the request. One without a port may be meant with that of either scheme.
func (r *Registry) candidates(m scrape.Match) []candidate {
	key := hostKey(m.Instance)
	keys := []string{key}
	if _, _, err := net.SplitHostPort(m.Instance); err != nil {
		keys = withTwin(key)
	}
	var found []candidate
	for _, key := range keys {
		for _, p := range r.byHost[key] {
			found = append(found, candidate{p.agent, r.agents[p.agent].targets[p.target], key})
		}
	}
	return found
}

// withTwin returns a key, and that of the same host with the port of https if it has none.
func withTwin(key string) []string {
	if _, _, err := net.SplitHostPort(key); err == nil {
		return []string{key}
	}
	return []string{key, key + ":443"}
}

// score prefers targets that are still announced, then those at the host without the port of https, then those that have it as their
// instance, then the one that writes it as the request does, then the one whose own path is asked for, and of two schemes the one
// that the request has.
func (c candidate) score(m scrape.Match) int {
	s := 0
	for _, good := range []bool{
		c.ListedUntil.IsZero(),
		c.key == hostKey(m.Instance),
		hostKey(c.Instance) == c.key,
		strings.EqualFold(c.Instance, m.Instance) || strings.EqualFold(c.Address, m.Instance),
		c.MetricsPath == m.Path,
		c.Scheme == "http",
	} {
		s *= 2
		if good {
			s++
		}
	}
	return s
}
