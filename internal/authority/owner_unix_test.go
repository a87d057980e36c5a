//go:build unix

package authority_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"pushrelay/internal/authority"
)

// Root runs the commands beside a relay that runs as another user, who must be able to read all of it.
func TestRootLeavesFilesToTheOwnerOfTheDirectory(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" { // a skip would hide there that nothing was tested
			t.Fatal("needs root, to give files away")
		}
		t.Skip("needs root, to give files away")
	}
	const uid, gid = 12345, 23456
	dataDir := t.TempDir()
	if err := os.Chown(dataDir, uid, gid); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(dataDir, "authority")
	ca, err := authority.OpenOrCreate(dir, authority.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ca.EnsureRelay([]string{"localhost"}); err != nil {
		t.Fatal(err)
	}
	issued, err := ca.IssueAgent("a")
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dataDir, "out", "a")
	if err := authority.WriteIssued(out, "agent", issued); err != nil {
		t.Fatal(err)
	}
	paths := []string{dir, filepath.Dir(out), out}
	for _, d := range []string{dir, out} {
		for name := range listing(t, d) {
			paths = append(paths, filepath.Join(d, name))
		}
	}
	if len(paths) != 3+5+3 {
		t.Fatalf("files: %q", paths)
	}
	for _, path := range paths {
		if gotUID, gotGID := owner(t, path); gotUID != uid || gotGID != gid {
			t.Errorf("%s belongs to %d:%d, want %d:%d", path, gotUID, gotGID, uid, gid)
		}
	}
}

func owner(tb testing.TB, path string) (uid, gid uint32) {
	tb.Helper()
	stat, err := os.Stat(path)
	if err != nil {
		tb.Fatal(err)
	}
	sys := stat.Sys().(*syscall.Stat_t)
	return sys.Uid, sys.Gid
}
