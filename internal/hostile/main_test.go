//go:build linux

package hostile_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// relayServer and relayAgent are the programs under test, built once from the checkout.
var relayServer, relayAgent string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	flag.Parse()
	if testing.Short() {
		fmt.Println("hostile: skipped with -short: these tests start other programs")
		return 0
	}
	dir, err := os.MkdirTemp("", "pushrelay-hostile-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "hostile:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	relayServer, relayAgent = filepath.Join(dir, "relay-server"), filepath.Join(dir, "relay-agent")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", dir, "./cmd/relay-server", "./cmd/relay-agent")
	build.Dir = filepath.Join("..", "..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "hostile: building the programs: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}
