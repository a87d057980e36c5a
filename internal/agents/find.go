package agents

import (
	"net"
	"slices"
	"strings"

	"pushrelay/internal/scrape"
)

// place is where a target is.
type place struct{ agent, target string }

// instances finds targets by their label instance, for requests that name nothing else.
type instances map[string][]place

// instanceKey is the instance as a host name is compared: in lower case, without the dot at its end.
func instanceKey(instance string) string {
	host, port, err := net.SplitHostPort(instance)
	if err != nil {
		return strings.ToLower(strings.TrimSuffix(instance, "."))
	}
	return strings.ToLower(net.JoinHostPort(strings.TrimSuffix(host, "."), port))
}

func (in instances) add(agent string, targets map[string]*Target) {
	for name, t := range targets {
		key := instanceKey(t.Instance)
		in[key] = append(in[key], place{agent, name})
	}
}

func (in instances) remove(agent string, targets map[string]*Target) {
	for _, t := range targets {
		key := instanceKey(t.Instance)
		in[key] = slices.DeleteFunc(in[key], func(p place) bool { return p.agent == agent })
		if len(in[key]) == 0 {
			delete(in, key)
		}
	}
}

// Find finds the target that a proxied request wants. See scrape.Finder.
func (r *Registry) Find(m scrape.Match) (agent, target string, err *scrape.Error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var best *Target
	bestAgent, bestScore := "", -1
	agents := map[string]bool{}
	for _, p := range r.places(m) {
		t := r.agents[p.agent].targets[p.target]
		if m.Agent != "" && p.agent != m.Agent || m.Scheme != "" && t.Scheme != m.Scheme {
			continue
		}
		agents[p.agent] = true
		if s := score(t, m); s > bestScore || s == bestScore && t.Name < best.Name {
			best, bestAgent, bestScore = t, p.agent, s
		}
	}
	if len(agents) > 1 {
		return "", "", scrape.Errorf(scrape.TargetAmbiguous, "%d agents announce a target with instance %q: choose one with the parameter _agent=NAME", len(agents), m.Instance)
	}
	if best == nil {
		return "", "", scrape.Errorf(scrape.TargetUnknown, "no agent has announced a target with instance %q%s", m.Instance, wanted(m))
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

// places returns the targets with the instance of the request, with or without the port that its scheme implies.
func (r *Registry) places(m scrape.Match) []place {
	key := instanceKey(m.Instance)
	if found := r.byInstance[key]; found != nil {
		return found
	}
	if _, _, err := net.SplitHostPort(key); err == nil {
		return r.byInstance[strings.TrimSuffix(key, ":80")]
	}
	if found := r.byInstance[key+":80"]; found != nil {
		return found
	}
	return r.byInstance[key+":443"]
}

// score prefers the target whose own path is asked for, and of two schemes the one that the request has.
func score(t *Target, m scrape.Match) int {
	s := 0
	if t.MetricsPath == m.Path {
		s += 2
	}
	if t.Scheme == "http" {
		s++
	}
	return s
}
