package policy

import (
	"fmt"
	"slices"
	"sync"

	"go.yaml.in/yaml/v3"

	"pushrelay/internal/selector"
	"pushrelay/internal/yamldoc"
)

// maxRemembered is how many names a section remembers the rules of: more than there are agents.
const maxRemembered = 1 << 16

// A named is a rule that is about names.
type named interface {
	agentRule | userRule
	// about returns what the names of the rule are, by kind.
	about() names
}

// A section is the rules of one kind, in the order of the file.
type section[R named] struct {
	place string // "policy.yml:3", of its key
	rules []R

	mu    sync.RWMutex
	found map[string]*R // guarded by mu; the rule about whoever was asked about, by Identity.key; nil for none
}

func (s *section[R]) len() int {
	if s == nil {
		return -1
	}
	return len(s.rules)
}

// find returns the first rule that is about who, nil if none is.
func (s *section[R]) find(who Identity) *R {
	key := who.key()
	s.mu.RLock()
	rule, known := s.found[key]
	s.mu.RUnlock()
	if known {
		return rule
	}
	if i := slices.IndexFunc(s.rules, func(r R) bool { return r.about().has(who) }); i >= 0 {
		rule = &s.rules[i]
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.found == nil || len(s.found) >= maxRemembered {
		s.found = map[string]*R{}
	}
	s.found[key] = rule
	return rule
}

// names are whom a rule is about: whoever has one of them.
type names struct {
	agents, users, certificates []pattern
	anonymous                   bool
}

func (n names) has(who Identity) bool {
	switch {
	case who.Agent != "":
		return anyMatches(n.agents, who.Agent)
	case who.isNobody():
		return n.anonymous
	case who.User != "" && anyMatches(n.users, who.User):
		return true
	default:
		return slices.ContainsFunc(who.Certificate, func(name string) bool { return anyMatches(n.certificates, name) })
	}
}

// readSection reads the rules of a section; nil if it is not there.
func readSection[R named](base string, from yamldoc.Setting, read func(place string, element *yaml.Node) (R, error)) (*section[R], error) {
	if from.Value == nil {
		return nil, nil
	}
	elements, err := from.Elements("each element of which says whom it is about and what they may")
	if err != nil {
		return nil, err
	}
	if len(elements) > MaxRules {
		return nil, fmt.Errorf("line %d: there are %d rules, want at most %d: a rule may have a list of names, and names may have stars", elements[MaxRules].Line, len(elements), MaxRules)
	}
	s := &section[R]{place: placeOf(base, from.Line)}
	var settled settled
	for _, element := range elements {
		rule, err := read(placeOf(base, element.Line), element)
		if err == nil {
			err = settled.add(rule.about(), element.Line)
		}
		if err != nil {
			return nil, err
		}
		s.rules = append(s.rules, rule)
	}
	return s, nil
}

func placeOf(base string, line int) string { return fmt.Sprintf("%s:%d", base, line) }

// settled are the names of the rules up to one, by which later ones are found that nobody would ever look at.
type settled struct {
	kinds [3]settledNames
	count int
	// anonymous is the line of the rule about those without a name; 0 for none.
	anonymous int
}

// settledNames are those of one kind, by line.
type settledNames struct {
	whole map[pattern]int
	stars []settledPattern
}

type settledPattern struct {
	pattern pattern
	line    int
}

// add adds the names of a rule, unless an earlier rule settles one of them: the first one counts, and this one would be ignored.
func (s *settled) add(n names, line int) error {
	for kind, patterns := range [...][]pattern{n.agents, n.users, n.certificates} {
		if s.count += len(patterns); s.count > MaxPatterns {
			return fmt.Errorf("line %d: the rules up to here have more than %d names", line, MaxPatterns)
		}
		for _, p := range patterns {
			if earlier := s.kinds[kind].line(p); earlier > 0 {
				return fmt.Errorf("line %d: what holds of %q says the rule in line %d already, and the first one counts: put this one before it, or leave the name out", line, string(p), earlier)
			}
		}
		for _, p := range patterns {
			s.kinds[kind].add(p, line)
		}
	}
	if n.anonymous && s.anonymous > 0 {
		return fmt.Errorf("line %d: what holds of those without a name says the rule in line %d already, and the first one counts", line, s.anonymous)
	}
	if n.anonymous {
		s.anonymous = line
	}
	return nil
}

// line returns that of the rule which settles the pattern; 0 if none does.
func (s *settledNames) line(p pattern) int {
	if line, found := s.whole[p]; found {
		return line
	}
	for _, earlier := range s.stars {
		if earlier.pattern.covers(p) {
			return earlier.line
		}
	}
	return 0
}

func (s *settledNames) add(p pattern, line int) {
	if s.whole == nil {
		s.whole = map[pattern]int{}
	}
	s.whole[p] = line
	if p.hasStar() {
		s.stars = append(s.stars, settledPattern{p, line})
	}
}

// readRule returns the settings of a rule.
func readRule(element *yaml.Node, what string, known ...string) (map[string]yamldoc.Setting, error) {
	mapping := yamldoc.Resolve(element)
	if mapping.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("line %d: %s is a mapping that begins with %s", element.Line, what, known[0])
	}
	return yamldoc.Settings(mapping, what, known...)
}

// patternsOf reads one name or a list of them; none if the setting is not there.
func patternsOf(s yamldoc.Setting) ([]pattern, error) {
	if s.Value == nil {
		return nil, nil
	}
	texts, err := s.Texts()
	if err != nil {
		return nil, err
	}
	patterns := make([]pattern, 0, len(texts))
	for _, text := range texts {
		p, err := parsePattern(text)
		if err != nil {
			return nil, fmt.Errorf("line %d: %s: %w", s.Line, s.Key, err)
		}
		patterns = append(patterns, p)
	}
	return patterns, nil
}

// selectorOf reads one selector or a list of them; nil, which allows nothing, if the setting is not there or its list is empty.
func selectorOf(s yamldoc.Setting) (*selector.Selector, error) {
	if s.Value == nil || s.Value.Kind == yaml.SequenceNode && len(s.Value.Content) == 0 {
		return nil, nil
	}
	texts, err := s.Texts()
	if err != nil {
		return nil, err
	}
	chosen, err := selector.Parse(texts)
	if err != nil {
		return nil, fmt.Errorf("line %d: %s: %w", s.Line, s.Key, err)
	}
	return chosen, nil
}
