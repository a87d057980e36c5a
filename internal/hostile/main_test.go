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

// relayServer is the program under test, built once from the checkout.
var relayServer string

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
	relayServer = filepath.Join(dir, "relay-server")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", relayServer, "./cmd/relay-server")
	build.Dir = filepath.Join("..", "..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "hostile: building the relay: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}
