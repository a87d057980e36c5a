package relaytest_test

import (
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pushrelay/internal/agent"
	"pushrelay/internal/relay"
	"pushrelay/internal/relayapi"
	"pushrelay/internal/relaytest"
)

// TestDataDirsInTheReference: what both programs leave in their data dirs is in the reference by its name, but for the files within the two logs and
// within an identity's directory, whose own names are digests and numbers.
func TestDataDirsInTheReference(t *testing.T) {
	opts := relaytest.Options(t)
	r := relaytest.Start(t, opts)
	dataDir := filepath.Join(t.TempDir(), "data")
	token := tokenOf(t, r, opts, relayapi.NewToken{Name: "site-1"})
	if _, err := agent.Enroll(t.Context(), agent.EnrollOptions{Token: token, DataDir: dataDir}); err != nil {
		t.Fatal(err)
	}
	a := relaytest.StartEnrolledAgent(t, func(o *agent.Options) { o.DataDir = dataDir })
	r.WaitFor(t, a, "site-1")
	status, body := relaytest.Do(t, http.MethodPut, a.URL+"/metrics/job/backup", "size 42\n")
	wantStatus(t, "a push", status, body, http.StatusOK)
	if _, _, err := (relay.Agents{DataDir: opts.DataDir}).Revoke(t.Context(), "site-1", relayapi.Revoke{}); err != nil {
		t.Fatal(err)
	}

	page, err := os.ReadFile(filepath.FromSlash("../../docs/reference/data-dirs.md"))
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, dir := range []string{opts.DataDir, dataDir} {
		err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || path == dir {
				return err
			}
			seen++
			name := strings.TrimSuffix(entry.Name(), ".tmp") // which is just being written
			if filepath.Base(filepath.Dir(path)) == "identity" && entry.IsDir() {
				name = "identity/"
			}
			if !strings.Contains(string(page), name) {
				t.Errorf("docs/reference/data-dirs.md does not name %s", path)
			}
			if name == "store" || name == "spool" {
				return filepath.SkipDir
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if seen < 15 {
		t.Errorf("only %d files were seen", seen)
	}
}
