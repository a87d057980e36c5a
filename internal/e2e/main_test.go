//go:build linux

package e2e_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// programs are the binaries under test, built once from the checkout.
var programs struct{ relayServer, relayAgent, certs, demo string }

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	flag.Parse()
	if address := os.Getenv(targetVariable); address != "" {
		return serveTarget(address) // a test started itself as a target that it can stop and kill
	}
	if testing.Short() {
		fmt.Println("e2e: skipped with -short: these tests start other programs")
		return 0
	}
	dir, err := os.MkdirTemp("", "pushrelay-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	// Some tests run the programs as nobody, who has to get at them.
	if err := os.Chmod(dir, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}

	// -buildvcs=false: a checkout that git distrusts is still one to test.
	build := exec.Command("go", "build", "-buildvcs=false", "-o", dir+string(filepath.Separator), "./cmd/relay-server", "./cmd/relay-agent", "./certs", "./scripts/demo")
	build.Dir = filepath.Join("..", "..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as they are released: with the system's library they take a megabyte more
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "e2e: building the programs: %v\n%s", err, out)
		return 1
	}
	programs.relayServer = filepath.Join(dir, "relay-server")
	programs.relayAgent = filepath.Join(dir, "relay-agent")
	programs.certs = filepath.Join(dir, "certs")
	programs.demo = filepath.Join(dir, "demo")
	return m.Run()
}
