// Package selector picks groups by their grouping labels, with the words of Prometheus: {job="backup",team=~"a|b"}.
//
// It promises that what it takes for a selector is what Prometheus does, since Prometheus' own parser and matchers read it, and that
// neither reading nor applying one costs more than its bounds allow, whoever wrote it. It knows nothing of stores and HTTP. Start
// reading at [Parse].
package selector

import (
	"errors"
	"fmt"
	"regexp/syntax"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/strutil"

	"pushrelay/internal/grouping"
)

// Parameter is what selectors are called in a query; it comes once for each.
const Parameter = "match[]"

// What one question may ask.
const (
	// MaxSelectors is how many selectors there may be at once.
	MaxSelectors = 32
	// MaxBytes bounds the texts of all of them together.
	MaxBytes = 4 << 10
	// MaxRegexp bounds the regular expressions of all of them together, in characters and classes with what is repeated {n} times
	// written out. Those that are mere lists of texts, such as a|b|c, are looked up and count nothing.
	MaxRegexp = 2000

	// maxCompiled bounds what is compiled at all, in the same measure: what is no more than texts of MaxBytes always passes.
	maxCompiled = 2 * MaxBytes
)

// A Selector says which groups are meant: those that one of its alternatives matches. The zero Selector matches none. It is immutable.
type Selector struct {
	alternatives []alternative
}

// An alternative is what all of its matchers match.
type alternative struct {
	matchers []*labels.Matcher
	finders  []grouping.Finder // of the label of each
	// part is in the canonical form of every key that is matched: looking for it is faster than taking keys apart, and few have it.
	part string
}

// Parse reads selectors, each as Prometheus writes them; a group is meant if any of them matches it. There must be one at least, and
// none without a matcher. A label that a group does not have, and one with an empty value, are the same: empty. The text of an error says what to do
// and can be shown to whoever wrote the selectors; it quotes the one that it is about.
func Parse(texts []string) (*Selector, error) {
	if len(texts) == 0 {
		return nil, errors.New(`there is no selector, want one such as {job="backup"}`)
	}
	if len(texts) > MaxSelectors {
		return nil, fmt.Errorf("there are %d selectors, want at most %d: use a regular expression such as {job=~\"a|b\"}, or split them", len(texts), MaxSelectors)
	}
	size := 0
	for _, text := range texts {
		size += len(text)
	}
	if size > MaxBytes {
		return nil, fmt.Errorf("the selectors have %d bytes, want at most %d together: split them", size, MaxBytes)
	}
	read := parser.NewParser(parser.Options{})
	s := &Selector{}
	compiled, cost := 0, 0
	for _, text := range texts {
		if compiled += sizeOfAll(text); compiled > maxCompiled {
			return nil, tooLarge(text, compiled)
		}
		matchers, err := read.ParseMetricSelector(text)
		if err != nil {
			return nil, fmt.Errorf("selector %q cannot be read, want one such as {job=\"backup\"}: %w", text, err)
		}
		if len(matchers) == 0 {
			return nil, fmt.Errorf("selector %q has no matcher; {job=~\".+\"} is all groups", text)
		}
		for _, m := range matchers {
			if m.Name == model.MetricNameLabel {
				return nil, fmt.Errorf("selector %q names a metric: groups are selected, and by their grouping labels, such as {job=\"backup\"}", text)
			}
			cost += costOf(m)
		}
		if cost > MaxRegexp {
			return nil, tooLarge(text, cost)
		}
		s.alternatives = append(s.alternatives, newAlternative(matchers))
	}
	return s, nil
}

// newAlternative returns an alternative. Its part is the longest of the values that must be just so.
func newAlternative(matchers []*labels.Matcher) alternative {
	a := alternative{matchers: matchers}
	for _, m := range matchers {
		a.finders = append(a.finders, grouping.NewFinder(m.Name))
		if m.Type == labels.MatchEqual && m.Value != "" && len(m.Value) > len(a.part) {
			a.part = m.Value
		}
	}
	return a
}

// String returns the selector as Prometheus writes it; several with " or " between them.
func (s *Selector) String() string {
	var texts []string
	for i := range s.alternatives {
		texts = append(texts, textOf(s.alternatives[i].matchers))
	}
	return strings.Join(texts, " or ")
}

// Matches says whether the group of that key is meant.
func (s *Selector) Matches(key grouping.Key) bool {
	for i := range s.alternatives {
		if s.alternatives[i].matches(key) {
			return true
		}
	}
	return false
}

func (a *alternative) matches(key grouping.Key) bool {
	if a.part != "" && !strings.Contains(key.Canonical(), a.part) {
		return false
	}
	for i, m := range a.matchers {
		if !m.Matches(a.finders[i].In(key)) {
			return false
		}
	}
	return true
}

// CheckSpecific returns an error if an alternative would match a group that has none of the labels which it names, as {team!="a"} does,
// or {taem!="a"}. It is for what cannot be taken back. Prometheus asks the same of its own selectors.
func (s *Selector) CheckSpecific() error {
	for i := range s.alternatives {
		if a := &s.alternatives[i]; a.matches(grouping.Key{}) {
			return fmt.Errorf("selector %s also matches groups that have none of its labels: add what they must have, such as job=~\".+\" if all of them are meant", textOf(a.matchers))
		}
	}
	return nil
}

func textOf(matchers []*labels.Matcher) string {
	text := []byte("{")
	for i, m := range matchers {
		if i > 0 {
			text = append(text, ',')
		}
		text = append(text, m.String()...)
	}
	return string(append(text, '}'))
}

func tooLarge(text string, size int) error {
	return fmt.Errorf("the regular expressions up to selector %q are too large (%d, want at most %d; what is repeated {n} times counts n times): use shorter ones", text, size, MaxRegexp)
}

// sizeOfAll returns the size of all regular expressions of a selector that was not read yet, since reading it compiles them. What cannot be read
// counts nothing: the parser tells of it.
func sizeOfAll(text string) int {
	size := 0
	lexer := parser.Lex(text)
	var item, before parser.Item
	for lexer.NextItem(&item); item.Typ != parser.EOF && item.Typ != parser.ERROR; lexer.NextItem(&item) {
		if item.Typ == parser.STRING && (before.Typ == parser.EQL_REGEX || before.Typ == parser.NEQ_REGEX) {
			if expression, err := strutil.Unquote(item.Val); err == nil {
				size += sizeOf(expression)
			}
		}
		before = item
	}
	return size
}

// costOf returns what a matcher counts towards MaxRegexp.
func costOf(m *labels.Matcher) int {
	if m.Type != labels.MatchRegexp && m.Type != labels.MatchNotRegexp || len(m.SetMatches()) > 0 {
		return 0
	}
	return sizeOf(m.Value)
}

// sizeOf counts the characters and classes of a regular expression with its repetitions written out; 0 if it is none.
func sizeOf(expression string) int {
	re, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return 0
	}
	return sizeOfTree(re)
}

// sizeOfTree is sizeOf. The syntax bounds how repetitions multiply, at 1000.
func sizeOfTree(re *syntax.Regexp) int {
	size := 1
	if re.Op == syntax.OpLiteral {
		size = len(re.Rune)
	}
	for _, sub := range re.Sub {
		size += sizeOfTree(sub)
	}
	if re.Op == syntax.OpRepeat {
		size *= max(re.Max, re.Min, 1)
	}
	return size
}
