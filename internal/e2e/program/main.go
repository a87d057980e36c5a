//go:build linux

package program

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// root is that of the repository, as an absolute path: tests run in the folder of their package, which is three below it.
func root() string {
	dir, err := filepath.Abs("../../..")
	if err != nil {
		panic(err) // the working directory is gone
	}
	return dir
}

// folder has the programs under test.
func folder() string { return filepath.Join(root(), "bin", "e2e") }

// RelayServer is the relay's program.
func RelayServer() string { return filepath.Join(folder(), "relay-server") }

// RelayAgent is the agent's program.
func RelayAgent() string { return filepath.Join(folder(), "relay-agent") }

// Certs is the program that makes certificates for development.
func Certs() string { return filepath.Join(folder(), "certs") }

// Demo is the program of `make demo`.
func Demo() string { return filepath.Join(folder(), "demo") }

// ForAnybody copies a program to where users may run it who have no access to this checkout, and returns its path.
func ForAnybody(t testing.TB, program string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pushrelay-e2e-") //nolint:usetesting // the parent of TempDir lets only its owner in
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	text, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(dir, filepath.Base(program))
	if err := os.WriteFile(copied, text, 0o755); err != nil { //nolint:gosec // it is to be run
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // by anybody
		t.Fatal(err)
	}
	return copied
}

// Main builds the programs and runs the tests of a package; it is to be called by its TestMain, and returns the exit code. With -short nothing runs.
func Main(m *testing.M) int {
	flag.Parse()
	if testing.Short() {
		fmt.Println("skipped with -short: these tests start other programs")
		return 0
	}
	if err := Build(folder(), nil, "./cmd/relay-server", "./cmd/relay-agent", "./certs", "./scripts/demo"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// Build builds programs of this repository into a folder. Packages of tests run side by side, and all want the same programs: one of them builds while
// the others wait, and what is up to date by then go build leaves as it is. The files, by their paths, are written before.
func Build(dir string, files map[string]string, args ...string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(root(), "bin", "e2e.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close() // and with it the lock
	for err = errors.New("not yet"); err != nil; {
		if err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil && !errors.Is(err, syscall.EINTR) {
			return fmt.Errorf("locking %s: %w", lock.Name(), err)
		}
	}
	for name, text := range files {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			return err
		}
	}
	// -buildvcs=false: a checkout that git distrusts is still one to test.
	cmd := exec.Command("go", append([]string{"build", "-buildvcs=false", "-o", dir + string(filepath.Separator)}, args...)...)
	cmd.Dir = root()
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as they are released: with the system's library they take a megabyte more
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building %v: %w\n%s", args, err, out)
	}
	return nil
}

// ProgramsForPeople are those with commands, by their names.
func ProgramsForPeople() map[string]string {
	return map[string]string{"relay-server": RelayServer(), "relay-agent": RelayAgent()}
}
