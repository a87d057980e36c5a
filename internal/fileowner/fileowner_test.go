//go:build unix

package fileowner_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"pushrelay/internal/fileowner"
	"pushrelay/internal/need"
)

// Users that are not root. The first two may not exist.
const alice, bob = 61001, 61002

func needsRoot(t *testing.T) {
	t.Helper()
	need.Root(t, "files of several users are made")
}

// place makes things in a directory that everybody may pass through.
type place struct {
	t   *testing.T
	dir string
}

func newPlace(t *testing.T) place {
	t.Helper()
	return place{t, t.TempDir()}
}

func (p place) path(name string) string { return filepath.Join(p.dir, name) }

func (p place) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p place) file(name string, owner int) string {
	p.t.Helper()
	p.must(os.WriteFile(p.path(name), []byte("the content of "+name), 0o600))
	p.must(os.Lchown(p.path(name), owner, owner))
	return p.path(name)
}

func (p place) link(name, to string, owner int) string {
	p.t.Helper()
	p.must(os.Symlink(to, p.path(name)))
	p.must(os.Lchown(p.path(name), owner, owner))
	return p.path(name)
}

func (p place) mkdir(name string, owner int, mode os.FileMode) string {
	p.t.Helper()
	p.must(os.MkdirAll(p.path(name), 0o755))
	p.must(os.Chown(p.path(name), owner, owner))
	p.must(os.Chmod(p.path(name), mode))
	return p.path(name)
}

// TestLinksAreFollowedByTheirOwner: a link is followed if root made it or the owner of what it leads to, and so is one on the way.
func TestLinksAreFollowedByTheirOwner(t *testing.T) {
	needsRoot(t)
	p := newPlace(t)
	p.mkdir("home", alice, 0o700)
	p.mkdir("root", 0, 0o700)
	secret := p.file("root/secret", 0)
	own := p.file("home/own", alice)
	p.file("home/bobs", bob)
	p.link("home/up", "../root", alice)
	for _, c := range []struct {
		name, path, content string // the content is empty if the link is refused
	}{
		{"no link", own, "home/own"},
		{"root's own file", secret, "root/secret"},
		{"one owner", p.link("a", own, alice), "home/own"},
		{"one owner, relative", p.link("b", "home/own", alice), "home/own"},
		{"root made it", p.link("c", own, 0), "home/own"},
		{"root made it, to root's", p.link("d", "./home/../root/secret", 0), "root/secret"},
		{"to a file of root", p.link("e", secret, alice), ""},
		{"to a file of another user", p.link("f", "home/bobs", alice), ""},
		{"root's, to a link of somebody else", p.link("g", "e", 0), ""},
		{"somebody's, to one of root", p.link("h", "d", alice), ""},
		{"a directory on the way is a link of somebody else", p.path("home/up/secret"), ""},
		{"root's link leads over a directory that is one", p.link("i", "home/up/secret", 0), ""},
		{"two of one owner", p.link("j", "b", alice), "home/own"},
	} {
		content, err := fileowner.ReadFile(c.path)
		refused, ok := errors.AsType[*fileowner.LinkError](err)
		switch {
		case c.content == "" && !ok:
			t.Errorf("%s: %q, %v, want that it is refused", c.name, content, err)
		case c.content != "" && (err != nil || string(content) != "the content of "+c.content):
			t.Errorf("%s: %q, %v, want the content of %s", c.name, content, err, c.content)
		case ok && (!strings.Contains(err.Error(), refused.Link) || !strings.Contains(err.Error(), "user 61001") || strings.Contains(err.Error(), "content")):
			t.Errorf("%s: the error is %v", c.name, err)
		}
	}
}

// TestNamesInADirectory: what is opened by its name in an open directory is in that directory, whatever becomes of its path.
func TestNamesInADirectory(t *testing.T) {
	needsRoot(t)
	p := newPlace(t)
	p.mkdir("texts", alice, 0o755)
	p.file("texts/x.prom", alice)
	p.link("texts/y.prom", "x.prom", alice)
	p.mkdir("root", 0, 0o700)
	p.file("root/x.prom", 0)
	dir, err := fileowner.OpenDir(p.path("texts"))
	p.must(err)
	defer dir.Close()
	p.must(os.Rename(p.path("texts"), p.path("away")))
	p.link("texts", "root", alice)
	for _, name := range []string{"x.prom", "y.prom", "./x.prom", "../away/x.prom"} {
		f, err := fileowner.OpenIn(dir, name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if content, err := io.ReadAll(f); string(content) != "the content of texts/x.prom" {
			t.Errorf("%s: %q, %v", name, content, err)
		}
		f.Close()
	}
	_, err = fileowner.OpenDir(p.path("texts"))
	if _, ok := errors.AsType[*fileowner.LinkError](err); !ok {
		t.Errorf("the directory that is a link now: %v", err)
	}
}

// TestOnlyFilesAreOpened: neither directories nor devices nor pipes nor circles, and what is not there is called that.
func TestOnlyFilesAreOpened(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.must(os.Symlink("circle", p.path("circle")))
	p.must(os.Symlink("nowhere", p.path("dangling")))
	for path, want := range map[string]error{
		p.dir: fileowner.ErrIsDirectory, "/": fileowner.ErrIsDirectory, "..": fileowner.ErrIsDirectory, "/dev/null": fileowner.ErrNotRegular,
		p.path("nothing"): os.ErrNotExist, p.path("dangling"): os.ErrNotExist, p.path("nothing/x"): os.ErrNotExist, "": fileowner.ErrIsDirectory,
	} {
		if _, err := fileowner.ReadFile(path); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", path, err, want)
		}
	}
	if _, err := fileowner.ReadFile(p.path("circle")); err == nil || !strings.Contains(err.Error(), "too many levels") {
		t.Errorf("a link to itself: %v", err)
	}
}

// TestExchangedLinks: what is exchanged without end while it is opened is refused or gives what may be read, never the secret.
func TestExchangedLinks(t *testing.T) {
	needsRoot(t)
	p := newPlace(t)
	p.mkdir("root", 0, 0o700)
	p.file("root/x", 0)
	p.mkdir("home", alice, 0o755)
	p.mkdir("home/d", alice, 0o755)
	p.file("home/d/x", alice)
	p.link("home/evil", "../root", alice)
	p.link("home/good", "d", 0) // made by root, in a directory of somebody else
	p.link("home/way", "d", alice)
	// Every entry of the file's owner can take the place of every other one.
	stop := make(chan struct{})
	var exchanging sync.WaitGroup
	exchanging.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			from := []string{"home/evil", "home/good"}[i%2]
			if err := errors.Join(os.Rename(p.path(from), p.path("home/aside")), os.Rename(p.path("home/way"), p.path(from)), os.Rename(p.path("home/aside"), p.path("home/way"))); err != nil {
				t.Error(err)
				return
			}
		}
	})
	read := 0
	for range 20_000 {
		content, err := fileowner.ReadFile(p.path("home/way/x"))
		if err == nil {
			read++
		}
		if strings.Contains(string(content), "root") {
			t.Fatalf("read %q", content)
		}
	}
	close(stop)
	exchanging.Wait()
	if read == 0 {
		t.Error("it was never read")
	}
}

// TestExposed: who may write to a file, or put another one in its place.
func TestExposed(t *testing.T) {
	needsRoot(t)
	p := newPlace(t)
	mode := func(name string, mode os.FileMode) string {
		p.must(os.Chmod(p.path(name), mode))
		return p.path(name)
	}
	p.mkdir("good", 0, 0o755)
	p.file("good/own", 0)
	p.mkdir("open", 0, 0o777)
	p.file("open/own", 0)
	p.mkdir("sticky", 0, 0o777|os.ModeSticky)
	p.file("sticky/own", 0)
	p.mkdir("alices", alice, 0o755)
	p.file("alices/own", 0)
	p.link("alices/link", "../good/own", 0)
	p.file("good/alices", alice)
	p.file("good/world", 0)
	p.file("good/group", 0)
	p.must(os.Chown(p.path("good/group"), 0, bob))
	p.file("good/private", 0)
	for _, c := range []struct{ path, where, who string }{
		{p.path("good/own"), "", ""},
		{p.path("good"), "", ""},
		{p.path("good/missing/deeper"), "", ""},
		{p.path("open/own"), "open", "everybody"},
		{p.path("open/missing"), "open", "everybody"},
		{p.path("sticky/own"), "", ""},
		{p.path("sticky"), "sticky", "everybody"},
		{p.path("alices/own"), "alices", "user 61001, who owns it,"},
		{p.path("alices/link"), "alices", "user 61001, who owns it,"},
		{p.path("good/alices"), "good/alices", "user 61001, who owns it,"},
		{mode("good/world", 0o602), "good/world", "everybody"},
		{mode("good/group", 0o660), "good/group", "group 61002"},
		{mode("good/private", 0o660), "", ""},
	} {
		e := fileowner.Exposed(c.path)
		switch {
		case c.where == "" && e != nil:
			t.Errorf("%s: %s, want nobody", c.path, e)
		case c.where != "" && (e == nil || e.Path != p.path(c.where) || e.Who != c.who || e.Group != strings.HasPrefix(c.who, "group")):
			t.Errorf("%s: %+v, want %s to write to %s", c.path, e, c.who, c.where)
		}
	}
}

// TestCheckOutput: keys are written into directories of root and of whoever runs the command, also by sudo.
func TestCheckOutput(t *testing.T) {
	needsRoot(t)
	p := newPlace(t)
	p.mkdir("alices", alice, 0o755)
	p.mkdir("alices/mine", 0, 0o700)
	p.mkdir("open", 0, 0o777)
	p.mkdir("sticky", 0, 0o777|os.ModeSticky)
	p.mkdir("group", 0, 0o770)
	p.must(os.Chown(p.path("group"), 0, bob))
	p.link("planted", "group", alice)
	good := []string{"", "new/deeper", "sticky", "sticky/new", "group"}
	bad := []string{"alices", "alices/new/deeper", "alices/mine", "open", "open/new", "planted", "planted/new"}
	check := func(dir string, want bool) {
		t.Helper()
		err := fileowner.CheckOutput(p.path(dir))
		if (err == nil) != want {
			t.Errorf("%s: %v", dir, err)
		}
	}
	for _, dir := range good {
		check(dir, true)
	}
	for _, dir := range bad {
		check(dir, false)
	}
	t.Setenv("SUDO_UID", "61001")
	check("alices", true)
	check("alices/new/deeper", true)
	check("open", false)
	t.Setenv("SUDO_UID", "61002")
	check("alices", false)
}
