package deploytest_test

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// programs is the folder of the programs, built from this checkout.
var programs string

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler)) //nolint:forbidigo // Helm logs there each time that it follows a link in a chart
	dir, err := os.MkdirTemp("", "deploytest-")
	if err == nil {
		var out []byte
		out, err = exec.Command("go", "build", "-C", "../..", "-o", dir+string(filepath.Separator), "./cmd/relay-server", "./cmd/relay-agent").CombinedOutput()
		if err != nil {
			err = fmt.Errorf("building the programs: %w\n%s", err, out)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	programs = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// program runs one of ours and returns what it prints.
func program(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), filepath.Join(programs, name), args...).CombinedOutput()
	return string(out), err
}

// checkArgs fails unless a program knows all that it is started with.
func checkArgs(t *testing.T, name string, args []string) {
	t.Helper()
	if out, err := program(t, name, append(slices.Clip(args), "--help")...); err != nil {
		t.Errorf("%s does not take %q: %v\n%s", name, args, err, out)
	}
}

// checkConfig fails unless a program takes a configuration, with nothing to warn of but whose files are missing here.
func checkConfig(t *testing.T, name, content string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.yml")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := program(t, name, "check-config", file); err != nil || strings.Contains(out, "warning") {
		t.Errorf("%s check-config: %v\n%s\n%s", name, err, out, content)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
