// Package need is how tests say that the machine lacks something: they are skipped for a person, with the reason, and fail in CI, where a skip
// would hide that nothing was tested.
package need

import (
	"os"
	"testing"
)

// Missing ends a test that lacks something.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// Root ends a test that does not run as root, which it needs for what is told.
func Root(t testing.TB, what string) {
	t.Helper()
	if os.Geteuid() != 0 {
		Missing(t, "needs root: %s", what)
	}
}
