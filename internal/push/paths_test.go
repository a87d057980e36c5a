package push_test

import (
	"testing"

	"pushrelay/internal/push"
)

// TestAmbiguity: a path that cleaning turns into that of another group is refused, one that keeps its meaning is not.
func TestAmbiguity(t *testing.T) {
	const (
		noJob = "job name is required"
		foo   = `label "foo" has an empty value in the path of a push: write it as foo@base64/=`
		dots  = `the path of a push cannot have the segment "..": write the value after NAME@base64`
	)
	tests := []struct{ path, want string }{
		{"/metrics/job/j", ""},
		{"/metrics/job/j/", ""},
		{"/metrics/job/j/foo/bar", ""},
		{"/metrics/job/j/foo/", ""},
		{"/metrics/job/j/foo/bar/", ""},
		{"/metrics/job/j//foo/bar", ""},
		{"/metrics/job/j/foo/bar//a/b", ""},
		{"/metrics/job@base64/eA/l@base64/=", ""},
		{"//metrics/job/j", ""},
		{"/metrics", ""},
		{"/metrics/job", ""},
		{"/metrics/job/", noJob},
		{"/metrics/job//foo/bar", noJob},
		{"/metrics/job@base64//foo/bar", noJob},
		{"/metrics/job/j/foo//bar/x", foo},
		{"/metrics/job/j/foo//", ""},
		{"/metrics/job/j/foo@base64//bar/x", foo},
		{"/metrics/job/j/a/b/foo//bar/x", foo},
		{"/metrics/job/j/foo/..", dots},
		{"/metrics/job/../x", dots},
		{"/metrics/job/j/foo/...", ""},
		{"/other/job//x", ""},
	}
	for _, tt := range tests {
		if got := push.Ambiguity(tt.path); got != tt.want {
			t.Errorf("Ambiguity(%q) = %q, want %q", tt.path, got, tt.want)
		}
	}
}
