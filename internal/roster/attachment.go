package roster

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
	agent    *listedAgent
	process  [16]byte // of the agent
	attach   uint64   // Registration.Attach
	remote   string   // where the agent came from
	// refused is Registration.Refused, never nil.
	refused func() (reason string, refused bool)
	scrapes int // in progress; guarded by Registry.mu
	// live says that the session is the current one. It is written under Registry.mu, and read without by those who hold a
	// lock of their own.
	live atomic.Bool
	// epoch is when all relays came to know of the session; 0 before.
	epoch atomic.Int64
}

// current calls f under the registry's lock if the session is the current one.
func (at *Attachment) current(f func(a *listedAgent)) {
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
	at.current(func(a *listedAgent) { done = at.registry.replaceTargets(a, at.process, set) })
	at.registry.note(at.agent.Name, done)
	return nil
}

// Heard says that the agent was heard just now.
func (at *Attachment) Heard() {
	at.current(func(a *listedAgent) { a.LastSeen = time.Now() })
}

// Measured takes the result of a heartbeat.
func (at *Attachment) Measured(roundTrip, clockSkew time.Duration) {
	at.current(func(a *listedAgent) { a.RoundTrip, a.ClockSkew = &roundTrip, &clockSkew })
}

// SetSpoolPending says how many changes wait at the agent.
func (at *Attachment) SetSpoolPending(changes uint64) {
	at.current(func(a *listedAgent) { a.SpoolPending = changes })
}

// Close ends the session. The agent stays known.
func (at *Attachment) Close() {
	at.registry.mu.Lock()
	defer at.registry.mu.Unlock()
	if at.live.Load() {
		at.registry.detach(at.agent)
	}
	at.agent.leave(at)
}

// detach ends the session that an agent has here. The caller holds mu, and there is one.
func (r *Registry) detach(a *listedAgent) {
	at := a.current
	at.live.Store(false)
	a.session, a.current, a.Connected, a.LastSeen = nil, nil, len(a.elsewhere) > 0, time.Now()
	a.RoundTrip, a.ClockSkew = nil, nil
	r.changes.Add(1)
	r.sharing.Detached(at)
}

// conflictWindow is how long it is remembered that a process was attached, and how long a conflict is told (T3).
const conflictWindow = 5 * time.Minute

// process is a process of an agent, and when it began a session last.
type process struct {
	id [16]byte
	at time.Time
}

// attach notes which process begins a session. An id is that of one process for life, so that one which comes back after
// another proves that both live: an agent that was started again never has the id that it had before.
func (a *listedAgent) attach(id [16]byte, now time.Time) {
	last := len(a.processes) - 1
	if i := slices.IndexFunc(a.processes, func(p process) bool { return p.id == id }); i >= 0 && i < last {
		a.conflict = now
	}
	a.processes = slices.DeleteFunc(a.processes, func(p process) bool { return p.id == id || now.Sub(p.at) > conflictWindow })
	a.processes = append(a.processes, process{id: id, at: now})
}

// A StaleError says that a session was begun by an attempt which its process made before the one whose session is there.
type StaleError struct{ Number, Newest uint64 }

// Error says which attempts.
func (e *StaleError) Error() string {
	return fmt.Sprintf("the session belongs to a later attempt of the same process: this one is number %d, that one %d", e.Number, e.Newest)
}

// checkOrder returns a [*StaleError] if the process has a session by a later attempt. The caller holds Registry.mu.
func (a *listedAgent) checkOrder(reg *Registration) error {
	at := a.current
	if at == nil || at.process != reg.ProcessID || reg.Attach == 0 || reg.Attach >= at.attach {
		return nil
	}
	return &StaleError{Number: reg.Attach, Newest: at.attach}
}

// inConflict reports whether two processes take the session from each other.
func (a *listedAgent) inConflict(now time.Time) bool {
	return !a.conflict.IsZero() && now.Sub(a.conflict) <= conflictWindow
}
