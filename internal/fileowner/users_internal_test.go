//go:build unix

package fileowner

import "testing"

// TestMapsAll: a namespace with all users hides none; that of PrivateUsers=yes hides all but root and the own one.
func TestMapsAll(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"         0          0 4294967295\n":                                   true,
		"         0          0          1\n       998        998          1\n": false,
		"         0     100000      65536\n":                                   false,
		"":                                                                     false,
	} {
		if got := mapsAll(text); got != want {
			t.Errorf("mapsAll(%q) = %v", text, got)
		}
	}
}
