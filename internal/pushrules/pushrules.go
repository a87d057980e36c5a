// Package pushrules reads push rules from a configuration file: what its owner says of the lives of groups where their pushes say nothing, and
// which pushes are added up. docs/rules.md, L2 and L11, has the contract.
//
// It promises that a text is read to its end and taken whole, or refused with the line of the first mistake and what to do about it, and
// that every rule which it returns matches by a selector within its bounds and has a setting. It knows no store and no clock, and not
// who applies the rules. Start reading at [Parse], which reads a relay's file, and [AtAgent], which reads a section of an agent's.
package pushrules

import (
	"fmt"

	"go.yaml.in/yaml/v3"

	"pushrelay/internal/lifetime"
	"pushrelay/internal/yamldoc"
)

// The bounds of a file.
const (
	// MaxBytes bounds its text.
	MaxBytes = 1 << 20
	// MaxRules is how many rules it may have.
	MaxRules = 1000
)

// Key is the key of the rules: the only one of a relay's file.
const Key = "push_rules"

// Read returns the text of a file, as far as it may be long and a little more; nil for an empty name, which stands for no rules. Errors name the file.
func Read(file string) ([]byte, error) {
	if file == "" {
		return nil, nil
	}
	text, err := yamldoc.Read(file, MaxBytes)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	return text, nil
}

// Parse reads the text of a file, whose name is for errors. The rules are in the order of the file: the first is what
// [lifetime.Terms.DeclaredBy] calls rule 1. An empty text has none. Errors name the file, and the line where there is one.
func Parse(name string, text []byte) ([]lifetime.Rule, error) {
	rules, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("configuration %s: %w", name, err)
	}
	return rules, nil
}

func parse(text []byte) ([]lifetime.Rule, error) {
	root, err := yamldoc.ParseMapping(text, MaxBytes, Key)
	if root == nil || err != nil {
		return nil, err
	}
	sections, err := yamldoc.Settings(root, "the file", Key)
	if err != nil {
		return nil, err
	}
	return readSection(sections[Key], readRule)
}

// AtAgent reads the rules of an agent's file: what stands there behind [Key], which is in that line. Errors begin with the line, and do not name
// the file. They say which pushes are added up where they enter, and nothing else: the lives of groups are the relay's.
func AtAgent(line int, section *yaml.Node) ([]lifetime.Rule, error) {
	return readSection(yamldoc.Setting{Key: Key, Line: line, Value: yamldoc.Resolve(section)}, readRuleAtAgent)
}

// readSection reads a list of rules, each by read.
func readSection(section yamldoc.Setting, read func(element *yaml.Node) (lifetime.Rule, error)) ([]lifetime.Rule, error) {
	if section.IsEmpty() {
		return nil, nil
	}
	elements, err := section.Elements("each element of which begins with match")
	if err != nil {
		return nil, err
	}
	if len(elements) > MaxRules {
		return nil, fmt.Errorf("line %d: there are %d rules, want at most %d: match may be a list of selectors, and have regular expressions",
			elements[MaxRules].Line, len(elements), MaxRules)
	}
	rules := make([]lifetime.Rule, 0, len(elements))
	for _, element := range elements {
		rule, err := read(element)
		if err != nil {
			return nil, err
		}
		rules = append(rules, rule)
	}
	return rules, nil
}
