//go:build linux && earlier

package program

import (
	"os"
	"path/filepath"
	"testing"
)

// earlierVariable names the folder with the programs of an earlier release.
const earlierVariable = "EARLIER_PROGRAMS"

// Earlier returns the programs of an earlier release, which scripts/earlier.sh builds.
func Earlier(t testing.TB) (relayServer, relayAgent string) {
	t.Helper()
	dir := os.Getenv(earlierVariable)
	if dir == "" {
		t.Fatalf("%s is not set: run `make earlier`", earlierVariable)
	}
	return filepath.Join(dir, "relay-server"), filepath.Join(dir, "relay-agent")
}
