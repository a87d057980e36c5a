package commandline

import (
	"strings"
	"unicode"
)

// Plain takes what others have worded to one line without the characters that control a terminal.
func Plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}
