//go:build linux

package docs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestVulncheckSaysWhatItDidNotCheck: without its database govulncheck has found nothing because it looked at nothing. That is no
// failure, and not silence either; a finding and a check that breaks are failures.
func TestVulncheckSaysWhatItDidNotCheck(t *testing.T) {
	t.Parallel()
	const noted = "known vulnerabilities: the database of govulncheck cannot be reached"
	for name, c := range map[string]struct {
		says       string
		exits      string
		fails      bool
		notChecked string
	}{
		"all good":    {"No vulnerabilities found.", "0", false, ""},
		"a finding":   {"Vulnerability #1: GO-2026-0001", "3", true, ""},
		"no database": {"govulncheck: fetching vulnerabilities: Get https://vuln.go.dev: no such host", "1", false, noted},
		"broken":      {"govulncheck: loading packages: no such thing", "1", true, ""},
	} {
		dir := t.TempDir()
		fake, notes := filepath.Join(dir, "go"), filepath.Join(dir, "notes")
		if err := os.WriteFile(fake, []byte("#!/bin/sh\necho '"+c.says+"'\nexit "+c.exits+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(notes, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "bash", "../../../scripts/vulncheck.sh")
		cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "NOT_CHECKED="+notes)
		out, err := cmd.CombinedOutput()
		text, readErr := os.ReadFile(notes)
		if (err != nil) != c.fails || !strings.HasPrefix(string(text), c.notChecked) || (c.notChecked == "") != (len(text) == 0) || !strings.Contains(string(out), c.says) || readErr != nil {
			t.Errorf("%s: %v, noted %q:\n%s", name, err, text, out)
		}
	}
}
