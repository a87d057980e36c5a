//go:build linux

package program

import (
	"fmt"
	"strings"
)

// Warned looks for a warning or an error that has all the words.
func Warned(log string, words []string) error {
	for line := range strings.Lines(log) {
		if !IsComplaint(line) {
			continue
		}
		all := true
		for _, word := range words {
			all = all && strings.Contains(strings.ToLower(line), strings.ToLower(word))
		}
		if all {
			return nil
		}
	}
	return fmt.Errorf("no warning with %q in the log:\n%s", words, log)
}

// IsComplaint reports whether a line of a log is a warning or an error.
func IsComplaint(line string) bool {
	upper := strings.ToUpper(line)
	return strings.Contains(upper, "LEVEL=WARN") || strings.Contains(upper, "LEVEL=ERROR")
}
