package groupstore

import (
	"iter"
	"slices"
	"strings"

	"pushrelay/internal/exposition"
	"pushrelay/internal/series"
	"pushrelay/internal/smallmap"
)

// A claim is a family of a group without an account, whose series name one all the same: they were pushed with a label of the name
// [Config].AccountLabel. It looks as if it came from whoever has the account, and may stand in the way of what does.
//
// An account is held while one of its groups has a mark of the author of that name: who numbers pushes is known, unlike who
// names a label. From the change on that makes it held, claims on it are hidden (S9); they are looked at again when it is held no more.
// All of that follows from the groups and their marks, so that a replay and a snapshot come to the same.

// Key is what tells claims on one account apart.
func (w waiter) Key() string { return w.group.key.Canonical() + separator + w.family }

// claimsOf yields the accounts that series of the set would claim in the group, each with a metric that does.
func (as *accounts) claimsOf(g *group, k *series.Set) iter.Seq2[int, string] {
	return func(yield func(int, string) bool) {
		label := as.label
		if label == "" {
			return
		}
		last := ""
		for metric, value := range k.Labelled(label) {
			if as.nameOf(g.key) != "" {
				return // the group is an account's own
			}
			if value == last {
				continue
			}
			if last = value; !yield(metric, value) {
				return
			}
		}
	}
}

// claim notes the claims of a part that is exposed from now on.
func (as *accounts) claim(g *group, k *series.Set) {
	for _, name := range as.claimsOf(g, k) {
		w := waiter{g, k.Name()}
		list := as.claims[name]
		if smallmap.Find(&list, w.Key()) == (waiter{}) {
			list.Add(w)
			as.claims[name] = list
		}
	}
}

// unclaim takes back what claim did.
func (as *accounts) unclaim(g *group, k *series.Set) {
	for _, name := range as.claimsOf(g, k) {
		w := waiter{g, k.Name()}
		list := as.claims[name]
		if smallmap.Find(&list, w.Key()) == (waiter{}) {
			continue // named before in the same part
		}
		if list.Remove(w); list.IsEmpty() {
			delete(as.claims, name)
		} else {
			as.claims[name] = list
		}
	}
}

// waitName is what a hiding has for a name whose part waits until an account is held no more. It is the name of no family.
func (as *accounts) waitName(account string) string {
	return separator + as.label + separator + account
}

// falseClaim returns why the family cannot be exposed as part of the group: it claims an account that is held.
func (t *trial) falseClaim(k *series.Set) *hiding {
	if t.s.loading {
		return nil // which accounts are held is known at the end
	}
	for metric, name := range t.s.accounts.claimsOf(t.g, k) {
		if t.s.accounts.isHeld(name) {
			return &hiding{name: t.s.accounts.waitName(name), reason: k.Describe(metric) + "has the label " + t.s.accounts.label + " of " +
				exposition.Shown(name) + ", which only pushes through " + exposition.Shown(name) + " get"}
		}
	}
	return nil
}

func (as *accounts) isHeld(name string) bool {
	a := as.byName[name]
	return a != nil && a.held > 0
}

// holds says whether one of the marks is of the author whose account a group is in.
func holds(account string, marks []mark) bool {
	return account != "" && slices.ContainsFunc(marks, func(m mark) bool { return authorOf(m.source.name) == account })
}

// A holding is whether an account is held by another number of groups than before so that it matters.
type holding uint8

const (
	heldAsBefore holding = iota
	// heldFromNow is an account on which claims are to be hidden.
	heldFromNow
	// heldNoMore is one on which claims are to be looked at again.
	heldNoMore
)

// hold counts whether the next state of a group holds its account.
func (s *Store) hold(g *group, next *state) (account string, as holding) {
	if g.account == nil {
		return "", heldAsBefore
	}
	name := s.accounts.nameOf(g.key)
	before := g.state != nil && holds(name, g.state.noted().marks)
	after := next != nil && holds(name, next.noted().marks)
	switch {
	case before == after:
	case after:
		if g.account.held++; g.account.held == 1 {
			return name, heldFromNow
		}
	default:
		if g.account.held--; g.account.held == 0 {
			return name, heldNoMore
		}
	}
	return name, heldAsBefore
}

// oust hides the claims on an account, in an order that does not depend on how they came.
func (s *Store) oust(account string) (departed []departure) {
	list := s.accounts.claims[account]
	all := slices.Collect(list.All)
	slices.SortFunc(all, func(a, b waiter) int { return strings.Compare(a.Key(), b.Key()) })
	for _, w := range all {
		p := w.group.state.find(w.family)
		departed = append(departed, departure{by: w.group, name: w.family, typ: p.set.Type()})
		t := trial{s: s, g: w.group}
		s.setHiding(w.group, p, t.falseClaim(p.set))
	}
	return departed
}

// free looks again at the claims on an account that is held no more.
func (s *Store) free(account string) {
	for _, w := range slices.Clone(s.waiting.byName[s.accounts.waitName(account)]) {
		if p := w.group.state.find(w.family); p != nil && p.hidden != nil {
			s.rejudge(w.group, p)
		}
	}
}

// ousts says whether a part of another group goes into hiding with the change that is judged.
func (t *trial) ousts(owner *group, family string) bool {
	if t.account == "" {
		return false
	}
	list := t.s.accounts.claims[t.account]
	return smallmap.Find(&list, waiter{owner, family}.Key()) != (waiter{})
}

// ousted returns how many parts of the family go into hiding with the change that is judged.
func (t *trial) ousted(family string) int {
	if t.account == "" {
		return 0
	}
	if t.going == nil {
		t.going = map[string]int{}
		list := t.s.accounts.claims[t.account]
		for w := range list.All {
			t.going[w.family]++
		}
	}
	return t.going[family]
}
