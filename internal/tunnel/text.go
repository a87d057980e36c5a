package tunnel

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxTextBytes bounds what is kept of a text for people that the other side sends.
const MaxTextBytes = 1 << 10

// Text returns what a text of the other side says in one line of at most [MaxTextBytes]: it goes into logs, JSON and pages, and the other
// side may be anybody who has a certificate.
func Text(s string) string { return textOf(s, MaxTextBytes) }

// maxVersionBytes is how much is kept of a version.
const maxVersionBytes = 64

// Version is Text for a version.
func Version(s string) string { return textOf(s, maxVersionBytes) }

func textOf(s string, limit int) string {
	const cut = "…"
	if len(s) > limit {
		s = s[:limit-len(cut)]
		for len(s) > 0 && !utf8.ValidString(s[max(0, len(s)-utf8.UTFMax):]) {
			r, size := utf8.DecodeLastRuneInString(s)
			if r != utf8.RuneError || size > 1 {
				break // What is wrong is further in front, and mended below.
			}
			s = s[:len(s)-1]
		}
		s += cut
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == utf8.RuneError:
			return '?'
		case unicode.IsControl(r) || r == '\u2028' || r == '\u2029':
			return ' '
		default:
			return r
		}
	}, s)
}
