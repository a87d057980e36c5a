package yamldoc

import (
	"regexp"
	"strconv"
	"strings"
)

// What errors of the library quote: values, of which up to ten bytes are told, names of anchors, and keys. A password becomes an anchor where it
// begins with an asterisk and has no quotes, and part of a key where no blank follows the colon.
var (
	unmarshalledRE = regexp.MustCompile("(?s)(cannot unmarshal \\S+) `.{0,10}` into ")
	decodedRE      = regexp.MustCompile("(?s)(cannot decode \\S+) `.*` as a ")
	anchorRE       = regexp.MustCompile(`(?s)unknown anchor '.*' referenced`)
	mapKeyRE       = regexp.MustCompile(`(?s)(invalid map key): .*`)
	fieldRE        = regexp.MustCompile(`(?s)(line [0-9]+: )field (.*?) ((?:not found|already set) in type )`)
)

// Conceal takes what may be a secret out of the text of an error of the libraries for YAML: values, and of keys what is no word. The line and what
// was wanted there stay.
func Conceal(text string) string {
	text = unmarshalledRE.ReplaceAllString(text, "$1 into ")
	text = decodedRE.ReplaceAllString(text, "$1 as a ")
	text = anchorRE.ReplaceAllString(text, "a value that begins with * stands for another one, which is not there: put it in quotes if it is none of these")
	text = mapKeyRE.ReplaceAllString(text, "$1")
	return fieldRE.ReplaceAllStringFunc(text, func(found string) string {
		part := fieldRE.FindStringSubmatch(found)
		return part[1] + "field " + Key(part[2]) + " " + part[3]
	})
}

// Key returns a key in quotes as errors may tell it: as far as it is a word. Where a colon without a blank behind it is the reason why it is longer,
// that is said.
func Key(key string) string {
	end := strings.IndexFunc(key, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '-'
	})
	switch {
	case end < 0:
		return strconv.Quote(key)
	case key[end] == ':':
		return strconv.Quote(key[:end]+"…") + " (a blank belongs after its colon)"
	default:
		return strconv.Quote(key[:end] + "…")
	}
}
