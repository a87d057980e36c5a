package pushrules

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"

	"pushrelay/internal/addup"
	"pushrelay/internal/lifetime"
	"pushrelay/internal/selector"
)

// The words of a setting that are neither duration nor schedule.
const (
	noneWord = "none"
	zeroWord = "0"
)

// ofRelays are the settings of a rule that only relays apply.
var ofRelays = []string{"every", "schedule", "grace", "ttl", "while_agent"}

// readRuleAtAgent reads a rule of an agent's file.
func readRuleAtAgent(element *yaml.Node) (lifetime.Rule, error) {
	if mapping := resolve(element); mapping.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(mapping.Content); i += 2 {
			if key := mapping.Content[i]; slices.Contains(ofRelays, key.Value) {
				return lifetime.Rule{}, fmt.Errorf("line %d: %s belongs into the push rules of the relay's --config.file: at an agent a rule has match, aggregate and put", key.Line, key.Value)
			}
		}
	}
	return readRule(element)
}

func readRule(element *yaml.Node) (lifetime.Rule, error) {
	mapping := resolve(element)
	if mapping.Kind != yaml.MappingNode {
		return lifetime.Rule{}, fmt.Errorf("line %d: a push rule is a mapping that begins with match", element.Line)
	}
	settings, err := settingsOf(mapping, "a push rule", "match", "every", "schedule", "grace", "ttl", "while_agent", "aggregate", "put")
	if err != nil {
		return lifetime.Rule{}, err
	}
	match := settings["match"]
	if match.isEmpty() {
		return lifetime.Rule{}, fmt.Errorf(`line %d: a push rule without match: say which groups it is about, such as match: '{job="backup"}'`, element.Line)
	}
	groups, matchErr := match.selector()
	declaration, declarationErr := readDeclaration(settings)
	whileAgent, whileAgentErr := settings["while_agent"].period()
	adding, addingErr := readAdding(settings["aggregate"], settings["put"])
	if err := cmp.Or(matchErr, declarationErr, whileAgentErr, addingErr); err != nil {
		return lifetime.Rule{}, err
	}
	if declaration.IsZero() && whileAgent == lifetime.Unsaid && adding == nil {
		return lifetime.Rule{}, fmt.Errorf("line %d: a push rule that says nothing: give it every or schedule, grace, ttl, while_agent or aggregate, or leave it out", element.Line)
	}
	return lifetime.Rule{Match: groups, Declaration: declaration, WhileAgent: whileAgent, Adding: adding}, nil
}

// readAdding reads how pushes are added up; nil if the rule does not say.
func readAdding(aggregate, put setting) (*addup.Rule, error) {
	if aggregate.value == nil {
		if put.value != nil {
			return nil, fmt.Errorf("line %d: put without aggregate: it says whether a PUT is added up as well as a POST", put.line)
		}
		return nil, nil
	}
	text, err := aggregate.text()
	if err != nil {
		return nil, err
	}
	rule := &addup.Rule{None: text == noneWord}
	if !rule.None {
		if rule.Gauges, err = addup.ParseGauges(text); err != nil {
			return nil, fmt.Errorf("line %d: aggregate: %w, or none", aggregate.line, err)
		}
	}
	if put.value == nil {
		return rule, nil
	}
	if text, err = put.text(); err != nil {
		return nil, err
	}
	if rule.Put, err = strconv.ParseBool(text); err != nil || rule.None {
		return nil, fmt.Errorf("line %d: put is %.64q, want true or false, beside an aggregate that is not none", put.line, text)
	}
	return rule, nil
}

func readDeclaration(settings map[string]setting) (d lifetime.Declaration, err error) {
	every, schedule := settings["every"], settings["schedule"]
	if every.value != nil && schedule.value != nil {
		return d, fmt.Errorf("line %d: every and schedule are both set: the next push is due either some time after the last one, or at fixed times", max(every.line, schedule.line))
	}
	var expectedErr, graceErr, ttlErr error
	if schedule.value != nil {
		d.Every, d.Schedule, expectedErr = schedule.schedule()
	} else {
		d.Every, expectedErr = every.period()
	}
	d.Grace, graceErr = settings["grace"].period()
	d.TTL, ttlErr = settings["ttl"].period()
	return d, cmp.Or(expectedErr, graceErr, ttlErr)
}

// selector reads one selector, or a list of them.
func (s setting) selector() (*selector.Selector, error) {
	texts, err := s.texts()
	if err != nil {
		return nil, err
	}
	groups, err := selector.Parse(texts)
	if err != nil {
		return nil, fmt.Errorf("line %d: match: %w", s.line, err)
	}
	return groups, nil
}

// period reads a duration, or none; a setting that is not there says nothing.
func (s setting) period() (lifetime.Period, error) {
	if s.value == nil {
		return lifetime.Unsaid, nil
	}
	text, err := s.text()
	if err != nil {
		return lifetime.Unsaid, err
	}
	if text == noneWord {
		return lifetime.None, nil
	}
	d, err := model.ParseDuration(text)
	switch {
	case err != nil || time.Duration(d) > lifetime.MaxPeriod:
		return lifetime.Unsaid, fmt.Errorf("line %d: %s is %.64q, want a duration such as 30m or 1d12h of at most 100y, or none", s.line, s.key, text)
	case d == 0:
		return lifetime.Unsaid, s.refuseZero()
	default:
		return lifetime.Period(d), nil
	}
}

// schedule reads a schedule, or none, which is a word of every.
func (s setting) schedule() (every lifetime.Period, schedule string, err error) {
	text, err := s.text()
	if err != nil {
		return lifetime.Unsaid, "", err
	}
	switch text {
	case noneWord:
		return lifetime.None, "", nil
	case zeroWord:
		return lifetime.Unsaid, "", s.refuseZero()
	}
	if _, err := lifetime.ParseSchedule(text); err != nil {
		return lifetime.Unsaid, "", fmt.Errorf("line %d: %w", s.line, err)
	}
	return lifetime.Unsaid, text, nil
}

// refuseZero is for who knows the word from a push, which takes back with it what an earlier push declared.
func (s setting) refuseZero() error {
	return fmt.Errorf("line %d: %s is 0, and a rule has nothing to take back: leave it out, or write none so that later rules do not set it either", s.line, s.key)
}
