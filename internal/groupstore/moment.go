package groupstore

import (
	"time"

	"pushrelay/internal/lifetime"
)

// A moment is one time at which groups are looked at, by the clock that is read once for all of them (L5). It is used by one goroutine.
type moment struct {
	now      int64
	regime   *regime
	accounts *accounts // for the names of agents, which are static
	presence Presence
	gone     map[string]int64 // since when agents are gone; Never for those that are not
}

// moment returns the present one. The caller holds the lock.
func (s *Store) moment(now time.Time) *moment {
	return &moment{now: now.UnixNano(), regime: s.lives.regime, accounts: &s.accounts, presence: s.lives.presence}
}

// exposed returns the state of a group as it is exposed: nil if it is not, and without what was pushed where that has expired, or its agent is gone, but
// another push is expected (L6, L7).
func (m *moment) exposed(st *state, f *fate) *state {
	switch {
	case f == &m.regime.none:
		return st
	case f.isForgotten(m.now):
		return nil
	case !f.hasExpired(m.now) && !m.isAway(st, f):
		return st
	case f.terms.IsExpecting():
		return st.stub()
	default:
		return nil
	}
}

// isAway says whether the group's agent is gone for longer than its rule allows (L7).
func (m *moment) isAway(st *state, f *fate) bool {
	if f.terms.WhileAgent == 0 || m.presence == nil {
		return false
	}
	agent := m.accounts.nameOf(st.group.key)
	return agent != "" && m.now >= lifetime.Later(m.goneSince(agent), f.terms.WhileAgent)
}

// goneSince asks once for each agent.
func (m *moment) goneSince(agent string) int64 {
	since, known := m.gone[agent]
	if known {
		return since
	}
	since = lifetime.Never
	if present, gone := m.presence.Present(agent); !present {
		since = gone.UnixNano()
	}
	if m.gone == nil {
		m.gone = map[string]int64{}
	}
	m.gone[agent] = since
	return since
}

// stub returns a state without what was pushed.
func (st *state) stub() *state {
	if len(st.parts) == 0 {
		return st
	}
	return &state{group: st.group, version: st.version, pushed: st.pushed, notes: st.notes}
}
