package groupstore

import (
	"pushrelay/internal/change"
	"pushrelay/internal/grouping"
	"pushrelay/internal/smallmap"
)

// accounts are what all groups with the same value of the label [Config].AccountLabel hold together, and what claims to be of one. They are
// guarded by Store.mu.
type accounts struct {
	// Static.
	label    string // empty for no accounts
	limitsOf func(account string) AccountLimits

	byName map[string]*account
	claims map[string]smallmap.Map[waiter] // by name of an account; those that are exposed
}

// AccountLimits are what one account may hold; 0 means no limit.
type AccountLimits struct {
	Series, Groups int
	// SeriesBy and GroupsBy say what sets them, for whoever reaches one.
	SeriesBy, GroupsBy string
}

// The flags that set the limits of all accounts.
const (
	SeriesFlag = "--agents.max-series"
	GroupsFlag = "--agents.max-groups"
)

// An account is what the groups of one name hold, families in quarantine included. It is in the table for as long as there is such a group.
type account struct {
	groups, lines int
	held          int // groups that have a mark of the author of the account's name, see claims.go
}

// Account returns how many groups and series the account of that name has. Families that are kept but not exposed count.
func (s *Store) Account(name string) (groups, series int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	a := s.accounts.byName[name]
	if a == nil {
		return 0, 0
	}
	return a.groups, a.lines
}

// clear forgets all groups.
func (as *accounts) clear() {
	as.byName = make(map[string]*account)
	as.claims = make(map[string]smallmap.Map[waiter])
}

// nameOf returns the name of the account that a group belongs to; empty for none.
func (as *accounts) nameOf(key grouping.Key) string {
	if as.label == "" {
		return ""
	}
	name, _ := key.Get(as.label)
	return name
}

// open counts a new group, before it holds anything.
func (as *accounts) open(g *group) {
	name := as.nameOf(g.key)
	if name == "" {
		return
	}
	g.account = as.byName[name]
	if g.account == nil {
		g.account = &account{}
		as.byName[name] = g.account
	}
	g.account.groups++
}

// close counts a group no more, which holds nothing any more.
func (as *accounts) close(g *group) {
	if g.account == nil {
		return
	}
	if g.account.groups--; g.account.groups == 0 {
		delete(as.byName, as.nameOf(g.key))
	}
}

// full says whether so many lines more in a group take its account beyond its bounds: only what makes it larger does.
func (as *accounts) full(g *group, more int) *change.Outcome {
	if more <= 0 && g.state != nil || as.label == "" {
		return nil
	}
	name := as.nameOf(g.key)
	if name == "" {
		return nil
	}
	has := account{}
	if a := as.byName[name]; a != nil {
		has = *a
	}
	limits := as.limitsOf(name)
	if g.state == nil && limits.Groups > 0 && has.groups >= limits.Groups {
		return noRoomFor(name, limits.Groups, groupsLimit.what, limits.GroupsBy)
	}
	if more > 0 && limits.Series > 0 && has.lines+more > limits.Series {
		return noRoomFor(name, limits.Series, seriesLimit.what, limits.SeriesBy)
	}
	return nil
}
