package roster

import "fmt"

// A RevokedError says that the certificate of an agent is revoked.
type RevokedError struct{ Reason string }

// Error returns the reason.
func (e *RevokedError) Error() string { return e.Reason }

// A TakenError says that a name is that of an agent of another trust domain.
type TakenError struct{ Name, TrustDomain string }

// Error says whose name it is, and how it becomes free.
func (e *TakenError) Error() string {
	return fmt.Sprintf("the name %s is that of an agent of trust domain %q: give this one another name, or once that agent is away free the name by relay-server agents forget %s",
		e.Name, e.TrustDomain, e.Name)
}

// EndRevoked ends the sessions of all certificates that are revoked by now, and returns how many there were. When it returns none of them is
// current, and none begins any more; what a change in the store's critical section began before is for the caller to wait for.
func (r *Registry) EndRevoked() int {
	ended := map[Session]string{}
	r.mu.Lock()
	for _, a := range r.agents {
		for at, old := range a.retired {
			if reason, refused := at.refused(); refused {
				ended[old.session] = reason
				a.leave(at)
			}
		}
		if a.session == nil {
			continue
		}
		if reason, refused := a.current.refused(); refused {
			ended[a.session] = reason
			r.detach(a)
		}
	}
	r.mu.Unlock()
	for session, reason := range ended {
		session.Revoke(reason)
	}
	return len(ended)
}

// Unlist removes the targets of an agent that is not connected, at once, and returns how many there were. The agent stays known, so that
// nobody else can push in its name.
func (r *Registry) Unlist(name string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.agents[name]
	if a == nil || a.Connected || len(a.targets) == 0 {
		return 0
	}
	count := len(a.targets)
	r.byHost.remove(a.Name, a.targets)
	a.targets, a.order, a.withheld.why = map[string]*Target{}, nil, nil
	r.changes.Add(1)
	r.wake()
	r.sharing.Changed(name)
	return count
}
