//go:build unix

package identity_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"pushrelay/internal/enroltest"
	"pushrelay/internal/fileowner"
	"pushrelay/internal/identity"
	"pushrelay/internal/need"
)

// TestPlantedLinks: a link of somebody else, in the place of the store or of anything in it, is refused, and nothing behind it is written.
func TestPlantedLinks(t *testing.T) {
	need.Root(t, "links of several users are made")
	const mallory = 61002
	ca := enroltest.NewAuthority(t, "CA")
	for _, part := range []string{".", "pin", "pin/agent.pem"} {
		dir := t.TempDir()
		s := identity.In(dir)
		id := put(t, s, first(t, ca, "site-a", month), "a:1")
		link := map[string]string{".": s.Dir(), "pin": id.Dir(), "pin/agent.pem": id.Files().CertFile}[part]
		elsewhere := filepath.Join(t.TempDir(), "elsewhere")
		if err := errors.Join(os.Rename(link, elsewhere), os.Symlink(elsewhere, link), os.Lchown(link, mallory, mallory)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Load(); !isLink(err) {
			t.Errorf("%s: Load() = %v", part, err)
		}
		if _, err := s.Put(first(t, ca, "site-a", month), []string{"a:1"}, ""); !isLink(err) {
			t.Errorf("%s: Put() = %v", part, err)
		}
	}
}

func isLink(err error) bool {
	_, is := errors.AsType[*fileowner.LinkError](err)
	return is
}

// TestRootGivesAway: what root makes belongs to the owner of the data dir.
func TestRootGivesAway(t *testing.T) {
	need.Root(t, "files are given away")
	const alice = 61001
	dir := t.TempDir()
	if err := os.Chown(dir, alice, alice); err != nil {
		t.Fatal(err)
	}
	s := identity.In(dir)
	id := put(t, s, first(t, enroltest.NewAuthority(t, "CA"), "site-a", month), "a:1")
	for _, path := range []string{s.Dir(), id.Dir(), id.Files().CertFile, id.Files().CAFile, filepath.Join(id.Dir(), "relays.json")} {
		if owner := ownerOf(t, path); owner != alice {
			t.Errorf("%s belongs to %d", path, owner)
		}
	}
}

func ownerOf(t *testing.T, path string) int {
	t.Helper()
	stat, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return int(stat.Sys().(*syscall.Stat_t).Uid)
}
