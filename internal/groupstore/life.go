package groupstore

import (
	"iter"
	"time"

	"pushrelay/internal/lifetime"
)

// A LifeState is how a group is at one moment.
type LifeState uint8

// The states. Of those that hold of a group the last one counts.
const (
	// StateOK is that of a group of which nothing else holds.
	StateOK LifeState = iota
	// StateAway says that what was pushed is not exposed, since its agent is gone (L7).
	StateAway
	// StateLate says that the next push was expected before now.
	StateLate
	// StateFailed says that the last push was refused, or was that of a job that failed.
	StateFailed
	// StateExpired says that what was pushed is no longer true, and that a stub is left (L6).
	StateExpired

	lifeStates
)

var stateNames = [lifeStates]string{"ok", "away", "late", "failed", "expired"}

// String returns the state's name in metrics and JSON.
func (s LifeState) String() string { return stateNames[s] }

// stateOf returns how a group is that is not forgotten.
func (m *moment) stateOf(st *state, f *fate) LifeState {
	switch {
	case f.hasExpired(m.now):
		return StateExpired
	case st.hasFailed():
		return StateFailed
	case f.isLate(m.now):
		return StateLate
	case m.isAway(st, f):
		return StateAway
	default:
		return StateOK
	}
}

// StateCounts are how many groups there are in each state. The zero value is none.
type StateCounts [lifeStates]int

// All yields all states with their counts.
func (c *StateCounts) All() iter.Seq2[LifeState, int] {
	return func(yield func(LifeState, int) bool) {
		for state, n := range c {
			if !yield(LifeState(state), n) {
				return
			}
		}
	}
}

// StateCounts counts the groups by their state, as they were at the last [Store.Snapshot]: a scrape takes one anyhow.
func (s *Store) StateCounts() StateCounts {
	if seen := s.lives.seen.Load(); seen != nil {
		return *seen
	}
	return StateCounts{}
}

// State returns how the group is at the moment of its view.
func (g Group) State() LifeState { return g.moment.stateOf(g.st, g.fate()) }

// HasExpired says whether what was pushed is no longer true, and not exposed any more.
func (g Group) HasExpired() bool { return g.fate().hasExpired(g.moment.now) }

// HasFailed says whether the last push was refused, or was that of a job that failed.
func (g Group) HasFailed() bool { return g.st.hasFailed() }

// IsLate says whether the next push was expected before now.
func (g Group) IsLate() bool { return g.fate().isLate(g.moment.now) }

// JobFailure returns why the job failed that pushed last, by its own account; empty if it did not.
func (g Group) JobFailure() string { return g.st.noted().broken }

// Due returns from when on the next push is late, grace included; the zero time if none is expected.
func (g Group) Due() time.Time { return dateOf(g.fate().Late) }

// Expires returns from when on what was pushed is not exposed any more; the zero time for never.
func (g Group) Expires() time.Time { return dateOf(g.fate().Expires) }

// DeclaredBy says who set that, as [lifetime.Terms.DeclaredBy] does; empty if nothing is set.
func (g Group) DeclaredBy() string { return g.fate().terms.DeclaredBy() }

func dateOf(at int64) time.Time {
	if at == lifetime.Never {
		return time.Time{}
	}
	return time.Unix(0, at).UTC()
}
