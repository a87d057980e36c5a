package yamldoc

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Read returns the text of a file, as far as it is needed to see that it has more than so many bytes.
func Read(file string, maxBytes int) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // It was only read.
	return io.ReadAll(io.LimitReader(f, int64(maxBytes)+1))
}

// Keys returns the keys of a text that is one mapping; none of any other, of which the file's own reader tells.
func Keys(text []byte) (keys []string) {
	root, err := Parse(text)
	if root == nil || err != nil || root.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		keys = append(keys, strings.TrimSpace(root.Content[i].Value))
	}
	return keys
}

// ParseMapping returns the root of a text that is one mapping and has at most so many bytes; nil if there is nothing in it.
func ParseMapping(text []byte, maxBytes int, known ...string) (*yaml.Node, error) {
	if len(text) > maxBytes {
		return nil, fmt.Errorf("it has more than the %d bytes that are allowed", maxBytes)
	}
	root, err := Parse(text)
	if root == nil || err != nil {
		return nil, err
	}
	if root.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("line %d: want a mapping with %s", root.Line, strings.Join(known, ", "))
	}
	return root, nil
}

// A Setting is one key of a mapping and what it is set to. The zero value is one that is not there.
type Setting struct {
	Key   string
	Line  int        // of the key
	Value *yaml.Node // no alias
}

// Settings returns the settings of a mapping, by key. It does not decode: the library tells of an unknown key without saying which are
// known, and quotes values that may be a secret. The mapping is called by where it stands in errors.
func Settings(mapping *yaml.Node, where string, known ...string) (map[string]Setting, error) {
	settings := map[string]Setting{}
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		key, value := mapping.Content[i], mapping.Content[i+1]
		if key.Tag == "!!merge" {
			return nil, fmt.Errorf("line %d: << is not read in this file: write out what it stands for", key.Line)
		}
		if key.Kind != yaml.ScalarNode || !slices.Contains(known, key.Value) {
			return nil, fmt.Errorf("line %d: unknown key %s in %s, want %s", key.Line, Key(key.Value), where, strings.Join(known, ", "))
		}
		if _, twice := settings[key.Value]; twice {
			return nil, fmt.Errorf("line %d: %s comes twice in %s", key.Line, key.Value, where)
		}
		settings[key.Value] = Setting{Key: key.Value, Line: key.Line, Value: Resolve(value)}
	}
	return settings, nil
}

// Resolve returns what an alias stands for. The alias may be part of it: whoever goes on from there must not follow aliases to any depth.
func Resolve(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		return node.Alias
	}
	return node
}

// IsEmpty says whether the setting is not there, or there is nothing behind its key.
func (s Setting) IsEmpty() bool { return s.Value == nil || s.Value.Tag == "!!null" }

// Text returns the only value of the setting.
func (s Setting) Text() (string, error) {
	if s.IsEmpty() || s.Value.Kind != yaml.ScalarNode {
		return "", fmt.Errorf("line %d: %s wants just one value behind it", s.Line, s.Key)
	}
	return s.Value.Value, nil
}

// Texts returns the only value of the setting, or those of a list.
func (s Setting) Texts() ([]string, error) {
	if s.Value.Kind != yaml.SequenceNode {
		text, err := s.Text()
		return []string{text}, err
	}
	texts := make([]string, 0, len(s.Value.Content))
	for _, element := range s.Value.Content {
		text, err := Setting{Key: "an element of " + s.Key, Line: element.Line, Value: Resolve(element)}.Text()
		if err != nil {
			return nil, err
		}
		texts = append(texts, text)
	}
	return texts, nil
}

// Elements returns the elements of the list that the setting is; none if it is empty. What says what an element is like, for errors.
func (s Setting) Elements(what string) ([]*yaml.Node, error) {
	if s.IsEmpty() {
		return nil, nil
	}
	if s.Value.Kind != yaml.SequenceNode {
		return nil, fmt.Errorf("line %d: %s is a list, %s", s.Line, s.Key, what)
	}
	return s.Value.Content, nil
}
