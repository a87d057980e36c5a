//go:build linux

package cluster_test

import (
	"os"
	"testing"

	"pushrelay/internal/e2e/faultdisk"
	"pushrelay/internal/e2e/program"
)

func TestMain(m *testing.M) {
	faultdisk.ExecSyncing()
	os.Exit(program.Main(m))
}
