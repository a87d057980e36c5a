package policy

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// maxPatternBytes bounds a pattern; names of agents have at most 253 bytes.
	maxPatternBytes = 1 << 10
	// maxStars bounds the stars of one, and with it what it costs.
	maxStars = 8
)

// A pattern is a name in which each * stands for any text, also for none. Every other character is itself: names have dots, and a pattern
// that lets in others than those that it shows would be found too late.
type pattern string

func parsePattern(text string) (pattern, error) {
	switch {
	case text == "":
		return "", fmt.Errorf("an empty name is nobody's, want one such as site-a or site-*")
	case len(text) > maxPatternBytes:
		return "", fmt.Errorf("a name has %d bytes, want at most %d", len(text), maxPatternBytes)
	case strings.Count(text, "*") > maxStars:
		return "", fmt.Errorf("name %.64q has more than %d stars", text, maxStars)
	case !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl):
		return "", fmt.Errorf("name %.64q has characters that no name has", text)
	}
	return pattern(text), nil
}

// matches says whether the name is one of those that the pattern means.
func (p pattern) matches(name string) bool {
	first, rest, hasStar := strings.Cut(string(p), "*")
	if !hasStar {
		return name == first
	}
	if !strings.HasPrefix(name, first) {
		return false
	}
	name = name[len(first):]
	for {
		part, after, more := strings.Cut(rest, "*")
		if !more {
			return strings.HasSuffix(name, part)
		}
		at := strings.Index(name, part)
		if at < 0 {
			return false
		}
		name, rest = name[at+len(part):], after
	}
}

// covers says whether all names that the other pattern means are meant by this one. No pattern has a star but for any text, so that one which
// takes the other's stars for text takes whatever they stand for.
func (p pattern) covers(other pattern) bool { return p.matches(string(other)) }

func (p pattern) hasStar() bool { return strings.Contains(string(p), "*") }

func anyMatches(patterns []pattern, name string) bool {
	for _, p := range patterns {
		if p.matches(name) {
			return true
		}
	}
	return false
}
