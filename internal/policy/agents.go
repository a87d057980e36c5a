package policy

import (
	"cmp"
	"fmt"
	"strconv"

	"go.yaml.in/yaml/v3"

	"pushrelay/internal/grouping"
	"pushrelay/internal/selector"
	"pushrelay/internal/yamldoc"
)

// An agentRule says what agents of some names may do.
type agentRule struct {
	place string
	names names
	push  *selector.Selector // nil for nothing
	serve []pattern          // jobs
	quota Quota
}

func (r agentRule) about() names { return r.names }

// A Quota is how much an agent may have, as far as a rule says so.
type Quota struct{ Groups, Series, Targets, ConcurrentScrapes Limit }

// A Limit is a number that a rule may set. The zero value is one that it does not.
type Limit struct {
	number int
	rule   string // empty if it is not set
}

// Or returns the limit and the rule that sets it, or else the default and an empty text.
func (l Limit) Or(otherwise int) (limit int, rule string) {
	if l.rule == "" {
		return otherwise, ""
	}
	return l.number, l.rule
}

// An Agent is what one agent may do. The zero value may do everything.
type Agent struct {
	name  string
	rule  *agentRule // nil if no rule is about it
	place string     // of the section; empty if there is none
}

// Agent returns what the agent of that name may do.
func (p *Policy) Agent(name string) Agent {
	if p == nil || p.agents == nil {
		return Agent{}
	}
	return Agent{name: name, rule: p.agents.find(Identity{Agent: name}), place: p.agents.place}
}

// IsFree says that nothing is forbidden to the agent.
func (a Agent) IsFree() bool { return a.place == "" }

// Rule returns where the rule stands that is about the agent, or the section if none is; empty if nothing is forbidden.
func (a Agent) Rule() string {
	if a.rule == nil {
		return a.place
	}
	return a.rule.place
}

// Quota returns how much the agent may have.
func (a Agent) Quota() Quota {
	if a.rule == nil {
		return Quota{}
	}
	return a.rule.quota
}

// Push returns why the agent may neither push to a group nor delete it, nil if it may. The key is that under which the group is stored.
func (a Agent) Push(key grouping.Key) *Refusal {
	if a.IsFree() || a.rule != nil && a.rule.push != nil && a.rule.push.Matches(key) {
		return nil
	}
	return a.refusal(ActionPush, "push to group "+textOf(key)+" or delete it")
}

// Serve returns why the agent may serve no targets of a job, nil if it may.
func (a Agent) Serve(job string) *Refusal {
	if a.IsFree() || a.rule != nil && anyMatches(a.rule.serve, job) {
		return nil
	}
	return a.refusal(ActionServe, fmt.Sprintf("serve targets of job %q", job))
}

// Surplus returns why the agent may serve no more targets than it has.
func (a Agent) Surplus() *Refusal {
	limit, rule := a.Quota().Targets.Or(0)
	r := a.refusal(ActionServe, fmt.Sprintf("serve more than %d targets (max_targets)", limit))
	r.Rule = cmp.Or(rule, r.Rule)
	return r
}

func (a Agent) refusal(action Action, what string) *Refusal {
	return &Refusal{Action: action, Who: Identity{Agent: a.name}, Rule: a.Rule(), What: what, unnamed: a.rule == nil}
}

func readAgentRule(place string, element *yaml.Node) (rule agentRule, err error) {
	settings, err := readRule(element, "a rule for agents", "name", "push", "serve", "max_groups", "max_series", "max_targets", "max_concurrent_scrapes")
	if err != nil {
		return rule, err
	}
	rule.place = place
	named, namedErr := patternsOf(settings["name"])
	if namedErr == nil && len(named) == 0 {
		namedErr = fmt.Errorf("line %d: a rule for agents without name: say whom it is about, such as name: site-*", element.Line)
	}
	rule.names.agents = named
	var pushErr, serveErr error
	rule.push, pushErr = selectorOf(settings["push"])
	rule.serve, serveErr = patternsOf(settings["serve"])
	if err := cmp.Or(namedErr, pushErr, serveErr); err != nil {
		return rule, err
	}
	for _, limit := range []struct {
		key   string
		least int
		into  *Limit
	}{
		{"max_groups", 0, &rule.quota.Groups},
		{"max_series", 0, &rule.quota.Series},
		{"max_targets", 0, &rule.quota.Targets},
		{"max_concurrent_scrapes", 1, &rule.quota.ConcurrentScrapes},
	} {
		if *limit.into, err = limitOf(settings[limit.key], place, limit.least); err != nil {
			return rule, err
		}
	}
	return rule, nil
}

// maxLimit is more than anything has.
const maxLimit = 1 << 31

func limitOf(s yamldoc.Setting, place string, least int) (Limit, error) {
	if s.Value == nil {
		return Limit{}, nil
	}
	text, err := s.Text()
	if err != nil {
		return Limit{}, err
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n >= maxLimit {
		hint := ""
		if least == 0 {
			hint = ", 0 for no limit"
		}
		return Limit{}, fmt.Errorf("line %d: %s is %.64q, want a number from %d on%s", s.Line, s.Key, text, least, hint)
	}
	return Limit{number: n, rule: place}, nil
}
