package roster

import (
	"slices"
	"time"
)

// Sharing is how the relays of a cluster know the same agents: what begins, ends and changes here is told to it, and it tells a registry what other relays
// know, by [Registry.Install], [Registry.Drop], [Registry.SetPlaces] and [Registry.NoteProcess].
type Sharing interface {
	// Name is that of this relay.
	Name() string
	// Leads says whether this relay forgets agents that are long gone, for all.
	Leads() bool
	// Admit installs what all relays know of an agent that is not known here; if that is nothing it makes the name one of the trust domain. It may wait a
	// moment. The error says why they cannot be asked.
	Admit(name, trustDomain string) error
	// Attached, Detached and Changed tell that a session has begun, that it is over, and that something else is known of an agent. They are called under
	// the registry's lock: they neither wait nor call the registry.
	Attached(at *Attachment)
	Detached(at *Attachment)
	Changed(agent string)
	// Await waits a moment until all relays know of a session that has begun.
	Await(at *Attachment)
	// Forget has all relays forget an agent. It may wait a moment. The error is [ErrConnected] if the agent has a session somewhere.
	Forget(name string) error
}

// alone is the Sharing of a relay by itself.
type alone struct{}

func (alone) Name() string               { return "" }
func (alone) Leads() bool                { return true }
func (alone) Admit(string, string) error { return nil }
func (alone) Attached(*Attachment)       {}
func (alone) Detached(*Attachment)       {}
func (alone) Changed(string)             {}
func (alone) Await(*Attachment)          {}
func (alone) Forget(string) error        { return nil }

// Agent is the name of the agent.
func (at *Attachment) Agent() string { return at.agent.Name }

// Process is that of the agent.
func (at *Attachment) Process() [16]byte { return at.process }

// Attach is the number of the attempt that began the session, 0 if the agent does not count.
func (at *Attachment) Attach() uint64 { return at.attach }

// RemoteAddress is where the agent came from.
func (at *Attachment) RemoteAddress() string { return at.remote }

// Epoch is the one since which all relays know of the session; 0 as long as they do not, and for a relay by itself.
func (at *Attachment) Epoch() int64 { return at.epoch.Load() }

// SetEpoch sets the epoch.
func (at *Attachment) SetEpoch(epoch int64) { at.epoch.Store(epoch) }

// Displace ends the session because another process of the agent has one on another relay, which is named with its address.
func (at *Attachment) Displace(by string) {
	r := at.registry
	r.mu.Lock()
	if !at.live.Load() {
		r.mu.Unlock()
		return
	}
	session := at.agent.session
	r.detach(at.agent)
	r.mu.Unlock()
	session.Supersede(by)
}

// Names returns those of all agents, in no order.
func (r *Registry) Names() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	names := make([]string, 0, len(r.agents))
	for name := range r.agents {
		names = append(names, name)
	}
	return names
}

// Whole returns what is to be known of an agent on every relay, with the targets that are withheld.
func (r *Registry) Whole(name string) (known Agent, found bool) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.agents[name]
	if a == nil {
		return Agent{}, false
	}
	r.dropLeft(a, now)
	known = a.whole(now)
	known.LastSeen = a.LastSeen
	return known, true
}

// Install takes what another relay knows of an agent. Of one that has a session here this relay knows what it announces; then only the earlier of two numbers of a
// host is taken.
func (r *Registry) Install(known Agent) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.agents[known.Name]
	if a == nil {
		a = newAgent(Agent{Name: known.Name})
		r.agents[known.Name] = a
	}
	for i := range known.Targets {
		r.lastClaim = max(r.lastClaim, known.Targets[i].InstanceSince, known.Targets[i].AddressSince)
	}
	if a.session == nil {
		a.Version, a.RemoteAddress, a.TrustDomain = known.Version, known.RemoteAddress, known.TrustDomain
		a.CertificateNotAfter, a.CertificateSerial = known.CertificateNotAfter, known.CertificateSerial
		a.SessionStarted, a.AnnouncedBy = known.SessionStarted, known.AnnouncedBy
		if known.LastSeen.After(a.LastSeen) {
			a.LastSeen = known.LastSeen
		}
		r.installTargets(a, known.Targets, now)
		if known.AnnouncedBy != [16]byte{} {
			r.announced = true
		}
	} else if a.takeClaims(known.Targets) {
		r.sharing.Changed(a.Name)
	}
	r.changes.Add(1)
	r.wake()
}

// installTargets makes the targets of an agent those that another relay knows. What is known here of their scrapes stays. The caller holds mu.
func (r *Registry) installTargets(a *listedAgent, known []Target, now time.Time) {
	r.byHost.remove(a.Name, a.targets)
	byName := make(map[string]*Target, len(known))
	order := make([]string, 0, len(known))
	for _, t := range known {
		if t.isOver(now) || byName[t.Name] != nil {
			continue
		}
		next := &Target{Target: t.Target}
		if old := a.targets[t.Name]; old != nil && old.Equal(t.Target) {
			next = old
		}
		next.ListedUntil, next.InstanceSince, next.AddressSince = t.ListedUntil, t.InstanceSince, t.AddressSince
		byName[t.Name] = next
		order = append(order, t.Name)
	}
	a.targets, a.order = byName, order
	r.withhold(a)
	r.byHost.add(a)
}

// takeClaims takes the earlier numbers of hosts that two relays have numbered, and reports whether one was. The caller holds Registry.mu.
func (a *listedAgent) takeClaims(known []Target) (changed bool) {
	for _, t := range known {
		own := a.targets[t.Name]
		if own == nil || !own.Equal(t.Target) || t.InstanceSince == 0 || t.AddressSince == 0 {
			continue
		}
		instance, address := min(own.InstanceSince, t.InstanceSince), min(own.AddressSince, t.AddressSince)
		changed = changed || instance != own.InstanceSince || address != own.AddressSince
		own.InstanceSince, own.AddressSince = instance, address
	}
	return changed
}

// Drop forgets an agent that all relays have forgotten, unless it has a session here.
func (r *Registry) Drop(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.agents[name]
	if a == nil || a.session != nil {
		return
	}
	r.drop(a)
	r.wake()
}

// SetPlaces says which other relays an agent has a session with, the best first. The registry keeps the slice. An agent that is not known yet has none.
func (r *Registry) SetPlaces(name string, relays []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.agents[name]
	if a == nil || slices.Equal(a.elsewhere, relays) {
		return
	}
	a.elsewhere = relays
	was := a.Connected
	a.Connected = a.session != nil || len(relays) > 0
	if was && !a.Connected {
		a.LastSeen = time.Now()
	}
	r.changes.Add(1)
}

// NoteProcess says that a process of an agent is the one whose sessions are current, on all relays: so they find out together that two take the session from
// each other.
func (r *Registry) NoteProcess(name string, process [16]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a := r.agents[name]; a != nil {
		a.attach(process, time.Now())
	}
}

// Settle says that all is known that other relays know: an empty list is the truth.
func (r *Registry) Settle() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.settledAt, r.rebuilding = time.Time{}, false
}

// own returns the agents whose metrics this relay has.
func (r *Registry) own() []Agent {
	if !r.shared {
		return r.Agents()
	}
	leads, now := r.sharing.Leads(), time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	var own []Agent
	for _, a := range r.agents {
		if a.session != nil || leads && !a.Connected {
			v := a.Agent
			v.Conflict = a.inConflict(now)
			own = append(own, v)
		}
	}
	return own
}
