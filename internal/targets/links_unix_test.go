//go:build unix

package targets_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pushrelay/internal/need"
	"pushrelay/internal/targets"
)

// TestPlantedTargetFiles: who may write where a pattern looks cannot have a file shown that they may not read.
func TestPlantedTargetFiles(t *testing.T) {
	need.Root(t, "files of several users are made")
	const alice = 61001
	dir := t.TempDir()
	write := func(name, content string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if err := os.Mkdir(filepath.Join(dir, "targets"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, owner := range map[string]int{"planted.yml": alice, "good.yml": 0} {
		link := filepath.Join(dir, "targets", name)
		if err := os.Symlink(write(name, map[bool]string{true: "root:$6$hunter2\n", false: "- targets: [a:1]\n"}[owner == alice]), link); err != nil {
			t.Fatal(err)
		}
		if err := os.Lchown(link, owner, owner); err != nil {
			t.Fatal(err)
		}
	}
	config := write("agent.yml", "scrape_configs:\n- job_name: j\n  file_sd_configs: [{files: [\"targets/*.yml\"]}]\n")
	checked, err := targets.Check(config)
	if err != nil {
		t.Fatal(err)
	}
	told := strings.Join(checked.BadFiles, "\n")
	if len(checked.Targets) != 1 || len(checked.BadFiles) != 1 || strings.Contains(told, "hunter2") || !strings.Contains(told, "planted.yml") || !strings.Contains(told, "user 61001 made it") {
		t.Errorf("%d targets, bad files:\n%s", len(checked.Targets), told)
	}
}
