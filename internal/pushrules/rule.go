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
	"pushrelay/internal/yamldoc"
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
	if mapping := yamldoc.Resolve(element); mapping.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(mapping.Content); i += 2 {
			if key := mapping.Content[i]; slices.Contains(ofRelays, key.Value) {
				return lifetime.Rule{}, fmt.Errorf("line %d: %s belongs into the push rules of the relay's --config.file: at an agent a rule has match, aggregate and put", key.Line, key.Value)
			}
		}
	}
	return readRule(element)
}

func readRule(element *yaml.Node) (lifetime.Rule, error) {
	mapping := yamldoc.Resolve(element)
	if mapping.Kind != yaml.MappingNode {
		return lifetime.Rule{}, fmt.Errorf("line %d: a push rule is a mapping that begins with match", element.Line)
	}
	settings, err := yamldoc.Settings(mapping, "a push rule", "match", "every", "schedule", "grace", "ttl", "while_agent", "aggregate", "put")
	if err != nil {
		return lifetime.Rule{}, err
	}
	match := settings["match"]
	if match.IsEmpty() {
		return lifetime.Rule{}, fmt.Errorf(`line %d: a push rule without match: say which groups it is about, such as match: '{job="backup"}'`, element.Line)
	}
	groups, matchErr := selectorOf(match)
	declaration, declarationErr := readDeclaration(settings)
	whileAgent, whileAgentErr := periodOf(settings["while_agent"])
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
func readAdding(aggregate, put yamldoc.Setting) (*addup.Rule, error) {
	if aggregate.Value == nil {
		if put.Value != nil {
			return nil, fmt.Errorf("line %d: put without aggregate: it says whether a PUT is added up as well as a POST", put.Line)
		}
		return nil, nil
	}
	text, err := aggregate.Text()
	if err != nil {
		return nil, err
	}
	rule := &addup.Rule{None: text == noneWord}
	if !rule.None {
		if rule.Gauges, err = addup.ParseGauges(text); err != nil {
			return nil, fmt.Errorf("line %d: aggregate: %w, or none", aggregate.Line, err)
		}
	}
	if put.Value == nil {
		return rule, nil
	}
	if text, err = put.Text(); err != nil {
		return nil, err
	}
	if rule.Put, err = strconv.ParseBool(text); err != nil || rule.None {
		return nil, fmt.Errorf("line %d: put is %.64q, want true or false, beside an aggregate that is not none", put.Line, text)
	}
	return rule, nil
}

func readDeclaration(settings map[string]yamldoc.Setting) (d lifetime.Declaration, err error) {
	every, schedule := settings["every"], settings["schedule"]
	if every.Value != nil && schedule.Value != nil {
		return d, fmt.Errorf("line %d: every and schedule are both set: the next push is due either some time after the last one, or at fixed times", max(every.Line, schedule.Line))
	}
	var expectedErr, graceErr, ttlErr error
	if schedule.Value != nil {
		d.Every, d.Schedule, expectedErr = scheduleOf(schedule)
	} else {
		d.Every, expectedErr = periodOf(every)
	}
	d.Grace, graceErr = periodOf(settings["grace"])
	d.TTL, ttlErr = periodOf(settings["ttl"])
	return d, cmp.Or(expectedErr, graceErr, ttlErr)
}

// selectorOf reads one selector, or a list of them.
func selectorOf(s yamldoc.Setting) (*selector.Selector, error) {
	texts, err := s.Texts()
	if err != nil {
		return nil, err
	}
	groups, err := selector.Parse(texts)
	if err != nil {
		return nil, fmt.Errorf("line %d: match: %w", s.Line, err)
	}
	return groups, nil
}

// periodOf reads a duration, or none; a setting that is not there says nothing.
func periodOf(s yamldoc.Setting) (lifetime.Period, error) {
	if s.Value == nil {
		return lifetime.Unsaid, nil
	}
	text, err := s.Text()
	if err != nil {
		return lifetime.Unsaid, err
	}
	if text == noneWord {
		return lifetime.None, nil
	}
	d, err := model.ParseDuration(text)
	switch {
	case err != nil || time.Duration(d) > lifetime.MaxPeriod:
		return lifetime.Unsaid, fmt.Errorf("line %d: %s is %.64q, want a duration such as 30m or 1d12h of at most 100y, or none", s.Line, s.Key, text)
	case d == 0:
		return lifetime.Unsaid, refuseZero(s)
	default:
		return lifetime.Period(d), nil
	}
}

// scheduleOf reads a schedule, or none, which is a word of every.
func scheduleOf(s yamldoc.Setting) (every lifetime.Period, schedule string, err error) {
	text, err := s.Text()
	if err != nil {
		return lifetime.Unsaid, "", err
	}
	switch text {
	case noneWord:
		return lifetime.None, "", nil
	case zeroWord:
		return lifetime.Unsaid, "", refuseZero(s)
	}
	if _, err := lifetime.ParseSchedule(text); err != nil {
		return lifetime.Unsaid, "", fmt.Errorf("line %d: %w", s.Line, err)
	}
	return lifetime.Unsaid, text, nil
}

// refuseZero is for who knows the word from a push, which takes back with it what an earlier push declared.
func refuseZero(s yamldoc.Setting) error {
	return fmt.Errorf("line %d: %s is 0, and a rule has nothing to take back: leave it out, or write none so that later rules do not set it either", s.Line, s.Key)
}
