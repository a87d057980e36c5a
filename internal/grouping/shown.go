package grouping

import (
	"strconv"
	"strings"
)

// CutString takes a key, as [Key.String] writes it, off the beginning of a text, and returns what follows it. Ok is false where the text does not
// begin with a key.
func CutString(text string) (key Key, rest string, ok bool) {
	rest = text
	var labels []Label
	for before := "{"; strings.HasPrefix(rest, before); before = "," {
		var name, value string
		if name, rest, ok = cutName(rest[len(before):]); !ok {
			return Key{}, text, false
		}
		if value, rest, ok = cutQuoted(rest); !ok {
			return Key{}, text, false
		}
		labels = append(labels, Label{Name: name, Value: value})
	}
	rest, ok = strings.CutPrefix(rest, "}")
	key, err := New(labels...)
	if !ok || err != nil || key.String() != text[:len(text)-len(rest)] {
		return Key{}, text, false
	}
	return key, rest, true
}

// cutName takes a name and the sign behind it off a text.
func cutName(text string) (name, rest string, ok bool) {
	if !strings.HasPrefix(text, `"`) {
		return strings.Cut(text, "=")
	}
	if name, rest, ok = cutQuoted(text); !ok {
		return "", text, false
	}
	rest, ok = strings.CutPrefix(rest, "=")
	return name, rest, ok
}

func cutQuoted(text string) (word, rest string, ok bool) {
	quoted, err := strconv.QuotedPrefix(text)
	if err != nil {
		return "", text, false
	}
	word, err = strconv.Unquote(quoted)
	return word, text[len(quoted):], err == nil
}
