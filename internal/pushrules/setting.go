package pushrules

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"pushrelay/internal/yamldoc"
)

// A setting is one key of a mapping and what it is set to. The zero value is one that is not there.
type setting struct {
	key   string
	line  int        // of the key
	value *yaml.Node // no alias
}

// settingsOf returns the settings of a mapping, by key. It does not decode: the library tells of an unknown key without saying which are
// known, and quotes values that may be a secret.
func settingsOf(mapping *yaml.Node, where string, known ...string) (map[string]setting, error) {
	settings := map[string]setting{}
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		key, value := mapping.Content[i], mapping.Content[i+1]
		if key.Tag == "!!merge" {
			return nil, fmt.Errorf("line %d: << is not read in this file: write out what it stands for", key.Line)
		}
		if key.Kind != yaml.ScalarNode || !slices.Contains(known, key.Value) {
			return nil, fmt.Errorf("line %d: unknown key %s in %s, want %s", key.Line, yamldoc.Key(key.Value), where, strings.Join(known, ", "))
		}
		if _, twice := settings[key.Value]; twice {
			return nil, fmt.Errorf("line %d: %s comes twice in %s", key.Line, key.Value, where)
		}
		settings[key.Value] = setting{key: key.Value, line: key.Line, value: resolve(value)}
	}
	return settings, nil
}

// resolve returns what an alias stands for. The alias may be part of it: whoever goes on from there must not follow aliases to any depth.
func resolve(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		return node.Alias
	}
	return node
}

// isEmpty says whether the setting is not there, or there is nothing behind its key.
func (s setting) isEmpty() bool { return s.value == nil || s.value.Tag == "!!null" }

// text returns the only value of the setting.
func (s setting) text() (string, error) {
	if s.isEmpty() || s.value.Kind != yaml.ScalarNode {
		return "", fmt.Errorf("line %d: %s wants just one value behind it", s.line, s.key)
	}
	return s.value.Value, nil
}

// texts returns the only value of the setting, or those of a list.
func (s setting) texts() ([]string, error) {
	if s.value.Kind != yaml.SequenceNode {
		text, err := s.text()
		return []string{text}, err
	}
	texts := make([]string, 0, len(s.value.Content))
	for _, element := range s.value.Content {
		text, err := setting{key: "an element of " + s.key, line: element.Line, value: resolve(element)}.text()
		if err != nil {
			return nil, err
		}
		texts = append(texts, text)
	}
	return texts, nil
}
