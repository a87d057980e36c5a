package agents

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

// hostKey is an instance or address as a host name is compared: in lower case, without the dot at its end.
func hostKey(instance string) string {
	host, port, err := net.SplitHostPort(instance)
	if err != nil {
		return strings.ToLower(strings.TrimSuffix(instance, "."))
	}
	return strings.ToLower(net.JoinHostPort(strings.TrimSuffix(host, "."), port))
}

// hostKeys are the keys under which a target is found.
func hostKeys(t *Target) []string {
	instance, address := hostKey(t.Instance), hostKey(t.Address)
	if instance == address {
		return []string{instance}
	}
	return []string{instance, address}
}

func (in hosts) add(agent string, targets map[string]*Target) {
	for name, t := range targets {
		for _, key := range hostKeys(t) {
			in[key] = append(in[key], place{agent, name})
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

// Find finds the target that a proxied request wants. See scrape.Finder.
func (r *Registry) Find(m scrape.Match) (agent, target string, err *scrape.Error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key, places := r.places(m)
	var best *Target
	bestAgent, bestScore := "", -1
	agents := map[string]bool{}
	for _, p := range places {
		t := r.agents[p.agent].targets[p.target]
		if m.Agent != "" && p.agent != m.Agent || m.Scheme != "" && t.Scheme != m.Scheme {
			continue
		}
		// A target that is announced no more is nobody's rival.
		if t.ListedUntil.IsZero() {
			agents[p.agent] = true
		}
		if s := score(t, key, m); s > bestScore || s == bestScore && t.Name < best.Name {
			best, bestAgent, bestScore = t, p.agent, s
		}
	}
	if len(agents) > 1 {
		return "", "", scrape.Errorf(scrape.TargetAmbiguous, "%d agents announce a target with the instance or address %q: choose one with the parameter _agent=NAME", len(agents), m.Instance)
	}
	if best == nil {
		return "", "", scrape.Errorf(scrape.TargetUnknown, "no agent has announced a target with the instance or address %q%s", m.Instance, wanted(m))
	}
	return bestAgent, best.Name, nil
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

// places returns the targets at the host of the request, with or without the port that its scheme implies, and the key under
// which they are.
func (r *Registry) places(m scrape.Match) (key string, found []place) {
	key = hostKey(m.Instance)
	keys := []string{key, key + ":80", key + ":443"}
	if _, _, err := net.SplitHostPort(key); err == nil {
		keys = []string{key, strings.TrimSuffix(key, ":80")}
	}
	for _, key := range keys {
		if found := r.byHost[key]; found != nil {
			return key, found
		}
	}
	return key, nil
}

// score prefers targets that are still announced, then those that have the host as their instance, then the one whose own path
// is asked for, and of two schemes the one that the request has.
func score(t *Target, key string, m scrape.Match) int {
	s := 0
	if t.ListedUntil.IsZero() {
		s += 8
	}
	if hostKey(t.Instance) == key {
		s += 4
	}
	if t.MetricsPath == m.Path {
		s += 2
	}
	if t.Scheme == "http" {
		s++
	}
	return s
}
