package web

import (
	"pushrelay/internal/groupstore"
)

// A groupState is one by which groups are looked for. A group can be in several.
type groupState struct {
	name      string // in links
	text      string // in the filter
	one, many string // what the first page says of them; empty for nothing
	isWarn    bool
	isIn      func(groupstore.Group) bool
}

// groupStates are those by which groups are looked for, the worst first.
var groupStates = []groupState{
	{"late", "late", "job is late", "jobs are late", false, late},
	{"failed", "failing", "job is failing", "jobs are failing", false, groupstore.Group.HasFailed},
	{"rejected", "last push refused", "", "", false, rejected},
	{"expired", "expired", "job has expired", "jobs have expired", false, groupstore.Group.HasExpired},
	{"quarantined", "in quarantine", "group is in quarantine", "groups are in quarantine", true, groupstore.Group.HasQuarantined},
	{"away", "agent away", "", "", false, func(g groupstore.Group) bool { return g.State() == groupstore.StateAway }},
	{"expecting", "next push expected", "", "", false, func(g groupstore.Group) bool { return !g.Due().IsZero() }},
}

// late says whether the next push is late. A group that has expired is late no more: it is counted once.
func late(g groupstore.Group) bool { return g.IsLate() && !g.HasExpired() }

// rejected says whether the last push to the group was refused.
func rejected(g groupstore.Group) bool { return g.FailureTime().After(g.PushTime()) }

// stateNamed returns the state of that name; nil if there is none.
func stateNamed(name string) *groupState {
	for i := range groupStates {
		if groupStates[i].name == name {
			return &groupStates[i]
		}
	}
	return nil
}

// A badge is a word about a group, or about anything.
type badge struct{ Class, Text string }

// badgesOf returns what is to be said of a group at a glance: at least one.
func badgesOf(g groupstore.Group) (badges []badge) {
	switch {
	case g.HasExpired():
		badges = append(badges, badge{"bad", "expired"})
	case late(g):
		badges = append(badges, badge{"bad", "late"})
	}
	switch {
	case rejected(g):
		badges = append(badges, badge{"bad", "push refused"})
	case g.JobFailure() != "":
		badges = append(badges, badge{"bad", "failed"})
	}
	if g.HasQuarantined() {
		badges = append(badges, badge{"warn", "quarantine"})
	}
	if g.State() == groupstore.StateAway {
		badges = append(badges, badge{"warn", "agent away"})
	}
	if badges == nil {
		badges = append(badges, badge{"good", "ok"})
	}
	return badges
}

// severity orders groups by how much they need somebody.
func severity(g groupstore.Group) int {
	switch g.State() {
	case groupstore.StateExpired:
		return 0
	case groupstore.StateFailed:
		return 1
	case groupstore.StateLate:
		return 2
	case groupstore.StateAway:
		return 3
	case groupstore.StateOK:
		if g.HasQuarantined() {
			return 4
		}
	}
	return 5
}
