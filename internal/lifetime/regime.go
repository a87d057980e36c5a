package lifetime

import (
	"math"
	"slices"
	"strconv"
	"time"

	"pushrelay/internal/addup"
	"pushrelay/internal/grouping"
)

// Matcher says which groups a rule is about.
type Matcher interface {
	Matches(key grouping.Key) bool
	// String returns the text by which two matchers can be told apart.
	String() string
}

// Rule is what the owner of a relay says of the groups that it matches, where their pushes say nothing.
type Rule struct {
	Match Matcher
	Declaration
	// WhileAgent is how long what came through an agent is exposed after its agent has gone (L7); [Unsaid], [None], or a duration.
	WhileAgent Period
	// Adding is how pushes to the groups are added up where they enter (L11); nil if the rule does not speak of it.
	Adding *addup.Rule
}

// SameRules says whether two lists of rules mean the same.
func SameRules(a, b []Rule) bool {
	return slices.EqualFunc(a, b, func(a, b Rule) bool {
		sameAdding := (a.Adding == nil) == (b.Adding == nil) && (a.Adding == nil || *a.Adding == *b.Adding)
		return sameAdding && a.Declaration == b.Declaration && a.WhileAgent == b.WhileAgent && a.Match.String() == b.Match.String()
	})
}

// AddingOf returns how pushes to the group with that key are added up: by the first of the rules that matches and speaks of it; nil if they are not.
func AddingOf(rules []Rule, key grouping.Key) *addup.Rule {
	for i := range rules {
		if r := rules[i].Adding; r != nil && rules[i].Match.Matches(key) {
			if r.None {
				return nil
			}
			return r
		}
	}
	return nil
}

// A Regime is all that holds of the lives of groups at one time. It is immutable: where a rule changes, another regime begins. The zero
// value has no rules and forgets nothing.
type Regime struct {
	// Rules are asked in their order: for each setting the first one that matches and has it wins (L2).
	Rules []Rule
	// ForgetAfter is how long what is left of an expired group is kept; 0 for ever.
	ForgetAfter time.Duration
}

// Terms are what holds of one group. The zero value is a group that lives for ever and of which nothing is expected.
type Terms struct {
	TTL, Every, Grace, WhileAgent time.Duration // 0 for none
	Schedule                      *Schedule     // nil for none

	byPush bool
	byRule int // number of the first rule that is part of it, from 1; 0 for none
}

// TermsOf returns what holds of the group with that key, and that declaration.
func (r *Regime) TermsOf(key grouping.Key, declared Declaration) Terms {
	said, whileAgent := declared, Unsaid
	var t Terms
	t.byPush = !declared.IsZero()
	for i := range r.Rules {
		rule := &r.Rules[i]
		if !rule.adds(said, whileAgent) || !rule.Match.Matches(key) {
			continue
		}
		if t.byRule == 0 {
			t.byRule = i + 1
		}
		said = rule.And(said)
		if whileAgent == Unsaid {
			whileAgent = rule.WhileAgent
		}
	}
	t.TTL, t.Every, t.Grace, t.WhileAgent = said.TTL.duration(), said.Every.duration(), said.Grace.duration(), whileAgent.duration()
	if said.Schedule != "" {
		t.Schedule, _ = ParseSchedule(said.Schedule) // it was read when it was declared
	}
	return t
}

// adds says whether the rule has a setting that was not said yet.
func (r *Rule) adds(said Declaration, whileAgent Period) bool {
	return said.TTL == Unsaid && r.TTL != Unsaid || said.Grace == Unsaid && r.Grace != Unsaid ||
		!said.isExpecting() && r.isExpecting() || whileAgent == Unsaid && r.WhileAgent != Unsaid
}

func (p Period) duration() time.Duration { return time.Duration(max(p, 0)) }

// IsExpecting says whether another push is expected.
func (t *Terms) IsExpecting() bool { return t.Every > 0 || t.Schedule != nil }

// IsZero says whether nothing holds.
func (t *Terms) IsZero() bool { return !t.IsExpecting() && t.TTL == 0 && t.WhileAgent == 0 }

// DeclaredBy says who set the terms, for people: "push", "rule 2", both with a comma between; empty for nobody.
func (t *Terms) DeclaredBy() string {
	switch {
	case t.byRule == 0 && !t.byPush:
		return ""
	case t.byRule == 0:
		return "push"
	case !t.byPush:
		return "rule " + strconv.Itoa(t.byRule)
	default:
		return "push, rule " + strconv.Itoa(t.byRule)
	}
}

// Dates are when things happen to a group, in nanoseconds since the epoch; [Never] for what does not.
type Dates struct {
	// Late is from when on the next push is late: due plus grace.
	Late int64
	// Expires is from when on what was pushed is not true any more.
	Expires int64
}

// Never is later than every date.
const Never = math.MaxInt64

// early is how long before a time of its schedule a push may come and be the one of that time: clocks differ a little.
const early = 30 * time.Second

// DatesOf returns the dates of a group whose last push was then, in nanoseconds since the epoch.
func (t *Terms) DatesOf(pushed int64) Dates {
	d := Dates{Late: Never, Expires: Never}
	if t.TTL > 0 {
		d.Expires = Later(pushed, t.TTL)
	}
	switch {
	case t.Every > 0:
		d.Late = Later(Later(pushed, t.Every), t.Grace)
	case t.Schedule != nil:
		if due := t.Schedule.After(time.Unix(0, pushed).Add(early)); !due.IsZero() {
			d.Late = Later(due.UnixNano(), t.Grace)
		}
	}
	return d
}

// Later returns a date some time later; Never instead of one that is too late to be counted.
func Later(at int64, by time.Duration) int64 {
	if at > Never-int64(by) {
		return Never
	}
	return at + int64(by)
}
