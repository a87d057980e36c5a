package renewal_test

import (
	"os"
	"path/filepath"
	"testing"
)

// makeReadOnly has the next certificate not be written, also for root: what is replaced is made under a name that is taken by a directory.
func makeReadOnly(t *testing.T, dir string, full bool) {
	t.Helper()
	blocker := filepath.Join(dir, "agent.pem.tmp", "x")
	var err error
	if full {
		err = os.MkdirAll(blocker, 0o700)
	} else {
		err = os.RemoveAll(filepath.Dir(blocker))
	}
	if err != nil {
		t.Fatal(err)
	}
}
