package roster

import (
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// ErrConnected means that an agent cannot be forgotten while it is connected.
var ErrConnected = errors.New("agent is connected")

// ErrUnknown means that no agent of that name is known.
var ErrUnknown = errors.New("agent is not known")

// Forget removes a departed agent and its targets; its groups stay in the store. Where other relays know the same agents all of them forget it.
func (r *Registry) Forget(name string) error {
	if err := r.mayForget(name); err != nil {
		return fmt.Errorf("forgetting agent %q: %w", name, err)
	}
	if err := r.sharing.Forget(name); err != nil {
		return fmt.Errorf("forgetting agent %q: %w", name, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	a, known := r.agents[name]
	if !known {
		return nil // another relay has said so meanwhile
	}
	if a.Connected {
		return fmt.Errorf("forgetting agent %q: %w", name, ErrConnected)
	}
	r.drop(a)
	r.wake()
	return nil
}

func (r *Registry) mayForget(name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	a, known := r.agents[name]
	switch {
	case !known:
		return ErrUnknown
	case a.Connected:
		return ErrConnected
	default:
		return nil
	}
}

// drop forgets an agent. The caller holds mu.
func (r *Registry) drop(a *listedAgent) {
	delete(r.agents, a.Name)
	r.changes.Add(1)
	r.byHost.remove(a.Name, a.targets)
}

// forgetDeparted forgets the agents that are long gone. Where several relays know them one does, for all.
func (r *Registry) forgetDeparted(now time.Time) {
	if !r.sharing.Leads() {
		return
	}
	for _, a := range r.departed(now) {
		err := r.Forget(a.Name)
		switch {
		case errors.Is(err, ErrConnected), errors.Is(err, ErrUnknown): // meanwhile
		case err != nil:
			r.cfg.Logger.Warn("an agent that is long gone cannot be forgotten; trying again in a minute", slog.Any("err", err))
			return
		default:
			r.cfg.Logger.Info("agent forgotten", slog.String("agent", a.Name), slog.Time("last_seen", a.LastSeen))
		}
	}
}

// departed returns the agents that are gone for long enough, without their targets.
func (r *Registry) departed(now time.Time) (gone []Agent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.agents {
		if !a.Connected && now.Sub(a.LastSeen) > r.cfg.ForgetAfter {
			gone = append(gone, a.Agent)
		}
	}
	return gone
}
