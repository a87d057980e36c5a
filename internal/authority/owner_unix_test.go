//go:build unix

package authority_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"pushrelay/internal/authority"
	"pushrelay/internal/need"
)

// Root runs the commands beside a relay that runs as another user, who must be able to read all of it.
func TestRootLeavesFilesToTheOwnerOfTheDirectory(t *testing.T) {
	need.Root(t, "files are given away")
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
	t.Setenv("SUDO_UID", "12345") // to somebody else keys are not given
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

// TestKeysAreNotWrittenForOthers: root writes no key where somebody else could take it, who would otherwise even be given it. Nothing
// is left behind.
func TestKeysAreNotWrittenForOthers(t *testing.T) {
	need.Root(t, "there are two users")
	const alice = 61001
	_, ca := newAuthority(t)
	issued, err := ca.IssueAgent("a")
	if err != nil {
		t.Fatal(err)
	}
	home, elsewhere, tmp := t.TempDir(), t.TempDir(), t.TempDir()
	open, link := filepath.Join(home, "open"), filepath.Join(home, "link")
	err = errors.Join(os.Mkdir(open, 0o700), os.Chmod(open, 0o777), os.Symlink(elsewhere, link), os.Lchown(link, alice, alice), os.Chown(home, alice, alice), os.Chmod(tmp, 0o777))
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{home, filepath.Join(home, "new", "deeper"), open, link, filepath.Join(link, "new"), tmp, filepath.Join(tmp, "new")} {
		err := authority.WriteIssued(dir, "agent", issued)
		if err == nil || !strings.Contains(err.Error(), home) && !strings.Contains(err.Error(), tmp) {
			t.Errorf("WriteIssued(%s) = %v, want that it is refused and where that lies", dir, err)
		}
	}
	for dir, want := range map[string]int{home: 2, elsewhere: 0, tmp: 0, open: 0} {
		if left, err := os.ReadDir(dir); err != nil || len(left) != want {
			t.Errorf("%s has %v, %v", dir, left, err)
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
