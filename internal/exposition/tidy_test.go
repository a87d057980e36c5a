package exposition_test

import (
	"testing"

	"pushrelay/internal/exposition"
)

// TestTidy: what changes nothing of what is said goes, and nothing else.
func TestTidy(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"empty", "", ""},
		{"nothing but a mark", "\uFEFF", ""},
		{"as it should be", "m 1\n", "m 1\n"},
		{"byte order mark", "\uFEFFm 1\n", "m 1\n"},
		{"only the first one", "\uFEFF\uFEFFm 1\n\uFEFFn 1\n", "\uFEFFm 1\n\uFEFFn 1\n"},
		{"CR LF", "m 1\r\n\r\n# HELP n x\r\nn 1\r\n", "m 1\n\n# HELP n x\nn 1\n"},
		{"CR CR LF", "m 1\r\r\nn 1\r\r\n", "m 1\nn 1\n"},
		{"CR LF but for the last", "m 1\r\nn 1", "m 1\nn 1\n"},
		{"CR at the end", "m 1\r\nn 1\r", "m 1\nn 1\n"},
		{"CR within a line", "m{a=\"\r\"} 1\n", "m{a=\"\r\"} 1\n"},
		{"all of it", "\uFEFFm 1\r\nn 1\r", "m 1\nn 1\n"},
		{"no line feed", "m 1", "m 1\n"},
		{"UTF-16", "\xFF\xFEm\x00", "\xFF\xFEm\x00\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := exposition.Tidy([]byte(tt.text)); string(got) != tt.want {
				t.Errorf("Tidy(%q) = %q, want %q", tt.text, got, tt.want)
			}
		})
	}
}
