//go:build unix

package datadir_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/common/promslog"

	"pushrelay/internal/datadir"
	"pushrelay/internal/fileowner"
	"pushrelay/internal/need"
)

// TestReplaceFileFollowsNothing: what lies under the temporary name or under the file's own is replaced, and where it leads to stays
// as it is.
func TestReplaceFileFollowsNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	victim, file := filepath.Join(dir, "victim"), filepath.Join(dir, "agents.json")
	if err := os.WriteFile(victim, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is a file
		if err := errors.Join(os.Symlink(victim, file+".tmp")); err != nil {
			t.Fatal(err)
		}
		if err := datadir.ReplaceFile(file, []byte("new")); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Remove(file), os.Symlink(victim, file), datadir.ReplaceFile(file, []byte("new"))); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(file)
	if err != nil || string(content) != "new" {
		t.Errorf("the file has %q, %v", content, err)
	}
	if stat, err := os.Lstat(file); err != nil || stat.Mode() != 0o600 {
		t.Errorf("the file is %v, %v", stat.Mode(), err)
	}
	if content, err := os.ReadFile(victim); err != nil || string(content) != "precious" {
		t.Errorf("what the links lead to has %q, %v", content, err)
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) != 2 {
		t.Errorf("%v is left, %v", names, err)
	}
}

// TestLinksInADataDir: a part of a data dir may lie elsewhere by a link of root or its owner, and by nobody else's; such a data dir is
// not given up for memory either.
func TestLinksInADataDir(t *testing.T) {
	need.Root(t, "links of several users are made")
	const alice = 61001
	for _, c := range []struct {
		name             string
		linkOwner, owner int
		good             bool
	}{
		{"root's", 0, alice, true},
		{"its owner's", alice, alice, true},
		{"somebody else's", alice, 0, false},
	} {
		elsewhere, dir := t.TempDir(), t.TempDir()
		link := filepath.Join(dir, "store")
		if err := errors.Join(os.Chown(elsewhere, c.owner, c.owner), os.Symlink(elsewhere, link), os.Lchown(link, c.linkOwner, c.linkOwner)); err != nil {
			t.Fatal(err)
		}
		for _, choice := range []datadir.Choice{datadir.Asked, datadir.ByDefault} {
			for _, path := range []string{dir, link} {
				_, err := datadir.Open(path, choice, promslog.NewNopLogger())
				if _, refused := errors.AsType[*fileowner.LinkError](err); refused == c.good || err != nil && c.good {
					t.Errorf("%s: %v", c.name, err)
				}
			}
		}
	}
}
