package groupstore

import (
	"pushrelay/internal/change"
	"pushrelay/internal/grouping"
)

// An account is what all groups with the same value of the label [Config].AccountLabel hold together, families in quarantine included. It
// is in the table for as long as there is such a group, and guarded by Store.mu.
type account struct {
	groups, lines int
	held          int // groups that have a mark of the author of the account's name, see claims.go
}

// Account returns how many groups and series the account of that name has. Families that are kept but not exposed count.
func (s *Store) Account(name string) (groups, series int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	a := s.accounts[name]
	if a == nil {
		return 0, 0
	}
	return a.groups, a.lines
}

// accountName returns the name of the account that a group belongs to; empty for none.
func (s *Store) accountName(key grouping.Key) string {
	if s.accountLabel == "" {
		return ""
	}
	name, _ := key.Get(s.accountLabel)
	return name
}

// openAccount counts a new group, before it holds anything.
func (s *Store) openAccount(g *group) {
	name := s.accountName(g.key)
	if name == "" {
		return
	}
	g.account = s.accounts[name]
	if g.account == nil {
		g.account = &account{}
		s.accounts[name] = g.account
	}
	g.account.groups++
}

// closeAccount counts a group no more, which holds nothing any more.
func (s *Store) closeAccount(g *group) {
	if g.account == nil {
		return
	}
	if g.account.groups--; g.account.groups == 0 {
		delete(s.accounts, s.accountName(g.key))
	}
}

// fullAccount says whether a change takes the account of its group beyond its bounds: only one that makes it larger does.
func (s *Store) fullAccount(g *group, more int) *change.Outcome {
	if more <= 0 && g.state != nil || s.accountLabel == "" {
		return nil
	}
	name := s.accountName(g.key)
	if name == "" {
		return nil
	}
	held := account{}
	if a := s.accounts[name]; a != nil {
		held = *a
	}
	if g.state == nil && s.maxAccountGroups > 0 && held.groups >= s.maxAccountGroups {
		return noRoom(s.maxAccountGroups, groupsLimit, name)
	}
	if more > 0 && s.maxAccountSeries > 0 && held.lines+more > s.maxAccountSeries {
		return noRoom(s.maxAccountSeries, seriesLimit, name)
	}
	return nil
}
