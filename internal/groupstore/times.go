package groupstore

import (
	"pushrelay/internal/lifetime"
	"pushrelay/internal/series"
)

// The help texts of the families that groups have of the store.
const (
	pushTimeHelp    = "Last Unix time when changing this group in the Pushgateway succeeded."
	failureTimeHelp = "Last Unix time when changing this group in the Pushgateway failed."
	upHelp          = "Whether the last push of this group was accepted, is not late, and was not of a job that failed (1), or not (0)."
	dueHelp         = "Unix time from which on the next push of this group is late."
	expiryHelp      = "Unix time from which on what was pushed to this group is no longer exposed."
)

// An ownFamily is one that groups have of the store: one series each, with the labels of the group.
type ownFamily struct {
	name, help string
	// isOfAll says that every group has it; the others, only those of whose life something is declared.
	isOfAll bool
	// of returns the series and its value, and whether the group has it.
	of func(st *state, f *fate, now int64) (k *series.Set, value float64, ok bool)
}

// ownFamilies are all of them, in the order of their names.
var ownFamilies = [...]ownFamily{
	{series.DueFamily, dueHelp, false, dueOf},
	{series.ExpiryFamily, expiryHelp, false, expiryOf},
	{series.FailureTimeFamily, failureTimeHelp, true, failureTimeOf},
	{series.PushTimeFamily, pushTimeHelp, true, pushTimeOf},
	{series.UpFamily, upHelp, false, upOf},
}

func pushTimeOf(st *state, _ *fate, _ int64) (*series.Set, float64, bool) {
	return st.group.layout.pushed, seconds(st.pushed), true
}

func failureTimeOf(st *state, _ *fate, _ int64) (*series.Set, float64, bool) {
	return st.group.layout.failed, seconds(st.failed()), true
}

func upOf(st *state, f *fate, now int64) (*series.Set, float64, bool) {
	up := 0.0
	if f.isUp(st, now) {
		up = 1
	}
	return st.group.layout.up, up, f.terms.IsExpecting()
}

func dueOf(st *state, f *fate, _ int64) (*series.Set, float64, bool) {
	return st.group.layout.late, seconds(f.Late), f.Late != lifetime.Never
}

func expiryOf(st *state, f *fate, _ int64) (*series.Set, float64, bool) {
	return st.group.layout.expiry, seconds(f.Expires), f.Expires != lifetime.Never
}

// seconds returns a time in nanoseconds since the epoch as the value of a series.
func seconds(nanoseconds int64) float64 { return float64(nanoseconds) / 1e9 }
