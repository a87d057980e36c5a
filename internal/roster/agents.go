package roster

import (
	"cmp"
	"slices"
	"time"

	"pushrelay/internal/target"
)

// Agent is what is known of an agent at one moment.
type Agent struct {
	Name string
	// Connected says that it has a session, on this relay or another one.
	Connected bool
	// Relays are those that it has a session with, by name, the best way to it first; nil for a relay by itself.
	Relays []string
	// Conflict says that two processes take the session from each other.
	Conflict bool
	// SessionStarted and RemoteAddress are those of the current session, or of the last.
	SessionStarted time.Time
	RemoteAddress  string
	// LastSeen is when the agent was last heard; now, while connected, to within a heartbeat.
	LastSeen            time.Time
	Version             string
	CertificateNotAfter time.Time
	CertificateSerial   string
	// TrustDomain is the one that the name is bound to; empty if an earlier release noted the agent.
	TrustDomain string
	// RoundTrip and ClockSkew are the last measured of the current session; nil before the first. A positive skew means
	// that the agent's clock is ahead.
	RoundTrip, ClockSkew *time.Duration
	// SpoolPending is the number of changes that wait at the agent for this relay.
	SpoolPending uint64
	// Sessions counts those that it began since the relay started.
	Sessions int
	// Targets are those that the agent has, in its own order, and after them those that it announces no more.
	Targets []Target
	// Withheld is how many others it announces that are not listed.
	Withheld int
	// AnnouncedBy is the process that announced targets last; zero if that is not known.
	AnnouncedBy [16]byte
}

// Target is a target and its last scrape through this relay.
type Target struct {
	target.Target
	// LastScrape is zero if there was none since the relay started.
	LastScrape   time.Time
	LastDuration time.Duration
	// LastStatus is the HTTP status that the target answered the last scrape with; 0 if no answer came.
	LastStatus int
	// LastError is why Prometheus has up 0 since the last scrape; empty if it succeeded.
	LastError string
	// LastSuccess is when the last scrape began that succeeded; zero if there was none since the relay started.
	LastSuccess time.Time
	// ListedUntil is set if the agent announces the target no more: until when it stays listed all the same.
	ListedUntil time.Time
	// InstanceSince and AddressSince say which agent had a host first: they are the number, among the announcements of all agents, of
	// the one with which this agent came to have the target's instance, or its address. 0 is earlier than was counted.
	InstanceSince, AddressSince uint64
}

// Agents returns what is known of every agent, sorted by name.
func (r *Registry) Agents() []Agent {
	return r.each(r.view)
}

// each returns what view makes of every agent, sorted by name.
func (r *Registry) each(view func(a *listedAgent, now time.Time) Agent) []Agent {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Agent, 0, len(r.agents))
	for _, a := range r.agents {
		r.dropLeft(a, now)
		out = append(out, view(a, now))
	}
	slices.SortFunc(out, func(x, y Agent) int { return cmp.Compare(x.Name, y.Name) })
	return out
}

// Agent returns what is known of one agent, and whether anything is.
func (r *Registry) Agent(name string) (Agent, bool) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.agents[name]
	if a == nil {
		return Agent{}, false
	}
	r.dropLeft(a, now)
	return r.view(a, now), true
}

// Changes returns a number that is another one once an agent came, went or is forgotten, announced other targets, has other terms, or a
// target is down that was not, or for another reason. It takes no lock.
func (r *Registry) Changes() uint64 { return r.changes.Load() }

// view returns what is told of an agent here: without the targets that are withheld. The caller holds mu.
func (r *Registry) view(a *listedAgent, now time.Time) Agent {
	v := a.listed(now)
	if name := r.sharing.Name(); name != "" && a.Connected {
		if a.session != nil {
			v.Relays = append(v.Relays, name)
		}
		v.Relays = append(v.Relays, a.elsewhere...)
	}
	return v
}

// listed returns what is known of the agent, without the targets that are withheld.
func (a *listedAgent) listed(now time.Time) Agent {
	v := a.whole(now)
	if a.withheld.why != nil {
		v.Targets = slices.DeleteFunc(v.Targets, func(t Target) bool { return a.withheld.why[t.Name] != nil })
		v.Withheld = a.withheld.now.Count
	}
	return v
}

// whole returns what is known of the agent.
func (a *listedAgent) whole(now time.Time) Agent {
	v := a.Agent
	v.Conflict = a.inConflict(now)
	if a.session == nil && a.Connected {
		v.LastSeen = now // by another relay
	}
	v.Targets = make([]Target, 0, len(a.order))
	for _, name := range a.order {
		v.Targets = append(v.Targets, *a.targets[name])
	}
	return v
}

// Known reports whether the name is that of a known agent.
func (r *Registry) Known(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, known := r.agents[name]
	return known
}

// CheckName returns a [*TakenError] if the name is that of a known agent of another trust domain.
func (r *Registry) CheckName(name, trustDomain string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.agents[name]
	if a == nil {
		return nil
	}
	return a.checkDomain(trustDomain)
}

// checkDomain is CheckName of an agent that is known. The caller holds Registry.mu.
func (a *listedAgent) checkDomain(trustDomain string) error {
	if a.TrustDomain == "" || a.TrustDomain == trustDomain {
		return nil
	}
	return &TakenError{Name: a.Name, TrustDomain: a.TrustDomain}
}

// LastSign returns whether the agent is connected, to whatever relay, and when it was last heard; the zero time for one that is not known.
func (r *Registry) LastSign(name string) (connected bool, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.agents[name]
	if a == nil {
		return false, time.Time{}
	}
	return a.Connected, a.LastSeen
}

// CertificateEnd returns when the certificate ends that the agent came with last; found is false for one that is not known.
func (r *Registry) CertificateEnd(name string) (notAfter time.Time, found bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.agents[name]
	if a == nil {
		return time.Time{}, false
	}
	return a.CertificateNotAfter, true
}
