//go:build linux

package tunnel_test

import (
	"os"
	"testing"

	"pushrelay/internal/e2e/program"
)

func TestMain(m *testing.M) {
	if address := os.Getenv(targetVariable); address != "" {
		os.Exit(serveTarget(address)) // a test started itself as a target that it can stop and kill
	}
	os.Exit(program.Main(m))
}
