package groupstore

import (
	"pushrelay/internal/lifetime"
)

// A regime is what holds of the lives of groups at one time. It is immutable.
type regime struct {
	lifetime.Regime

	none fate // of all groups of whose life nothing is said
}

func newRegime(r lifetime.Regime) *regime {
	next := &regime{Regime: r}
	next.none = fate{regime: next, Dates: lifetime.Dates{Late: lifetime.Never, Expires: lifetime.Never}, forgotten: lifetime.Never}
	return next
}

// A fate is what becomes of a group, under one regime, if nothing is pushed to it any more. It is immutable.
type fate struct {
	regime   *regime
	declared *lifetime.Declaration // by the group's pushes; nil for nothing
	since    int64                 // that its dates count from
	terms    lifetime.Terms
	lifetime.Dates
	// forgotten is from when on nothing is left of the group, where something is once it has expired.
	forgotten int64
}

// fateOf returns the fate of the group with that state. It is worked out once, and kept in the group: the regime, what was declared and the time of
// the push are all that it follows from. Any goroutine may ask.
func (r *regime) fateOf(st *state) *fate {
	var declared *lifetime.Declaration
	if st.notes != nil {
		declared = st.notes.life
	}
	if declared == nil && len(r.Rules) == 0 {
		return &r.none
	}
	known, since := st.group.fate.Load(), st.since()
	same := known != nil && known.regime == r && known.declared == declared
	if same && (known.since == since || known == &r.none) {
		return known
	}
	next := &fate{regime: r, declared: declared, since: since}
	if same {
		next.terms = known.terms
	} else {
		next.terms = r.TermsOf(st.group.key, st.declared())
	}
	if declared == nil && next.terms.IsZero() {
		next = &r.none
	} else {
		next.date()
	}
	st.group.fate.Store(next)
	return next
}

// date works out the dates. A group that was never pushed to, nor refused, has none.
func (f *fate) date() {
	f.Dates = lifetime.Dates{Late: lifetime.Never, Expires: lifetime.Never}
	if f.since != 0 {
		f.Dates = f.terms.DatesOf(f.since)
	}
	f.forgotten = f.Expires
	switch {
	case f.Expires == lifetime.Never || !f.terms.IsExpecting():
	case f.regime.ForgetAfter == 0:
		f.forgotten = lifetime.Never
	default:
		f.forgotten = lifetime.Later(f.Expires, f.regime.ForgetAfter)
	}
}

// since returns when the dates of the group count from: its last push, or else the failure of the only one that there was; 0 for never.
func (st *state) since() int64 {
	if st.pushed != 0 {
		return st.pushed
	}
	return st.failed()
}

// end returns when something of the state is to be removed: what was pushed, or all of a stub.
func (f *fate) end(st *state) int64 {
	if len(st.parts) == 0 {
		return f.forgotten
	}
	return f.Expires
}

// hasExpired says whether what was pushed is no longer true, and isForgotten whether nothing is left of the group either.
func (f *fate) hasExpired(now int64) bool  { return now >= f.Expires }
func (f *fate) isForgotten(now int64) bool { return now >= f.forgotten }

// isLate says whether a push is expected, and has not come.
func (f *fate) isLate(now int64) bool { return now >= f.Late }

// hasFailed says whether the last push of the group was refused, or was that of a job that failed.
func (st *state) hasFailed() bool {
	return st.notes != nil && (st.notes.broken != "" || st.notes.failed > st.pushed)
}

// isUp is the value of push_up (L4, L6).
func (f *fate) isUp(st *state, now int64) bool {
	return !f.isLate(now) && !f.hasExpired(now) && !st.hasFailed()
}
