//go:build unix

package targets_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/targets"
)

// TestWhatOthersMayWriteIsToldOf: check, and so start and reload, warn of a configuration that others may write, or a secret in it.
func TestWhatOthersMayWriteIsToldOf(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, content string, mode os.FileMode) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const text = "scrape_configs:\n- job_name: j\n  basic_auth: {username: u, password_file: password}\n  static_configs: [{targets: [\"a:1\"]}]\n"
	secret := file("password", "secret", 0o622)
	const advice = ": take that right away with chown or chmod, or lay it elsewhere"
	warnings := func(config string) []string {
		t.Helper()
		checked, err := targets.Check(config)
		if err != nil {
			t.Fatal(err)
		}
		return checked.Warnings
	}
	want := []string{
		`everybody may write to "` + dir + `/open.yml", and so decides what is in the configuration file` + advice,
		`everybody may write to "` + secret + `", and so decides what is in password_file of job "j"` + advice,
	}
	if diff := cmp.Diff(want, warnings(file("open.yml", text, 0o646))); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
	if err := os.Chmod(secret, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := warnings(file("good.yml", text, 0o644)); !slices.Equal(got, nil) {
		t.Errorf("warnings: %q", got)
	}
}
