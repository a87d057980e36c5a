package policy

import (
	"cmp"
	"fmt"
	"strconv"

	"go.yaml.in/yaml/v3"

	"pushrelay/internal/grouping"
	"pushrelay/internal/selector"
	"pushrelay/internal/target"
	"pushrelay/internal/yamldoc"
)

// A userRule says what users may do: whoever comes to the HTTP port.
type userRule struct {
	place string
	names names
	// Groups, nil for none.
	read, push, delete *selector.Selector
	// scrape are targets by their labels; nil for none.
	scrape *selector.Selector
	// status allows to read what the relay tells of itself, admin to do with it what the flags allow.
	status, admin bool
}

func (r userRule) about() names { return r.names }

// A User is what one user may do. Nil may do everything. What it is asked in the imperative is an attempt, and its refusal is told to whoever
// watches; what it sees is not.
type User struct {
	who   Identity
	rule  *userRule // nil if no rule is about them
	place string    // of the section
	note  func(*Refusal)
}

// User returns what somebody may do.
func (p *Policy) User(who Identity) *User {
	if p == nil || p.users == nil {
		return nil
	}
	return &User{who: who, rule: p.users.find(who), place: p.users.place}
}

// Rule returns where the rule stands that is about the user, or the section if none is; empty if nothing is forbidden.
func (u *User) Rule() string {
	switch {
	case u == nil:
		return ""
	case u.rule == nil:
		return u.place
	default:
		return u.rule.place
	}
}

// nothing is the rule of those whom no rule is about.
var nothing userRule

func (u *User) may() *userRule {
	if u.rule == nil {
		return &nothing
	}
	return u.rule
}

// Push returns why the user may not push to a group, nil if they may.
func (u *User) Push(key grouping.Key) *Refusal {
	if u == nil || matches(u.may().push, key) {
		return nil
	}
	return u.refuse(ActionPush, "push to group "+textOf(key))
}

// Delete returns why the user may not delete a group, nil if they may.
func (u *User) Delete(key grouping.Key) *Refusal {
	if u.MayDelete(key) {
		return nil
	}
	return u.refuse(ActionDelete, "delete group "+textOf(key))
}

// DeleteSome returns why the user may delete no group at all, nil if there are some that they may.
func (u *User) DeleteSome() *Refusal {
	if u == nil || u.may().delete != nil {
		return nil
	}
	return u.refuse(ActionDelete, "delete any group")
}

// MayDelete says whether the user may delete a group.
func (u *User) MayDelete(key grouping.Key) bool { return u == nil || matches(u.may().delete, key) }

// Sees says whether the user may read a group.
func (u *User) Sees(key grouping.Key) bool { return u == nil || matches(u.may().read, key) }

// Reading returns which groups the user may read, nil for all.
func (u *User) Reading() func(key grouping.Key) bool {
	if u == nil {
		return nil
	}
	return u.Sees
}

// Read returns why the user may not read a group, nil if they may.
func (u *User) Read(key grouping.Key) *Refusal {
	if u.Sees(key) {
		return nil
	}
	return u.refuse(ActionRead, "read group "+textOf(key))
}

// ReadSome returns why the user may read no group at all, nil if there are some that they may.
func (u *User) ReadSome() *Refusal {
	if u == nil || u.may().read != nil {
		return nil
	}
	return u.refuse(ActionRead, "read any group")
}

// SeesStatus says whether the user may read what the relay tells of itself: its own metrics, its flags and its build.
func (u *User) SeesStatus() bool { return u == nil || u.may().status }

// Status returns why the user may not read what the relay tells of itself, nil if they may.
func (u *User) Status() *Refusal {
	if u.SeesStatus() {
		return nil
	}
	return u.refuse(ActionRead, "read the relay's own metrics and status")
}

// Metrics returns why the user may read neither groups nor the relay's own metrics, nil if they may read some of it.
func (u *User) Metrics() *Refusal {
	if u == nil || u.may().read != nil || u.may().status {
		return nil
	}
	return u.refuse(ActionRead, "read metrics")
}

// Anything returns why the user may read nothing at all, nil if there is something.
func (u *User) Anything() *Refusal {
	if u == nil || u.may().read != nil || u.may().status || u.may().scrape != nil {
		return nil
	}
	return u.refuse(ActionRead, "read anything")
}

// Admin returns why the user may not do what ends, reloads, empties or examines the relay, nil if they may.
func (u *User) Admin(what string) *Refusal {
	if u.IsAdmin() {
		return nil
	}
	return u.refuse(ActionAdmin, what)
}

// IsAdmin says whether the user may do that.
func (u *User) IsAdmin() bool { return u == nil || u.may().admin }

// Scrape returns why the user may not scrape a target, nil if they may. A target that is not known is nil: then only its agent counts. Asked is
// what they called it; they do not learn whether there is one.
func (u *User) Scrape(agent string, t *target.Target, asked string) *Refusal {
	if u.SeesTarget(agent, t) {
		return nil
	}
	return u.refuse(ActionScrape, "scrape "+asked+", if there is one")
}

// ScrapeSome returns why the user may scrape no target at all, nil if there are some that they may.
func (u *User) ScrapeSome() *Refusal {
	if u == nil || u.may().scrape != nil {
		return nil
	}
	return u.refuse(ActionScrape, "scrape any target")
}

// The label of the agent of a target, as in service discovery.
const agentLabel = "agent"

// SeesTarget says whether the user may scrape a target. Nil stands for the agent by itself, which has no label but its name.
func (u *User) SeesTarget(agent string, t *target.Target) bool {
	if u == nil {
		return true
	}
	scrape := u.may().scrape
	return scrape != nil && scrape.MatchesLabels(func(name string) string { return labelOf(agent, t, name) })
}

// Sight returns SeesTarget, or nil for a user who sees all targets.
func (u *User) Sight() func(agent string, t *target.Target) bool {
	if u == nil {
		return nil
	}
	return u.SeesTarget
}

// labelOf returns a label of a target as service discovery has it, without the meta labels.
func labelOf(agent string, t *target.Target, name string) string {
	switch {
	case name == agentLabel:
		return agent
	case t == nil:
		return ""
	case name == "job":
		return t.Job
	case name == "instance":
		return t.Instance
	}
	for _, l := range t.Labels {
		if l.Name == name {
			return l.Value
		}
	}
	return ""
}

func matches(s *selector.Selector, key grouping.Key) bool { return s != nil && s.Matches(key) }

func (u *User) refuse(action Action, what string) *Refusal {
	r := &Refusal{Action: action, Who: u.who, Rule: u.Rule(), What: what, unnamed: u.rule == nil}
	if u.note != nil {
		u.note(r)
	}
	return r
}

func readUserRule(place string, element *yaml.Node) (rule userRule, err error) {
	settings, err := readRule(element, "a rule for users", "user", "certificate", "anonymous", "read", "scrape", "push", "delete", "status", "admin")
	if err != nil {
		return rule, err
	}
	rule.place = place
	var errs [9]error
	rule.names.users, errs[0] = patternsOf(settings["user"])
	rule.names.certificates, errs[1] = patternsOf(settings["certificate"])
	rule.names.anonymous, errs[2] = flagOf(settings["anonymous"])
	rule.read, errs[3] = selectorOf(settings["read"])
	rule.scrape, errs[4] = selectorOf(settings["scrape"])
	rule.push, errs[5] = selectorOf(settings["push"])
	rule.delete, errs[6] = selectorOf(settings["delete"])
	rule.status, errs[7] = flagOf(settings["status"])
	rule.admin, errs[8] = flagOf(settings["admin"])
	if err := cmp.Or(errs[:]...); err != nil {
		return rule, err
	}
	if len(rule.names.users)+len(rule.names.certificates) == 0 && !rule.names.anonymous {
		return rule, fmt.Errorf("line %d: a rule for users without a name: say whom it is about by user, certificate or anonymous: true", element.Line)
	}
	return rule, nil
}

// flagOf reads true or false; false if the setting is not there.
func flagOf(s yamldoc.Setting) (bool, error) {
	if s.Value == nil {
		return false, nil
	}
	text, err := s.Text()
	if err != nil {
		return false, err
	}
	is, err := strconv.ParseBool(text)
	if err != nil {
		return false, fmt.Errorf("line %d: %s is %.64q, want true or false", s.Line, s.Key, text)
	}
	return is, nil
}
