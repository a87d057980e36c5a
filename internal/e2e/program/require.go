//go:build linux

package program

import (
	"os"
	"testing"

	"pushrelay/internal/need"
)

// RequireProgram returns the path of a program of Debian's.
func RequireProgram(t testing.TB, path, debianPackage string) string {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		need.Missing(t, "%s is not installed: `make deps` installs %s", path, debianPackage)
	}
	return path
}

// RequireRoot ends a test that does not run as root.
func RequireRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		need.Missing(t, "needs root")
	}
}
