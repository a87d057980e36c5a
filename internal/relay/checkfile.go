package relay

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"pushrelay/internal/commandline"
	"pushrelay/internal/policy"
	"pushrelay/internal/pushrules"
	"pushrelay/internal/yamldoc"
)

// CheckFile reads a file as the relay would, and says in one line which of its files it is and what is in it. Which it is say its sections; one
// that has none is a configuration file, since a policy file must have some.
func CheckFile(file string) (string, error) {
	text, err := yamldoc.Read(file, max(pushrules.MaxBytes, policy.MaxBytes))
	if err != nil {
		return "", fmt.Errorf("reading the file: %w", err)
	}
	sections := sectionsOf(text)
	ofPolicy := slices.Contains(sections, policy.AgentsKey) || slices.Contains(sections, policy.UsersKey)
	if ofPolicy && slices.Contains(sections, pushrules.Key) {
		return "", fmt.Errorf("%s has sections of two files: %s belongs into that of --config.file, %s and %s into that of --policy.file", file, pushrules.Key, policy.AgentsKey, policy.UsersKey)
	}
	if !ofPolicy {
		rules, err := pushrules.Parse(file, text)
		if err != nil && len(sections) > 0 && !slices.Contains(sections, pushrules.Key) {
			err = fmt.Errorf("%w; a file for --policy.file has %s or %s", err, policy.AgentsKey, policy.UsersKey)
		}
		return "for --config.file: " + commandline.Count(len(rules), "push rule"), err
	}
	p, err := policy.Parse(file, text)
	if err != nil {
		return "", err
	}
	agents, users := p.Rules()
	return fmt.Sprintf("for --policy.file: %s, %s", rulesText(agents, policy.AgentsKey), rulesText(users, policy.UsersKey)), nil
}

// rulesText says how many rules a section has, and what it means that there is none.
func rulesText(n int, section string) string {
	switch n {
	case -1:
		return "no section " + section + ", which forbids them nothing"
	case 0:
		return "no rules for " + section + ", which allows them nothing"
	default:
		return commandline.Count(n, "rule") + " for " + section
	}
}

// sectionsOf returns the keys of a text that is one mapping; none of any other, of which the file's own reader tells.
func sectionsOf(text []byte) (keys []string) {
	root, err := yamldoc.Parse(text)
	if root == nil || err != nil || root.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		keys = append(keys, strings.TrimSpace(root.Content[i].Value))
	}
	return keys
}
