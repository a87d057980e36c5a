// Package pushrules reads push rules from a configuration file: what its owner says of the lives of groups where their pushes say nothing, and
// which pushes are added up. docs/rules.md, L2 and L11, has the contract.
//
// It promises that a text is read to its end and taken whole, or refused with the line of the first mistake and what to do about it, and
// that every rule which it returns matches by a selector within its bounds and has a setting. It knows no store and no clock, and not
// who applies the rules. Start reading at [Parse], which reads a relay's file, and [AtAgent], which reads a section of an agent's.
package pushrules

import (
	"fmt"
	"io"
	"os"

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

// Load reads a file. An empty name stands for no rules. Errors name the file, and the line where there is one.
func Load(file string) ([]lifetime.Rule, error) {
	if file == "" {
		return nil, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	defer f.Close() //nolint:errcheck // It was only read.
	text, err := io.ReadAll(io.LimitReader(f, MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	return Parse(file, text)
}

// Parse reads the text of a file, whose name is for errors. The rules are in the order of the file: the first is what
// [lifetime.Terms.DeclaredBy] calls rule 1. An empty text has none.
func Parse(name string, text []byte) ([]lifetime.Rule, error) {
	rules, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("configuration %s: %w", name, err)
	}
	return rules, nil
}

func parse(text []byte) ([]lifetime.Rule, error) {
	if len(text) > MaxBytes {
		return nil, fmt.Errorf("it has more than the %d bytes that are allowed", MaxBytes)
	}
	root, err := yamldoc.Parse(text)
	if root == nil || err != nil {
		return nil, err
	}
	if root.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("line %d: want a mapping with %s", root.Line, Key)
	}
	sections, err := settingsOf(root, "the file", Key)
	if err != nil {
		return nil, err
	}
	return readSection(sections[Key], readRule)
}

// AtAgent reads the rules of an agent's file: what stands there behind [Key], which is in that line. Errors begin with the line, and do not name
// the file. They say which pushes are added up where they enter, and nothing else: the lives of groups are the relay's.
func AtAgent(line int, section *yaml.Node) ([]lifetime.Rule, error) {
	return readSection(setting{key: Key, line: line, value: resolve(section)}, readRuleAtAgent)
}

// readSection reads a list of rules, each by read.
func readSection(section setting, read func(element *yaml.Node) (lifetime.Rule, error)) ([]lifetime.Rule, error) {
	if section.isEmpty() {
		return nil, nil
	}
	if section.value.Kind != yaml.SequenceNode {
		return nil, fmt.Errorf("line %d: %s is a list, each element of which begins with match", section.line, Key)
	}
	elements := section.value.Content
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
