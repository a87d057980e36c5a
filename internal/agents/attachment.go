package agents

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"pushrelay/internal/target"
)

// Attachment is the registry's side of one session. Its methods do nothing once the session is no longer the agent's
// current one.
type Attachment struct {
	// Number identifies the session; higher than that of any earlier session.
	Number uint64

	registry *Registry
	agent    *agent
	process  [16]byte // of the agent
	// live says that the session is the current one. It is written under Registry.mu, and read without by those who hold a
	// lock of their own.
	live atomic.Bool
}

// current calls f under the registry's lock if the session is the current one.
func (at *Attachment) current(f func(a *agent)) {
	at.registry.mu.Lock()
	defer at.registry.mu.Unlock()
	if at.live.Load() {
		f(at.agent)
	}
}

// Current reports whether the session is the agent's current one. It takes no lock: the store asks it in the moment in which
// a change takes effect (T3).
func (at *Attachment) Current() bool { return at.live.Load() }

// SetTargets replaces the agent's targets; what is left out and may be missing by mistake stays listed for a while (T24). A
// set with something wrong in it is refused whole.
func (at *Attachment) SetTargets(set target.Set) error {
	if err := set.Validate(); err != nil {
		return fmt.Errorf("announcing targets: %w", err)
	}
	var done announcement
	at.current(func(a *agent) { done = at.registry.replaceTargets(a, at.process, set) })
	at.registry.note(at.agent.Name, done)
	return nil
}

// Heard says that the agent was heard just now.
func (at *Attachment) Heard() {
	at.current(func(a *agent) { a.LastSeen = time.Now() })
}

// Measured takes the result of a heartbeat.
func (at *Attachment) Measured(roundTrip, clockSkew time.Duration) {
	at.current(func(a *agent) { a.RoundTrip, a.ClockSkew = &roundTrip, &clockSkew })
}

// SetSpoolPending says how many changes wait at the agent.
func (at *Attachment) SetSpoolPending(changes uint64) {
	at.current(func(a *agent) { a.SpoolPending = changes })
}

// Close ends the session. The agent stays known.
func (at *Attachment) Close() {
	at.current(func(a *agent) {
		at.live.Store(false)
		a.session, a.current, a.Connected, a.LastSeen = nil, nil, false, time.Now()
		a.RoundTrip, a.ClockSkew = nil, nil
	})
}

// conflictWindow and conflictTakeovers say when two processes are in conflict over one identity (T3).
const (
	conflictWindow    = 5 * time.Minute
	conflictTakeovers = 3
)

// takeover is a session that one process took from another.
type takeover struct {
	at       time.Time
	from, to [16]byte
}

// recent returns the takeovers within the window. The slice is reused.
func recent(takeovers []takeover, now time.Time) []takeover {
	return slices.DeleteFunc(takeovers, func(t takeover) bool { return now.Sub(t.at) > conflictWindow })
}

// inConflict reports whether two processes took the session from each other in turn.
func inConflict(takeovers []takeover, now time.Time) bool {
	between := 0
	for _, t := range takeovers {
		last := takeovers[len(takeovers)-1]
		sameTwo := t.from == last.from && t.to == last.to || t.from == last.to && t.to == last.from
		if sameTwo && now.Sub(t.at) <= conflictWindow {
			between++
		}
	}
	return between >= conflictTakeovers
}
