//go:build unix

package textfile_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pushrelay/internal/need"
	"pushrelay/internal/textfile"
)

// TestPlantedLinks: who may write into a directory cannot have a file pushed, or shown in a fault, that they may not read. Links of
// root and of the file's owner are followed.
func TestPlantedLinks(t *testing.T) {
	need.Root(t, "files of several users are made")
	const alice = 61001
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	b := newBench(t)
	secrets := t.TempDir()
	secret := func(name, content string) string {
		path := filepath.Join(secrets, name)
		must(os.WriteFile(path, []byte(content), 0o600))
		must(os.Chtimes(path, modified, modified))
		return path
	}
	link := func(name, to string, owner int) {
		must(os.Symlink(to, filepath.Join(b.dir, name)))
		must(os.Lchown(filepath.Join(b.dir, name), owner, owner))
	}
	must(os.Chown(b.dir, alice, alice))
	link("metric.prom", secret("metric", "password_is_hunter2 1\n"), alice)
	link("shadow.prom", secret("shadow", "root:$6$hunter2:19000\n"), alice)
	link("good.prom", secret("good", "m 1\n"), 0)
	b.look(`replace {job="node",textfile="good"}`)
	b.write("own", "m 2\n")
	must(os.Lchown(filepath.Join(b.dir, "own"), alice, alice))
	link("own.prom", "own", alice)
	b.look(`replace {job="node",textfile="own"}`) // by itself: files are pushed side by side, in any order
	b.metrics(`
		directory_error{DIR} 0
		error{DIR/good.prom} 0
		error{DIR/metric.prom} 1
		error{DIR/own.prom} 0
		error{DIR/shadow.prom} 1
		files 4
		mtime_seconds{DIR/good.prom} 9.0000000025e+08
		mtime_seconds{DIR/own.prom} 9.0000000025e+08
		waiting_files 0`)
	told := b.log.String()
	for _, want := range []string{"metric.prom", "shadow.prom", "user 61001 made it", "belongs to root", "put a copy in its place"} {
		if !strings.Contains(told, want) {
			t.Errorf("the log does not say %q:\n%s", want, told)
		}
	}
	if strings.Contains(told, "hunter2") {
		t.Errorf("the log shows what is in the file:\n%s", told)
	}

	// What somebody puts in the place of the directory itself is not read either, and deletes nothing.
	b.apply(textfile.Directory{Path: filepath.Join(b.dir, "texts"), Job: "other"}, textfile.Directory{Path: b.dir, Job: "node"})
	secret("x.prom", "password_is_hunter2 1\n")
	link("texts", secrets, alice)
	b.look()
	if told := b.log.String(); !strings.Contains(told, "texts") || strings.Contains(told, "hunter2") {
		t.Errorf("the log has:\n%s", told)
	}
}
